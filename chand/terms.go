package chand

import (
	"context"
	"sync"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
)

// ChannelTerms is what the owner asks for passing locks on over one channel, where it differs from the settings. nil: as the settings say.
type ChannelTerms struct {
	Base       *types.Amount `cbor:"1,keyasint,omitempty"`
	Millionths *uint32       `cbor:"2,keyasint,omitempty"`
	// Reserve is the reservation fee in 10^-12 of a lock's amount a block.
	Reserve *uint32 `cbor:"3,keyasint,omitempty"`
	// Delta is how many blocks an outgoing lock expires earlier than the incoming one, at least.
	Delta    *uint32       `cbor:"4,keyasint,omitempty"`
	Min      *types.Amount `cbor:"5,keyasint,omitempty"`
	Max      *types.Amount `cbor:"6,keyasint,omitempty"`
	Disabled *bool         `cbor:"7,keyasint,omitempty"`
}

const bucketTerms = "terms" // channel id -> ChannelTerms

// ownersTerms are the terms of all channels that have their own. Safe for concurrent use.
type ownersTerms struct {
	mu  sync.Mutex
	all map[types.ChannelID]ChannelTerms // guarded by mu
}

func (d *Daemon) loadTerms() error {
	d.terms = &ownersTerms{all: make(map[types.ChannelID]ChannelTerms)}
	return loadAll(d.Store, bucketTerms, "", func(key string, t ChannelTerms) error {
		id, err := types.ParseHash(key)
		d.terms.all[id] = t
		return err
	})
}

func (o *ownersTerms) of(id types.ChannelID) ChannelTerms {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all[id]
}

// or keeps what is set.
func or[T any](set *T, otherwise T) T {
	if set != nil {
		return *set
	}
	return otherwise
}

// apply puts the owner's terms over a policy.
func (t ChannelTerms) apply(p *route.Policy) {
	p.Base, p.Millionths, p.Reserve = or(t.Base, p.Base), or(t.Millionths, p.Millionths), or(t.Reserve, p.Reserve)
	p.Delta, p.Disabled = or(t.Delta, p.Delta), or(t.Disabled, p.Disabled)
	p.Min, p.Max = or(t.Min, p.Min), min(p.Max, or(t.Max, p.Max))
}

// ownTerms is our policy for a channel, unsigned.
func (d *Daemon) ownTerms(s *channel.State) route.Policy {
	most := s.Capacity()
	if limit := s.Rules[s.Side.Other()].MaxPayment; limit > 0 {
		most = min(most, limit)
	}
	p := route.Policy{Channel: s.ID, Base: d.cfg.BaseFee, Millionths: d.cfg.FeeMillionths, Reserve: d.cfg.Reserve, Delta: d.cfg.Timing.ForwardDelta(),
		Min: policyMin, Max: most, OnionKey: d.onion.Key()}
	d.terms.of(s.ID).apply(&p)
	return p
}

// SetTerms changes the terms of an own channel: what is nil stays as it is; with reset everything else follows the settings again. The new policy is
// in force for locks that come from now on, and is announced at once if the channel is public.
func (d *Daemon) SetTerms(ctx context.Context, id types.ChannelID, change ChannelTerms, reset bool) (route.Policy, error) {
	r := d.runner(id)
	if r == nil {
		return route.Policy{}, refuse(CodeNotFound, "see `channel list`", "no open channel %s", id)
	}
	defer d.keys.lock("terms/" + id.String())()
	o, t := d.terms, d.terms.of(id)
	if reset {
		t = ChannelTerms{}
	}
	t = ChannelTerms{Base: first(change.Base, t.Base), Millionths: first(change.Millionths, t.Millionths), Reserve: first(change.Reserve, t.Reserve),
		Delta: first(change.Delta, t.Delta), Min: first(change.Min, t.Min), Max: first(change.Max, t.Max), Disabled: first(change.Disabled, t.Disabled)}
	state := r.view.Load().State
	p := d.ownTerms(&state)
	t.apply(&p)
	if err := p.Check(); err != nil {
		return p, refuse(CodeInvalid, "correct the terms", "%w", err)
	}
	if p.Max > state.Capacity() {
		return p, refuse(CodeInvalid, "ask for less", "the channel holds %s", state.Capacity())
	}
	if err := d.Store.Commit(ctx, put(bucketTerms, id.String(), t)); err != nil {
		return p, err
	}
	o.mu.Lock()
	o.all[id] = t
	o.mu.Unlock()
	d.announcer.box.force(mailTerms{r})
	return d.ownTerms(&state), nil
}

func first[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

// Terms is our policy for a channel as it is in force, and what of it the owner has set.
func (d *Daemon) Terms(id types.ChannelID) (route.Policy, ChannelTerms, error) {
	r := d.runner(id)
	if r == nil {
		return route.Policy{}, ChannelTerms{}, refuse(CodeNotFound, "see `channel list`", "no open channel %s", id)
	}
	state := r.view.Load().State
	return d.ownTerms(&state), d.terms.of(id), nil
}
