package channel

import (
	"fmt"

	"github.com/eschaton-network/chand/wire"
)

// Phase is where a channel stands.
type Phase uint8

const (
	// PhaseProposed (opener): Open was sent; nothing is signed.
	PhaseProposed Phase = 1 + iota
	// PhaseAccepted (acceptor): Accept was sent with the signature on refund version 1, which can't be used before the contract exists.
	PhaseAccepted
	// PhaseFunding: both signatures on refund version 1 are saved here, the contract may be signed; waiting for it on chain.
	PhaseFunding
	// PhaseOpen: the contract is on chain; payments flow.
	PhaseOpen
	// PhaseFinishing: the final refund was signed; nothing else is signed any more.
	PhaseFinishing
	// PhaseClosing: the best version held is being submitted.
	PhaseClosing
	// PhasePosted: a version is on chain and its dispute window runs.
	PhasePosted
	// PhaseSettled: the contract has paid out; outputs of locks may be open.
	PhaseSettled
	// PhaseClosed: nothing of this side is left on chain.
	PhaseClosed
	// PhaseFailed: the opening failed; no money of this side is bound.
	PhaseFailed
	phases
)

var phaseNames = [phases]string{"none", "proposed", "accepted", "funding", "open", "finishing", "closing", "posted", "settled", "closed", "failed"}

func (p Phase) String() string {
	if p >= phases {
		return fmt.Sprintf("phase %d", uint8(p))
	}
	return phaseNames[p]
}

// MarshalText writes the name.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// moves is the table of phases: setPhase, the only function that changes a phase, consults it.
var moves = map[Phase][]Phase{
	PhaseProposed:  {PhaseFunding, PhaseFailed},
	PhaseAccepted:  {PhaseFunding, PhaseFailed},
	PhaseFunding:   {PhaseOpen, PhaseFailed},
	PhaseOpen:      {PhaseFinishing, PhaseClosing, PhasePosted, PhaseSettled},
	PhaseFinishing: {PhaseClosing, PhasePosted, PhaseSettled},
	PhaseClosing:   {PhasePosted, PhaseSettled},
	PhasePosted:    {PhaseSettled},
	PhaseSettled:   {PhaseClosed},
}

// kind names what can be fed to Step, messages by their type.
type kind string

func kindOf(in Input) kind {
	if m, ok := in.(Message); ok {
		switch m.Msg.(type) {
		case *wire.Open, *wire.Accept, *wire.OpenRefund, *wire.OpenFund, *wire.Refuse, *wire.Update, *wire.Ack, *wire.TurnRequest,
			*wire.Yield, *wire.Reveal, *wire.Receipt, *wire.Reestablish, *wire.Resync, *wire.Agree, *wire.CloseRequest, *wire.CloseSign,
			*wire.Fault, *wire.AnnounceSigs:
			return kind(fmt.Sprintf("%T", m.Msg))
		}
		return "unknown message"
	}
	return kind(fmt.Sprintf("%T", in))
}

// always are the inputs that every phase takes: the world does not ask.
var always = []Input{LinkUp{}, LinkDown{}, Block{}, Restore{}}

// accepts lists what each phase takes besides always. A message that is not listed is dropped: the peer may have sent it before
// it learnt of the phase.
var accepts = map[Phase][]Input{
	PhaseProposed: {Message{&wire.Accept{}}, Message{&wire.Refuse{}}, ForceClose{}},
	PhaseAccepted: {Message{&wire.Open{}}, Message{&wire.OpenRefund{}}, Message{&wire.Refuse{}}, ForceClose{}},
	PhaseFunding:  {Message{&wire.Open{}}, Message{&wire.Accept{}}, Message{&wire.OpenRefund{}}, Message{&wire.OpenFund{}}},
	PhaseOpen: {Message{&wire.Update{}}, Message{&wire.Ack{}}, Message{&wire.TurnRequest{}}, Message{&wire.Yield{}}, Message{&wire.Reveal{}},
		Message{&wire.Receipt{}}, Message{&wire.Reestablish{}}, Message{&wire.Resync{}}, Message{&wire.Agree{}}, Message{&wire.CloseRequest{}},
		Message{&wire.CloseSign{}}, Message{&wire.Fault{}}, Message{&wire.AnnounceSigs{}},
		Propose{}, ProposeAndYield{}, RequestTurn{}, GiveTurn{}, Reveal{}, SendReceipts{}, Close{}, ForceClose{}, Announce{}},
	PhaseFinishing: {Message{&wire.Ack{}}, Message{&wire.Reestablish{}}, Message{&wire.CloseSign{}}, Message{&wire.Fault{}}, Message{&wire.Receipt{}},
		ForceClose{}, SendReceipts{}},
	PhaseClosing: {Message{&wire.Reveal{}}, Message{&wire.Receipt{}}, Reveal{}},
	PhasePosted:  {Message{&wire.Reveal{}}, Message{&wire.Receipt{}}, Reveal{}},
	PhaseSettled: {Message{&wire.Reveal{}}, Message{&wire.Receipt{}}, Reveal{}},
	PhaseClosed:  {},
	PhaseFailed:  {},
}

// gate is accepts and always by kind.
var gate = func() map[Phase]map[kind]bool {
	g := map[Phase]map[kind]bool{}
	for p, list := range accepts {
		g[p] = map[kind]bool{}
		for _, in := range append(list, always...) {
			g[p][kindOf(in)] = true
		}
	}
	return g
}()

// canMove tells whether the table has the move.
func canMove(from, to Phase) bool {
	for _, p := range moves[from] {
		if p == to {
			return true
		}
	}
	return false
}
