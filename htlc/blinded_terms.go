package htlc

import (
	"fmt"
	"math/bits"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Check wants every field of a path, which a stranger wrote, in range.
func (p *BlindedPath) Check() error {
	switch {
	case p.Entry.IsZero():
		return fmt.Errorf("%w: no entry", ErrBlinded)
	case len(p.Hops) == 0 || len(p.Hops) > MaxBlindedHops:
		return fmt.Errorf("%w: %d hops: want 1 to %d", ErrBlinded, len(p.Hops), MaxBlindedHops)
	case p.Min < 0 || p.Max < p.Min || p.Max > types.MaxAmount:
		return fmt.Errorf("%w: amounts from %d to %d", ErrBlinded, p.Min, p.Max)
	case p.Reserve > maxTermsReserve:
		return fmt.Errorf("%w: reserve %d", ErrBlinded, p.Reserve)
	}
	return p.Terms.check()
}

// sum adds the terms of the hops up so that whoever pays by the sum satisfies each: rounded up, and one unit more a hop for what the hops
// round.
func (p *BlindedPath) sum(hops []PathHop) error {
	var all Terms
	var reserve uint64
	for i := len(hops) - 2; i >= 0; i-- {
		t := hops[i].Data.Terms
		if hops[i].Data.Kind != HopForward {
			continue
		}
		base, err := grow(all.Base, t.Millionths)
		if err == nil {
			base, err = base.Add(t.Base + 1)
		}
		if err != nil {
			return fmt.Errorf("%w: base fees: %w", ErrBlinded, err)
		}
		m, n := uint64(all.Millionths), uint64(t.Millionths)
		both := m + n + (m*n+feeDenominator-1)/feeDenominator
		delta := uint64(all.Delta) + uint64(t.Delta)
		if both > maxTermsMillionths || delta > maxTermsDelta {
			return fmt.Errorf("%w: the terms of its hops together are beyond any payer's limit", ErrBlinded)
		}
		if r := uint64(hops[i].Reserve); r > 0 {
			// Below its floor the hop asks for the floor, which is the larger a part the smaller the amount.
			part, err := max(p.Min, hops[i].Max/(wire.MaxLocks/2)).MulDiv(r, uint64(max(p.Min, 1)))
			if err != nil {
				part = maxTermsReserve
			}
			reserve = min(maxTermsReserve, reserve+min(maxTermsReserve, uint64(part)+1))
		}
		all = Terms{Base: base, Millionths: uint32(both), Delta: uint32(delta)}
	}
	p.Terms, p.Reserve = all, uint32(reserve)
	return nil
}

// grow is amount*(1 + millionths/10^6), rounded up.
func grow(amount types.Amount, millionths uint32) (types.Amount, error) {
	fee, err := amount.MulDiv(uint64(millionths), feeDenominator)
	if err != nil {
		return 0, err
	}
	sum, err := amount.Add(fee)
	if err != nil {
		return 0, err
	}
	if _, lo := bits.Mul64(uint64(amount), uint64(millionths)); millionths == 0 || lo == uint64(fee)*feeDenominator {
		return sum, nil
	}
	return sum.Add(1)
}

// Fee is what passing amount on costs by these terms, rounded down.
func (t *Terms) Fee(amount types.Amount) (types.Amount, error) {
	f, err := amount.MulDiv(uint64(t.Millionths), feeDenominator)
	if err != nil {
		return 0, err
	}
	return f.Add(t.Base)
}

// In returns the lock that must reach the entry so that the payee gets one of amount and expiry.
func (p *BlindedPath) In(amount types.Amount, expiry types.Height) (types.Amount, types.Height, error) {
	if amount < p.Min || amount > p.Max {
		return 0, 0, fmt.Errorf("%w: it carries %d to %d units, not %d", ErrBlinded, p.Min, p.Max, amount)
	}
	in, err := grow(amount, p.Terms.Millionths)
	if err == nil {
		in, err = in.Add(p.Terms.Base)
	}
	if err != nil || expiry > 1<<31 {
		return 0, 0, fmt.Errorf("%w: amount %d with fees, or expiry %d, is out of range", ErrBlinded, amount, expiry)
	}
	return in, expiry + types.Height(p.Terms.Delta), nil
}

// Onion is the payer's part: the hops of the packet from the entry on. final is of kind Invoice with amount and expiry of the payee's lock.
func (p *BlindedPath) Onion(final Payload) []OnionHop {
	hops := make([]OnionHop, len(p.Hops))
	for i, h := range p.Hops {
		hops[i] = OnionHop{Key: h.Key, Payload: Payload{Kind: Blinded, Blinded: h.Data}}
	}
	last := &hops[len(hops)-1].Payload
	final.Blinded = last.Blinded
	*last = final
	return hops
}

// Forward is what a hop of kind HopForward is asked to do with an incoming lock: the payload that it would have got from a payer who sees
// the route, but for the reserve: of what came in the hop keeps what its policy asks, and passes the rest on. The outgoing amount is the
// most that leaves the hop its fee. Whether the hop agrees with terms that the payee knew, maybe long ago, is checked as for any other payload.
func (d *HopData) Forward(in types.Amount, expiry types.Height) (Payload, error) {
	if err := d.Admit(in, expiry); err != nil {
		return Payload{}, err
	}
	t := &d.Terms
	if d.Kind != HopForward || in <= t.Base || expiry < types.Height(t.Delta) {
		return Payload{}, errBlindedHop
	}
	out, err := (in - t.Base).MulDiv(feeDenominator, feeDenominator+uint64(t.Millionths))
	if err != nil {
		return Payload{}, errBlindedHop
	}
	if fee, err := t.Fee(out + 1); err == nil && fee <= in && out+1 <= in-fee {
		out++ // the fee is rounded down
	}
	if out <= 0 {
		return Payload{}, errBlindedHop
	}
	return Payload{Kind: Forward, Next: d.Next, Amount: out, Expiry: expiry - types.Height(t.Delta)}, nil
}

// Admit checks the limits that the payee set for the lock that comes in.
func (d *HopData) Admit(in types.Amount, expiry types.Height) error {
	if in < d.Min || expiry > d.MaxExpiry {
		return errBlindedHop
	}
	return nil
}
