package ledger

import (
	"fmt"
	"maps"

	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

// verifyRules checks what the rules for accounts rely on: the pool covers the dividends that are not paid yet, deleted accounts are ones
// that may be, and what follows from the tables fits them.
func (s *State) verifyRules() error {
	pins := make(map[types.AccountID]int)
	for k := range s.stake.bonds {
		pins[k.From]++
	}
	for k := range s.registry.certificates {
		pins[k.Issuer]++
		pins[k.Subject]++
	}
	if !maps.Equal(pins, s.pins) {
		return fmt.Errorf("%w: what relies on accounts is counted wrongly", ErrInvariant)
	}
	var owed types.Amount
	for i, n := range s.nodes {
		for user := range uint32(n.accounts.len()) {
			id, r := types.AccountID{Node: uint16(i + 1), User: user}, n.accounts.at(user)
			var err error
			if owed, err = owed.Add(s.unpaid(r)); err != nil || owed > s.pool {
				return fmt.Errorf("%w: the pool of %d units does not cover the dividends", ErrInvariant, s.pool)
			}
			if r.Status&StatusDeleted != 0 && (user == 0 || r.deletedAt() > s.height || r.PairedNode != 0 || s.pinned(id)) {
				return fmt.Errorf("%w: account %s is deleted, but may not be", ErrInvariant, id)
			}
		}
	}
	for _, a := range s.registry.policy.Admins {
		if s.peek(a) == nil {
			return fmt.Errorf("%w: admin %s does not exist", ErrInvariant, a)
		}
	}
	return s.verifyOrigins()
}

// unpaid is at least what an account will still get as its dividend of the running period; more than there is when that can't be said.
func (s *State) unpaid(r *Record) types.Amount {
	if types.Time(r.RemoteChange) >= s.period.start {
		return 0
	}
	a, err := (r.Balance >> dividendShift).MulDiv(uint64(s.period.factor), 1)
	if err != nil {
		return Supply
	}
	return a
}

func (s *State) verifyOrigins() error {
	count := make(map[types.Height]int)
	for _, c := range s.contracts {
		if c.Settled == nil {
			count[c.OpenedAt]++
		}
	}
	for _, o := range s.outputs {
		count[o.Origin]++
	}
	if !maps.Equal(count, s.origins.count) {
		return fmt.Errorf("%w: the ages of what is open are counted wrongly", ErrInvariant)
	}
	for h := range count {
		if h < s.origins.low {
			return fmt.Errorf("%w: something is open since %d, the oldest is said to be of %d", ErrInvariant, h, s.origins.low)
		}
	}
	return nil
}

// rebuilt makes the trees again from the tables.
func (r *registry) rebuilt() RegistryParts {
	var certificates, roles merkle.Map
	for _, c := range r.certificates {
		certificates.Set(c.Key(), c.hash())
	}
	for k, v := range r.roles {
		roles.Set(k, rolesHash(v))
	}
	return RegistryParts{certificates.Root(), roles.Root(), policyHash(&r.policy)}
}
