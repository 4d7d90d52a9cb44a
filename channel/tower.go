package channel

import "github.com/btcsuite/btcd/btcec/v2"

// HeldRefund returns the newest refund that the peer signed, serialized, with this side's signature as well. Whoever has it can replace an
// older version in a dispute window, but can't start one: that takes a close key. So it can be given to a watchtower.
func (s *State) HeldRefund(fund *btcec.PrivateKey) ([]byte, error) {
	return s.publishable(fund, &s.Held.Version, false, s.Held.Sig)
}
