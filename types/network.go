package types

import (
	"fmt"
	"time"
)

// Height is a block number of the settlement chain.
type Height uint32

// Time is seconds since 1970 UTC. Rules take it as an input; package time's clock is not importable in rules.
type Time int64

// Std converts to the standard library's type, for showing only.
func (t Time) Std() time.Time { return time.Unix(int64(t), 0).UTC() }

// Timing holds the block counts that every safety rule of a channel is computed from (channels.md section 3).
// They are shown to users as clock time.
type Timing struct {
	// Inclusion (m) is the worst time to get a transaction into a block.
	Inclusion uint32 `json:"inclusion" cbor:"1,keyasint"`
	// Downtime (r) is the longest time that a daemon may be down and still answer a cheater.
	Downtime uint32 `json:"downtime" cbor:"2,keyasint"`
	// Window (D) is the dispute window of the contract.
	Window uint32 `json:"window" cbor:"3,keyasint"`
}

// Limits of Timing: the window must fit an answer (D >= r+m+2) and an expiry must still fit BIP 65's block heights comfortably.
const maxTimingBlocks = 1 << 20

// DefaultTiming suits a ledger with one block a second: r is an hour and a half, D two hours.
var DefaultTiming = Timing{Inclusion: 30, Downtime: 5400, Window: 7200}

// DemoTiming makes a forced close end within seconds on a ledger with one block a second. Not for money that matters.
var DemoTiming = Timing{Inclusion: 3, Downtime: 5, Window: 10}

// Check wants D >= r + m + 2 and every count within bounds.
func (t Timing) Check() error {
	if t.Inclusion == 0 || t.Inclusion > maxTimingBlocks || t.Downtime > maxTimingBlocks || t.Window > maxTimingBlocks {
		return fmt.Errorf("timing %+v: every count must be 1..%d blocks", t, maxTimingBlocks)
	}
	if t.Window < t.Downtime+t.Inclusion+2 {
		return fmt.Errorf("timing: dispute window of %d blocks is too short for downtime %d and inclusion %d: want at least %d",
			t.Window, t.Downtime, t.Inclusion, t.Downtime+t.Inclusion+2)
	}
	return nil
}

// ForwardDelta is T_up - T_down that a hop needs when the contract towards the payer has timing t and the
// one towards the payee has a window of down blocks: D_up + 3m + 2r + 1.
func (t Timing) ForwardDelta() uint32 { return t.Window + 3*t.Inclusion + 2*t.Downtime + 1 }

// MinExpiry is the earliest expiry that a lock added at height now may have: T > now + D + 2m + r.
func (t Timing) MinExpiry(now Height) Height {
	return now + Height(t.Window+2*t.Inclusion+t.Downtime) + 1
}

// ClaimBy is the height at which one who knows the preimage of a lock with expiry T must publish, unless
// the lock was settled off chain: T - D - 2m - r.
func (t Timing) ClaimBy(expiry Height) Height {
	return sub(expiry, t.Window+2*t.Inclusion+t.Downtime)
}

// CloseBy is the height at which the payer of an unresolved lock with expiry T must publish: T - D - m - r.
func (t Timing) CloseBy(expiry Height) Height {
	return sub(expiry, t.Window+t.Inclusion+t.Downtime)
}

func sub(h Height, n uint32) Height {
	if uint32(h) < n {
		return 0
	}
	return h - Height(n)
}
