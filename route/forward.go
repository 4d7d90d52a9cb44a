package route

import (
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

// LockIn is a lock that the peer upstream has added, irrevocably.
type LockIn struct {
	Channel types.ChannelID
	Amount  types.Amount
	// Reserve came with it: the reservation fee for this hop and those after it.
	Reserve types.Amount
	Expiry  types.Height
	// Timing of the channel that it came over. Frozen: that channel's contract was posted, or its end agreed.
	Timing types.Timing
	Frozen bool
}

// LockOut is the channel to pass the lock on over.
type LockOut struct {
	Channel types.ChannelID
	// Policy is this node's own one for the channel. A channel that is not public has one too, with its own terms.
	Policy *Policy
	// CanSend is what the channel can carry now. Online: the peer can be reached.
	CanSend types.Amount
	Online  bool
	Timing  types.Timing
	Frozen  bool
}

// View is what a hop knows of the chain.
type View struct {
	Height types.Height
	// Fresh is false while the chain view is behind: nothing may be forwarded then (channels.md section 3).
	Fresh bool
	// MaxAhead is how far ahead of Height a lock may expire; 0 means DefaultMaxAhead.
	MaxAhead uint32
}

// CheckForward says whether a hop may pass a lock on as its onion payload asks, or the failure to give it back with. The rules of
// channels.md section 3:
//
//	T_down >  now + D + 2m + r           (timing of the channel downstream; types.Timing.MinExpiry)
//	T_up   >= T_down + D_up + 3m + 2r + 1 (timing of the channel upstream; types.Timing.ForwardDelta), and the policy's delta
//
// and neither contract posted, the chain view fresh, the fee paid, the amount within the policy and the channel's balance, and of the
// reservation fee that came what the policy asks (Policy.Ask) left when the next hop's part is paid.
func CheckForward(in LockIn, p htlc.Payload, out LockOut, v View) *htlc.Failure {
	if f := checkState(in, p, out, v); f != nil {
		return f
	}
	if f := checkExpiries(in, p, out, v); f != nil {
		return withPolicy(f, out.Policy)
	}
	if f := checkAmounts(in, p, out, v); f != nil {
		return withPolicy(f, out.Policy)
	}
	return nil
}

// withPolicy adds what the payer needs to do better next time.
func withPolicy(f *htlc.Failure, p *Policy) *htlc.Failure {
	if f.Code.Update() && p != nil && !p.Channel.IsZero() {
		f.Policy = p.Encode()
	}
	return f
}

func checkState(in LockIn, p htlc.Payload, out LockOut, v View) *htlc.Failure {
	switch {
	case p.Final() || p.Next != htlc.Short(out.Channel) || out.Policy == nil:
		return htlc.NewFailure(htlc.UnknownNextPeer, types.ChannelID{}, "no such channel here to pass the lock on over")
	case !v.Fresh:
		return htlc.NewFailure(htlc.TemporaryNodeFailure, types.ChannelID{}, "this node's view of the ledger is behind; it passes nothing on until it has caught up")
	case in.Frozen:
		return htlc.NewFailure(htlc.TemporaryNodeFailure, types.ChannelID{}, "the channel that the lock came over is closing")
	case out.Frozen:
		return htlc.NewFailure(htlc.PermanentChannelFailure, out.Channel, "the channel is closing")
	case out.Policy.Disabled:
		return withPolicy(htlc.NewFailure(htlc.ChannelDisabled, out.Channel, "the channel takes no payments now"), out.Policy)
	case !out.Online:
		return withPolicy(htlc.NewFailure(htlc.TemporaryChannelFailure, out.Channel, "the peer at the other end is not connected"), out.Policy)
	}
	return nil
}

func checkAmounts(in LockIn, p htlc.Payload, out LockOut, v View) *htlc.Failure {
	pol := out.Policy
	fail := func(code htlc.Code, format string, args ...any) *htlc.Failure {
		f := htlc.NewFailure(code, out.Channel, format, args...)
		f.Amount = p.Amount
		return f
	}
	fee, err := pol.Fee(p.Amount)
	ask := pol.Ask(p.Amount, uint32(max(0, int64(p.Expiry)-int64(v.Height))))
	switch {
	case p.Amount <= 0 || p.Amount < pol.Min:
		return fail(htlc.AmountBelowMinimum, "amount %s, the channel carries %s and more", p.Amount, pol.Min)
	case err != nil || in.Amount < p.Amount || in.Amount-p.Amount < fee:
		f := fail(htlc.FeeInsufficient, "fee %s for passing on %s, want %s", in.Amount-p.Amount, p.Amount, fee)
		f.Amount = in.Amount
		return f
	case p.Amount > pol.Max:
		return fail(htlc.TemporaryChannelFailure, "amount %s, the channel carries up to %s at once", p.Amount, pol.Max)
	case in.Reserve < p.Reserve || in.Reserve-p.Reserve < ask:
		f := fail(htlc.ReserveInsufficient, "reservation fee %s of which %s are to be passed on, want to keep %s for %s until block %d",
			in.Reserve, p.Reserve, ask, p.Amount, p.Expiry)
		f.Amount = in.Reserve
		return f
	case p.Amount > out.CanSend || p.Reserve > out.CanSend-p.Amount: // how much it could send is nobody's business
		return fail(htlc.TemporaryChannelFailure, "the channel can't send this amount now")
	}
	return nil
}

func checkExpiries(in LockIn, p htlc.Payload, out LockOut, v View) *htlc.Failure {
	ahead := v.MaxAhead
	if ahead == 0 {
		ahead = DefaultMaxAhead
	}
	least, delta := out.Timing.MinExpiry(v.Height), max(in.Timing.ForwardDelta(), out.Policy.Delta)
	fail := func(code htlc.Code, height types.Height, format string, args ...any) *htlc.Failure {
		f := htlc.NewFailure(code, out.Channel, format, args...)
		f.Height = height
		return f
	}
	switch {
	case p.Expiry < least:
		return fail(htlc.ExpiryTooSoon, p.Expiry, "outgoing expiry %d at block %d, want at least %d", p.Expiry, v.Height, least)
	case uint64(in.Expiry) < uint64(p.Expiry)+uint64(delta):
		return fail(htlc.IncorrectExpiry, in.Expiry, "expiry %d comes %d blocks after the outgoing %d, want at least %d",
			in.Expiry, int64(in.Expiry)-int64(p.Expiry), p.Expiry, delta)
	case uint64(in.Expiry) > uint64(v.Height)+uint64(ahead):
		return fail(htlc.ExpiryTooFar, in.Expiry, "expiry %d at block %d, at most %d blocks ahead", in.Expiry, v.Height, ahead)
	}
	return nil
}

// CheckFinal says whether the payee may accept a lock as its payload describes it: amount and expiry are at least what the payer meant,
// and there is time left to claim it on chain. What the invoice asks is checked by the caller, which knows it.
func CheckFinal(in LockIn, p htlc.Payload, v View) *htlc.Failure {
	fail := func(code htlc.Code, format string, args ...any) *htlc.Failure {
		f := htlc.NewFailure(code, types.ChannelID{}, format, args...)
		f.Amount, f.Height = in.Amount, v.Height
		return f
	}
	switch least := in.Timing.MinExpiry(v.Height); {
	case !p.Final():
		return fail(htlc.InvalidOnionPayload, "the payload is not for a payee")
	case !v.Fresh || in.Frozen:
		return fail(htlc.TemporaryNodeFailure, "the payee's view of the ledger is behind, or its channel is closing")
	case in.Amount < p.Amount:
		return fail(htlc.FinalIncorrectAmount, "the lock holds %s, want %s", in.Amount, p.Amount)
	case in.Expiry < p.Expiry:
		return fail(htlc.FinalIncorrectExpiry, "the lock expires at %d, want %d", in.Expiry, p.Expiry)
	case in.Expiry < least:
		return fail(htlc.IncorrectOrUnknownPaymentDetails, "the lock expires at %d, at block %d it must not before %d", in.Expiry, v.Height, least)
	}
	return nil
}
