package route

import (
	"bytes"
	"testing"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

func TestCheckForward(t *testing.T) {
	const now = 1000
	up, down := types.Timing{Inclusion: 3, Downtime: 5, Window: 20}, types.Timing{Inclusion: 2, Downtime: 7, Window: 30}
	// By the rules of channels.md section 3, worked out by hand.
	const least = now + 30 + 2*2 + 7 + 1 // T_down > now + D + 2m + r
	const delta = 20 + 3*3 + 2*5 + 1     // T_up >= T_down + D_up + 3m + 2r + 1
	id := testChannel(1)
	policy := Policy{Channel: id, Base: 100, Millionths: 1000, Delta: 10, Min: 5000, Max: 50_000, Reserve: 1_000_000}
	for _, c := range []struct {
		name   string
		change func(*LockIn, *htlc.Payload, *LockOut, *View)
		want   htlc.Code // 0: passes
	}{
		{"everything at its limit", func(*LockIn, *htlc.Payload, *LockOut, *View) {}, 0},
		{"other channel", func(_ *LockIn, p *htlc.Payload, _ *LockOut, _ *View) { p.Next[0]++ }, htlc.UnknownNextPeer},
		{"no policy", func(_ *LockIn, _ *htlc.Payload, o *LockOut, _ *View) { o.Policy = nil }, htlc.UnknownNextPeer},
		{"final", func(_ *LockIn, p *htlc.Payload, _ *LockOut, _ *View) { p.Kind = htlc.Invoice }, htlc.UnknownNextPeer},
		{"stale view", func(_ *LockIn, _ *htlc.Payload, _ *LockOut, v *View) { v.Fresh = false }, htlc.TemporaryNodeFailure},
		{"upstream posted", func(i *LockIn, _ *htlc.Payload, _ *LockOut, _ *View) { i.Frozen = true }, htlc.TemporaryNodeFailure},
		{"downstream posted", func(_ *LockIn, _ *htlc.Payload, o *LockOut, _ *View) { o.Frozen = true }, htlc.PermanentChannelFailure},
		{"disabled", func(_ *LockIn, _ *htlc.Payload, o *LockOut, _ *View) { o.Policy.Disabled = true }, htlc.ChannelDisabled},
		{"offline", func(_ *LockIn, _ *htlc.Payload, o *LockOut, _ *View) { o.Online = false }, htlc.TemporaryChannelFailure},
		{"fee one less", func(i *LockIn, _ *htlc.Payload, _ *LockOut, _ *View) { i.Amount-- }, htlc.FeeInsufficient},
		{"fee negative", func(i *LockIn, p *htlc.Payload, _ *LockOut, _ *View) { i.Amount = p.Amount - 1 }, htlc.FeeInsufficient},
		{"below minimum", func(_ *LockIn, p *htlc.Payload, _ *LockOut, _ *View) { p.Amount = 4999 }, htlc.AmountBelowMinimum},
		{"reservation one less", func(i *LockIn, _ *htlc.Payload, _ *LockOut, _ *View) { i.Reserve-- }, htlc.ReserveInsufficient},
		{"more passed on than came", func(i *LockIn, p *htlc.Payload, _ *LockOut, _ *View) { p.Reserve = i.Reserve + 1 }, htlc.ReserveInsufficient},
		{"none asked, none paid", func(i *LockIn, p *htlc.Payload, o *LockOut, _ *View) {
			o.Policy.Reserve, i.Reserve, p.Reserve = 0, 0, 0
		}, 0},
		{"above maximum", func(i *LockIn, p *htlc.Payload, _ *LockOut, _ *View) { p.Amount, i.Amount = 50_001, 60_000 }, htlc.TemporaryChannelFailure},
		{"balance", func(_ *LockIn, _ *htlc.Payload, o *LockOut, _ *View) { o.CanSend-- }, htlc.TemporaryChannelFailure},
		{"downstream a block too early", func(i *LockIn, p *htlc.Payload, _ *LockOut, _ *View) { p.Expiry--; i.Expiry-- }, htlc.ExpiryTooSoon},
		{"a block has passed", func(_ *LockIn, _ *htlc.Payload, _ *LockOut, v *View) { v.Height++ }, htlc.ExpiryTooSoon},
		{"upstream a block too early", func(i *LockIn, _ *htlc.Payload, _ *LockOut, _ *View) { i.Expiry-- }, htlc.IncorrectExpiry},
		{"upstream before downstream", func(i *LockIn, _ *htlc.Payload, _ *LockOut, _ *View) { i.Expiry = 1 }, htlc.IncorrectExpiry},
		{"downstream for ever", func(i *LockIn, p *htlc.Payload, _ *LockOut, _ *View) { p.Expiry = 1<<32 - 1; i.Expiry = 1<<32 - 1 }, htlc.IncorrectExpiry},
		{"policy asks for more", func(_ *LockIn, _ *htlc.Payload, o *LockOut, _ *View) { o.Policy.Delta = delta + 1 }, htlc.IncorrectExpiry},
		{"upstream timing asks for more", func(i *LockIn, _ *htlc.Payload, _ *LockOut, _ *View) { i.Timing.Downtime++ }, htlc.IncorrectExpiry},
		{"too far", func(_ *LockIn, _ *htlc.Payload, _ *LockOut, v *View) { v.MaxAhead = least + delta - now - 1 }, htlc.ExpiryTooFar},
		{"just not too far", func(_ *LockIn, _ *htlc.Payload, _ *LockOut, v *View) { v.MaxAhead = least + delta - now }, 0},
	} {
		pol := policy
		in := LockIn{Channel: testChannel(2), Amount: 20_120, Reserve: 8, Expiry: least + delta, Timing: up}
		p := htlc.Payload{Kind: htlc.Forward, Next: htlc.Short(id), Amount: 20_000, Reserve: 7, Expiry: least}
		out := LockOut{Channel: id, Policy: &pol, CanSend: 20_007, Online: true, Timing: down}
		v := View{Height: now, Fresh: true}
		c.change(&in, &p, &out, &v)
		f := CheckForward(in, p, out, v)
		switch {
		case c.want == 0 && f != nil:
			t.Errorf("%s: %v", c.name, f)
		case c.want != 0 && (f == nil || f.Code != c.want || f.Text == ""):
			t.Errorf("%s: %v, want %s", c.name, f, c.want)
		case f != nil && f.Code.Update() && !bytes.Equal(f.Policy, out.Policy.Encode()):
			t.Errorf("%s: the payer is not told the policy", c.name)
		}
	}
}

func TestCheckFinal(t *testing.T) {
	const now = 1000
	const least = now + 10 + 2*3 + 5 + 1
	for _, c := range []struct {
		name   string
		change func(*LockIn, *htlc.Payload, *View)
		want   htlc.Code
	}{
		{"good", func(*LockIn, *htlc.Payload, *View) {}, 0},
		{"more than meant", func(i *LockIn, _ *htlc.Payload, _ *View) { i.Amount++; i.Expiry++ }, 0},
		{"less", func(i *LockIn, _ *htlc.Payload, _ *View) { i.Amount-- }, htlc.FinalIncorrectAmount},
		{"earlier than meant", func(i *LockIn, p *htlc.Payload, _ *View) { p.Expiry++ }, htlc.FinalIncorrectExpiry},
		{"too late to claim", func(_ *LockIn, _ *htlc.Payload, v *View) { v.Height++ }, htlc.IncorrectOrUnknownPaymentDetails},
		{"to be passed on", func(_ *LockIn, p *htlc.Payload, _ *View) { p.Kind = htlc.Forward }, htlc.InvalidOnionPayload},
		{"stale", func(_ *LockIn, _ *htlc.Payload, v *View) { v.Fresh = false }, htlc.TemporaryNodeFailure},
		{"frozen", func(i *LockIn, _ *htlc.Payload, _ *View) { i.Frozen = true }, htlc.TemporaryNodeFailure},
	} {
		in := LockIn{Amount: 500, Expiry: least, Timing: testTiming}
		p := htlc.Payload{Kind: htlc.Invoice, Amount: 500, Total: 500, Expiry: least}
		v := View{Height: now, Fresh: true}
		c.change(&in, &p, &v)
		if f := CheckFinal(in, p, v); (f == nil) != (c.want == 0) || f != nil && f.Code != c.want {
			t.Errorf("%s: %v, want %s", c.name, f, c.want)
		}
	}
}
