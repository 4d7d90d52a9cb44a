package channel

import (
	"errors"
	"testing"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// inputs has one input of every kind.
func inputs(id types.ChannelID) []Input {
	in := []Input{Propose{}, RequestTurn{}, GiveTurn{}, ProposeAndYield{}, Reveal{}, SendReceipts{}, LinkUp{}, LinkDown{}, Close{}, ForceClose{},
		Block{}, Restore{}, Announce{}}
	for _, m := range []wire.ChannelMessage{&wire.Open{Temp: id}, &wire.Accept{Temp: id}, &wire.OpenRefund{Temp: id, ID: id}, &wire.OpenFund{ID: id}, &wire.Refuse{ID: id},
		&wire.Update{ID: id}, &wire.Ack{ID: id}, &wire.TurnRequest{ID: id}, &wire.Yield{ID: id}, &wire.Reveal{ID: id}, &wire.Receipt{ID: id},
		&wire.Reestablish{ID: id}, &wire.Resync{ID: id}, &wire.Agree{ID: id}, &wire.CloseRequest{ID: id}, &wire.CloseSign{ID: id}, &wire.Fault{ID: id},
		&wire.AnnounceSigs{ID: id}} {
		in = append(in, Message{m})
	}
	return in
}

// TestGate walks all pairs of phase and input: what the table does not list is refused, what it lists is not refused by the gate.
func TestGate(t *testing.T) {
	a, b, ka, kb := pair(100)
	sig, err := b.sign(kb.Fund, &b.Current, false)
	if err != nil {
		t.Fatal(err)
	}
	a.Held, a.HasFund = Signed{a.Current, sig}, [2]bool{true, true}
	env := Env{Height: 5, Now: 1_800_000_000, Keys: ka, FundSign: func(ledger.ContractBody) [64]byte { return [64]byte{} }}
	allowed := 0
	for p := Phase(0); p <= phases; p++ {
		for _, in := range inputs(a.ID) {
			s := a
			s.Phase = p
			next, _, err := Step(s, in, env)
			if refused := errors.Is(err, ErrPhase); refused == gate[p][kindOf(in)] {
				t.Errorf("%s, %s: refused %v (%v), the table says %v", p, kindOf(in), refused, err, gate[p][kindOf(in)])
			}
			if err == nil && next.Phase != p && !canMove(p, next.Phase) {
				t.Errorf("%s moved to %s by %s", p, next.Phase, kindOf(in))
			}
			if gate[p][kindOf(in)] {
				allowed++
			}
		}
	}
	if allowed < 80 || allowed > 120 {
		t.Errorf("the table allows %d pairs: review the change", allowed)
	}
	for _, in := range []Input{nil, Message{}, Message{nil}} {
		if _, _, err := Step(a, in, env); !errors.Is(err, ErrPhase) {
			t.Errorf("%T: %v", in, err)
		}
	}
}

// TestMoves walks all pairs of phases through setPhase.
func TestMoves(t *testing.T) {
	moved := 0
	for from := Phase(1); from < phases; from++ {
		for to := Phase(1); to < phases; to++ {
			m := machine{s: State{Phase: from}}
			m.setPhase(to)
			switch {
			case from == to:
			case canMove(from, to) != (m.err == nil && m.s.Phase == to && m.fx.Save):
				t.Errorf("%s to %s: %v", from, to, m.err)
			case canMove(from, to):
				moved++
			}
		}
	}
	if moved != 17 {
		t.Errorf("%d moves: review the table", moved)
	}
	for _, end := range []Phase{PhaseClosed, PhaseFailed} {
		if len(moves[end]) != 0 {
			t.Errorf("%s is not the end", end)
		}
	}
}
