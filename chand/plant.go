package chand

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Planting is what Plant writes.
type Planting struct {
	// Seed is the daemon's, Genesis that of its ledger, Account its own.
	Seed    types.Seed
	Genesis types.Hash
	Account types.AccountID
	// Channels that are open, each with a peer of its own, and Payments that were made.
	Channels, Payments int
	// Now is the time of it.
	Now types.Time
}

// plantGroup is how many channels or payments share a commit.
const plantGroup = 2000

// Plant puts channels and payments into the store of a daemon that does not run, as if it had opened and made them. The channels are
// real, signed by both sides, but for their contracts, which are not on the ledger. For measurements of large daemons.
func Plant(ctx context.Context, s Store, p Planting) error {
	next, _, err := load[uint64](s, bucketMeta, metaNextPay)
	if err != nil {
		return err
	}
	next = max(next, 1)
	w := []types.Write{put(bucketMeta, metaNextPay, next+uint64(p.Payments))}
	for i := range p.Channels {
		more, err := p.channel(i)
		if err != nil {
			return fmt.Errorf("planting channel %d: %w", i, err)
		}
		if w = append(w, more...); i%plantGroup == 0 {
			if err := s.Commit(ctx, w...); err != nil {
				return err
			}
			w = nil
		}
	}
	for i := range p.Payments {
		if w = append(w, p.payment(next+uint64(i))...); i%plantGroup == 0 {
			if err := s.Commit(ctx, w...); err != nil {
				return err
			}
			w = nil
		}
	}
	return s.Commit(ctx, w...)
}

// payment is one of an invoice, with the indexes to it.
func (p *Planting) payment(seq uint64) []types.Write {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], seq)
	pre := types.Preimage(types.SHA256(n[:]))
	rec := Payment{Hash: pre.Hash(), Direction: PaymentSent, State: PaymentSucceeded, Amount: types.Coin, Fee: 1000, Preimage: pre, Created: p.Now, Settled: p.Now,
		Peer: p.Seed.NodeID(), Memo: "planted", Key: fmt.Sprintf("order %d", seq), Tries: 1,
		Invoice: "chand1" + strings.Repeat(pre.Hash().String(), 5)} // as long as a real one
	return []types.Write{put(bucketPayment, seqKey(seq), rec), put(bucketPayIndex, sentKey(rec.Hash), seqKey(seq)), put(bucketPayIndex, payKey(rec.Key), seqKey(seq))}
}

// plantedSide is one side of a channel that is opened here.
type plantedSide struct {
	env   channel.Env
	state channel.State
	inbox []wire.Message
}

func plantSide(seed types.Seed, index uint64, genesis types.Hash, now types.Time) *plantedSide {
	secret := seed.AccountSecret()
	return &plantedSide{env: channel.Env{Height: 1, Now: now, Genesis: genesis, Keys: channelKeys(seed, index),
		HasAccount: func(types.AccountID) bool { return true },
		FundSign:   func(b ledger.ContractBody) [64]byte { return b.SignAsFunder(secret, genesis) }}}
}

// channel opens one with both automata, and returns what the daemon's side saves.
func (p *Planting) channel(i int) ([]types.Write, error) {
	index := uint64(i) + 1
	var peer types.Seed
	secret := p.Seed.Secret(fmt.Sprint("planted peer ", i))
	copy(peer[:], secret[:])
	a, b := plantSide(p.Seed, index, p.Genesis, p.Now), plantSide(peer, 1, p.Genesis, p.Now)
	rules := wire.Rules{Dust: 1000, MaxPayment: types.Coin, MaxInFlight: 10 * types.Coin, MaxLocks: 100}
	open := wire.Open{Temp: peer.Secret("temp"), Mine: 10 * types.Coin, Theirs: 10 * types.Coin, Timing: types.DefaultTiming, Rules: rules,
		Keys: partyKeys(a.env.Keys, p.Account), ValidUntil: 100, Salt: peer.Secret("salt")}
	var fx channel.Effects
	var err error
	if a.state, fx, err = channel.NewOpening(peer.NodeID(), open, index, a.env); err != nil {
		return nil, err
	}
	first, ok := fx.Send[0].(*wire.Open)
	if !ok {
		return nil, fmt.Errorf("an opening begins with %T", fx.Send[0])
	}
	account := types.AccountID{Node: p.Account.Node, User: p.Account.User + uint32(index)}
	if b.state, fx, err = channel.AcceptOpening(p.Seed.NodeID(), first, rules, partyKeys(b.env.Keys, account), 1, b.env); err != nil {
		return nil, err
	}
	a.inbox = fx.Send
	for range 2 { // until the contract is to be opened, then until both are ready
		for len(a.inbox)+len(b.inbox) > 0 {
			if err := errors.Join(a.take(b), b.take(a)); err != nil {
				return nil, err
			}
		}
		opened := channel.Block{Events: []ledger.Event{ledger.ContractOpened{ID: a.state.ID}}}
		if err := errors.Join(a.step(opened, b), b.step(opened, a)); err != nil {
			return nil, err
		}
	}
	if a.state.Phase != channel.PhaseOpen {
		return nil, fmt.Errorf("the channel is %s", a.state.Phase)
	}
	id := a.state.ID.String()
	return []types.Write{{Bucket: bucketChannel, Key: id, Value: a.state.Encode()},
		put(bucketChanInfo, id, chanRecord{Opened: p.Now, KeyIndex: index}), put(bucketPeer, peer.NodeID().String(), "/ip4/127.0.0.1/tcp/9/p2p/"+peer.NodeID().String())}, nil
}

// take steps what has come.
func (s *plantedSide) take(other *plantedSide) error {
	inbox := s.inbox
	s.inbox = nil
	for _, m := range inbox {
		c, ok := m.(wire.ChannelMessage)
		if !ok {
			return fmt.Errorf("a message %T", m)
		}
		if err := s.step(channel.Message{Msg: c}, other); err != nil && !errors.Is(err, channel.ErrIgnored) {
			return err
		}
	}
	return nil
}

func (s *plantedSide) step(in channel.Input, other *plantedSide) error {
	next, fx, err := channel.Step(s.state, in, s.env)
	if err != nil {
		return err
	}
	s.state = next
	other.inbox = append(other.inbox, fx.Send...)
	return nil
}
