package tower

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/types"
)

func decode(raw []byte, v any) error {
	if err := statement.DecodeCBOR(raw, v); err != nil {
		return fmt.Errorf("%w: %w", errRecord, err)
	}
	return nil
}

// Block looks at what a block did to the contracts that are watched, and publishes what must be. All follows from the store and the chain's state, so
// blocks may be missed: the first one after a start looks at every contract.
func (s *Service) Block(ctx context.Context, b ledger.BlockEvents) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.synced {
		for id := range s.list {
			s.posted[id] = true // act looks at the state
		}
		s.synced = true
	}
	for _, e := range b.Events {
		switch e := e.(type) {
		case ledger.ContractPosted:
			s.look(e.ID)
		case ledger.ContractSettled:
			s.look(e.ID)
		}
	}
	ids := make([]types.ChannelID, 0, len(s.posted))
	for id := range s.posted {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b types.ChannelID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		s.act(ctx, id)
	}
	return s.prune(ctx, b.Height)
}

func (s *Service) look(id types.ChannelID) {
	if _, ours := s.list[id]; ours {
		s.posted[id] = true
	}
}

// act publishes the refund of a contract when an older version is on chain, until the chain shows it.
func (s *Service) act(ctx context.Context, id types.ChannelID) {
	c, err := s.cfg.Chain.Contract(id)
	w := s.list[id]
	switch {
	case errors.Is(err, ledger.ErrNotFound) && s.height() < w.Seen:
		return // the ledger is read anew, and not there yet
	case errors.Is(err, ledger.ErrNotFound) || err == nil && c.Settled != nil:
		s.forget(ctx, id)
		return
	case err != nil:
		s.cfg.Log.Error("a watched contract can't be looked up", "contract", id, "err", err)
		return
	case c.Posted == nil:
		delete(s.posted, id)
		return
	case !(ledger.Refund{Epoch: w.Epoch, Version: w.Version}).After(c.Posted.Epoch, c.Posted.Version):
		return // it is there, or a newer one that we don't have; looked at again when it changes
	}
	if w, err = s.load(id); err == nil {
		err = s.count(ctx, id, &w)
	}
	if errors.Is(err, errActs) {
		s.cfg.Log.Error("a contract is left to its parties", "contract", id, "on chain", c.Posted.Version, "ours", w.Version, "why", err)
		delete(s.posted, id)
		return
	}
	if err == nil {
		err = s.cfg.Spend(w.Refund, fmt.Sprintf("supersede version %d for a client of the watchtower", c.Posted.Version))
	}
	if err != nil {
		s.cfg.Log.Error("a refund could not be published yet; the next block tries again", "contract", id, "err", err)
		return
	}
	s.cfg.Log.Info("publishing a newer version for a client", "contract", id, "on chain", c.Posted.Version, "ours", w.Version)
	if s.cfg.Acted != nil {
		s.cfg.Acted(id, c.Posted.Version, w.Version)
	}
}

var errActs = fmt.Errorf("%d versions of it were published already", maxActs)

// count notes that a version is being published, before it is.
func (s *Service) count(ctx context.Context, id types.ChannelID, w *watched) error {
	if w.Acts > 0 && w.ActEpoch == w.Epoch && w.ActVersion == w.Version {
		return nil
	}
	if w.Acts >= maxActs {
		return errActs
	}
	w.Acts, w.ActEpoch, w.ActVersion = w.Acts+1, w.Epoch, w.Version
	return s.save(ctx, id, *w)
}

// forget drops a contract that is over. A failure costs only the room: the next start tries again.
func (s *Service) forget(ctx context.Context, id types.ChannelID) {
	if err := s.cfg.Store.Commit(ctx, del(BucketWatched, id.String())); err != nil {
		s.cfg.Log.Error("a contract that is over stays in the watchtower's store", "contract", id, "err", err)
		return
	}
	delete(s.list, id)
	delete(s.posted, id)
}

// pruneEvery is after how many blocks the tower looks for contracts whose paid time is over. They are kept for as long again, so that a
// client that pays late finds its place.
const pruneEvery, graceBlocks = 64, 4096

func (s *Service) prune(ctx context.Context, h types.Height) error {
	if h%pruneEvery != 0 {
		return nil
	}
	for _, v := range s.sales {
		if s.cfg.Now() > v.Expires+saleLate {
			if err := s.credit(ctx, v.Client); err != nil {
				return err
			}
		}
	}
	for id, w := range s.list {
		if w.Until != forever && uint64(w.Until)+graceBlocks < uint64(h) {
			s.forget(ctx, id)
		}
	}
	return nil
}

// Watched is a contract that this tower watches, for its owner to see.
type Watched struct {
	Contract       types.ChannelID
	Client         types.NodeID
	Until          types.Height
	Epoch, Version uint32
	// Posted tells whether a version is on chain.
	Posted bool
}

// List lists what is watched, by contract.
func (s *Service) List() []Watched {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Watched, 0, len(s.list))
	for id, w := range s.list {
		out = append(out, Watched{Contract: id, Client: w.Client, Until: w.Until, Epoch: w.Epoch, Version: w.Version, Posted: s.posted[id]})
	}
	slices.SortFunc(out, func(a, b Watched) int { return bytes.Compare(a.Contract[:], b.Contract[:]) })
	return out
}
