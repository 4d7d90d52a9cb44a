package library

import (
	"context"
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/types"
)

const (
	// defaultValidity is 30 days of blocks of a second.
	defaultValidity = 30 * 86400
	// maxKey bounds an idempotency key.
	maxKey = 128
)

// Draft says what to state.
type Draft struct {
	Subjects   []string
	Attributes statement.Attributes
	// ValidBlocks is for how many blocks from now on it holds; 0: the daemon's own setting. One that supersedes others holds
	// at least as long as they would have; one that revokes has no end.
	ValidBlocks uint32
	// Supersedes and Revokes name statements of ours that are held.
	Supersedes, Revokes []statement.ID
	// Receipt ties it to a payment; nil: none.
	Receipt *statement.Receipt
	Schema  types.Hash
	// IdempotencyKey, if given, makes the same statement of the same draft however often it is asked for.
	IdempotencyKey string
}

// hash names what a draft says, apart from its key.
func (d Draft) hash() (types.Hash, error) {
	b, err := statement.EncodeCBOR(statement.Body{Subjects: d.Subjects, Attributes: d.Attributes, Until: types.Height(d.ValidBlocks),
		Supersedes: d.Supersedes, Revokes: d.Revokes, Schema: d.Schema, Receipt: d.Receipt})
	if err != nil {
		return types.Hash{}, fmt.Errorf("%w: %w", ErrDraft, err)
	}
	return types.SHA256(b), nil
}

// keyRecord says which statement a key made, of which draft.
type keyRecord struct {
	ID    types.Hash `cbor:"1,keyasint"`
	Draft types.Hash `cbor:"2,keyasint"`
}

func decodeKey(raw []byte) (r keyRecord, err error) {
	err = statement.DecodeCBOR(raw, &r)
	return r, err
}

type publishRequest struct {
	draft Draft
	done  chan<- published // holds one
}

type published struct {
	s   *statement.Statement
	err error
}

// Publish signs, saves and spreads a statement, in this order. When it fails with ErrStopped or ctx's error the statement may
// have been published all the same: the same key finds it.
func (l *Library) Publish(ctx context.Context, d Draft) (Stored, error) {
	if len(d.IdempotencyKey) > maxKey {
		return Stored{}, fmt.Errorf("%w: idempotency key of %d bytes, at most %d", ErrDraft, len(d.IdempotencyKey), maxKey)
	}
	done := make(chan published, 1)
	select {
	case <-l.stopped:
		return Stored{}, ErrStopped
	default:
	}
	select {
	case l.publish <- publishRequest{d, done}:
	default:
		return Stored{}, fmt.Errorf("%w (%d of at most %d)", ErrBusy, publishQueue, publishQueue)
	}
	select {
	case p := <-done:
		return l.result(p)
	case <-ctx.Done():
		return Stored{}, ctx.Err()
	case <-l.stopped:
		select {
		case p := <-done: // it was answered before
			return l.result(p)
		default:
			return Stored{}, ErrStopped
		}
	}
}

func (l *Library) result(p published) (Stored, error) {
	if p.err != nil {
		return Stored{}, p.err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.stored(p.s), nil
}

// publish makes and adds a statement of a draft, or finds the one that its key made.
func (b *batch) publish(d Draft) published {
	hash, err := d.hash()
	if err != nil {
		return published{err: err}
	}
	if d.IdempotencyKey != "" {
		if p, known := b.again(d.IdempotencyKey, hash); known {
			return p
		}
	}
	body, err := b.body(d)
	if err != nil {
		return published{err: err}
	}
	s, err := statement.Sign(body, b.l.cfg.StatementSecret)
	if err != nil {
		return published{err: fmt.Errorf("%w: %w", ErrDraft, err)}
	}
	if err := b.add(s); errors.Is(err, statement.ErrKnown) {
		s = b.l.held[s.ID] // the same draft within a second
	} else if err != nil {
		return published{err: fmt.Errorf("%w: %w", ErrDraft, err)}
	}
	if d.IdempotencyKey != "" {
		r := keyRecord{ID: types.Hash(s.ID), Draft: hash}
		raw, err := statement.EncodeCBOR(r)
		if err != nil {
			panic(fmt.Sprintf("key record: %v", err)) // plain types
		}
		b.keys[d.IdempotencyKey] = r
		b.writes = append(b.writes, types.Write{Bucket: bucketKey, Key: d.IdempotencyKey, Value: raw})
	}
	return published{s: s}
}

// again finds what a key made before.
func (b *batch) again(key string, draft types.Hash) (p published, known bool) {
	r, ok := b.keys[key]
	if !ok {
		raw, err := b.l.cfg.Store.Get(bucketKey, key)
		if err != nil {
			return published{err: err}, true
		}
		if raw == nil {
			return p, false
		}
		if r, err = decodeKey(raw); err != nil {
			return published{err: fmt.Errorf("%w: key %q: %w", errRecord, key, err)}, true
		}
	}
	if r.Draft != draft {
		return published{err: ErrConflict}, true
	}
	s := b.l.held[statement.ID(r.ID)]
	if s == nil {
		return published{err: fmt.Errorf("%w: it was published as %s and has ended since", ErrNotFound, statement.ID(r.ID))}, true
	}
	return published{s: s}, true
}

// body is a draft with its place in time.
func (b *batch) body(d Draft) (statement.Body, error) {
	l := b.l
	body := l.bodyNow(d.ValidBlocks)
	body.Subjects, body.Attributes, body.Schema, body.Receipt = d.Subjects, d.Attributes, d.Schema, d.Receipt
	body.Supersedes, body.Revokes = d.Supersedes, d.Revokes
	for _, list := range [][]statement.ID{d.Supersedes, d.Revokes} {
		for _, id := range list {
			if old := l.held[id]; old == nil || old.Issuer != l.key {
				return body, fmt.Errorf("%w: %s is no statement of ours that could be replaced or taken back", ErrDraft, id)
			}
		}
	}
	for _, id := range d.Supersedes {
		if until := l.held[id].Until; until == 0 || until > body.Until {
			if body.Until = until; until == 0 {
				break
			}
		}
	}
	if len(d.Revokes) > 0 {
		body.Until = 0
	}
	return body, nil
}

// bodyNow is an empty statement that is valid from now on.
func (l *Library) bodyNow(blocks uint32) statement.Body {
	if blocks == 0 {
		blocks = l.cfg.ValidBlocks
	}
	head, _ := l.cfg.Head()
	body := statement.Body{Ledger: l.cfg.Genesis, Issued: types.Time(l.cfg.Clock().Unix()), From: head.Height}
	if head.Height > 0 {
		body.NotBefore = []types.BlockRef{{Height: head.Height, Hash: head.Hash}}
	}
	if end := uint64(head.Height) + uint64(blocks); end <= 1<<32-1 {
		body.Until = types.Height(end)
	} else {
		body.Until = 1<<32 - 1
	}
	return body
}

// keepLink publishes the statement that ties our keys together: at the first start, when the account becomes known, and
// again in time before it ends. again tells that there is no block yet that it could name.
func (l *Library) keepLink(ctx context.Context) (again bool, err error) {
	if head, ok := l.cfg.Head(); !ok || head.Height == 0 {
		return true, nil
	}
	account := l.cfg.Account()
	b, err := l.change(ctx, func(b *batch) {
		var old []statement.ID
		for _, id := range l.links[l.key] {
			s := l.held[id]
			if !l.set.InForce(id, b.height) {
				continue
			}
			link, err := statement.ParseLink(s)
			same := link.Account == account || account.IsZero() // an account that we knew is not unlearnt
			if err == nil && link.Node == l.self && same && s.Until-b.height > types.Height(l.cfg.ValidBlocks/2) {
				return // as it should be
			}
			if len(old) < statement.MaxRetired {
				old = append(old, s.ID)
			}
		}
		body := l.bodyNow(0)
		body.Supersedes = old
		s, err := statement.NewLink(body, statement.LinkKeys{Statement: l.cfg.StatementSecret, Node: l.cfg.NodeKey, Account: account,
			AccountSecret: l.cfg.AccountSecret})
		if err == nil {
			err = b.add(s)
		}
		if err != nil {
			l.log.Warn("our keys are not linked by a statement; it is tried again", "err", err)
		}
	})
	if err == nil {
		l.announce(ctx, b)
	}
	return false, err
}
