package channel

import (
	"fmt"
	"strings"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Step feeds one input to a channel. The given state is never changed; after an error it stands and nothing may be
// done. A peer's breach of the protocol is not an error: the returned state closes the channel.
func Step(s State, in Input, env Env) (State, Effects, error) {
	if !gate[s.Phase][kindOf(in)] {
		return s, Effects{}, fmt.Errorf("%w: %s while the channel is %s", ErrPhase, kindOf(in), s.Phase)
	}
	m := machine{s: s, env: env}
	if err := m.input(in); err != nil {
		return s, Effects{}, err
	}
	m.agreeClose()
	m.renew()
	if m.err != nil {
		return s, Effects{}, m.err
	}
	return m.s, m.fx, nil
}

// machine is one step under way: a working copy of the state and the effects so far.
type machine struct {
	s   State
	fx  Effects
	env Env
	err error // a failure of our own (never the peer's): the step is void
}

func (m *machine) input(in Input) error {
	switch in := in.(type) {
	case Message:
		return m.message(in.Msg)
	case Propose:
		return m.propose(in.Ops, false)
	case ProposeAndYield:
		return m.propose(in.Ops, true)
	case RequestTurn:
		return m.requestTurn()
	case GiveTurn:
		return m.giveTurn()
	case Reveal:
		return m.reveal(in.Preimages)
	case SendReceipts:
		return m.sendReceipts(in.Preimages)
	case LinkUp:
		m.linkUp()
	case LinkDown:
		m.s.Link, m.s.TurnAsked = LinkIsDown, false
	case Close:
		return m.askClose()
	case ForceClose:
		return m.forceClose()
	case Block:
		m.block(in.Events)
	case Restore:
		m.s.Restored, m.s.Link, m.fx.Save = true, LinkIsDown, true
	case Announce:
		if m.s.Link != LinkIsReady {
			return ErrOffline
		}
		m.send(&wire.AnnounceSigs{ID: m.s.ID, NodeSig: in.NodeSig, CloseSig: in.CloseSig})
	}
	return nil
}

func (m *machine) message(msg wire.ChannelMessage) error {
	if id := msg.Channel(); id != m.s.ID && id != m.s.Temp {
		return fmt.Errorf("%w: a message for channel %s, this is %s", ErrIgnored, id, m.s.ID)
	}
	switch msg := msg.(type) {
	case *wire.Open:
		return m.openAgain(msg)
	case *wire.Accept:
		return m.accept(msg)
	case *wire.OpenRefund:
		return m.openRefund(msg)
	case *wire.OpenFund:
		return m.openFund(msg)
	case *wire.Refuse:
		m.fail(fmt.Sprintf("the peer refused: %q; nothing was signed that could bind money", msg.Text))
		return nil
	case *wire.Update:
		return m.update(msg)
	case *wire.Ack:
		return m.ack(msg)
	case *wire.TurnRequest:
		return m.turnRequest()
	case *wire.Yield:
		return m.yield(msg)
	case *wire.Reveal:
		return m.revealed(msg.Preimages)
	case *wire.Receipt:
		m.note(Receipts{msg.Preimages})
		return nil
	case *wire.Reestablish:
		return m.reestablish(msg)
	case *wire.Resync:
		return m.resync(msg)
	case *wire.Agree:
		return m.agree(msg)
	case *wire.CloseRequest:
		return m.closeRequest()
	case *wire.CloseSign:
		return m.closeSign(msg)
	case *wire.Fault:
		m.stop("the peer has stopped the channel and says: " + fmt.Sprintf("%q", clip(msg.Text)))
		return nil
	case *wire.AnnounceSigs:
		m.note(Announceable{*msg})
		return nil
	}
	return fmt.Errorf("%w: %T", ErrIgnored, msg)
}

func (m *machine) me() Side   { return m.s.Side }
func (m *machine) peer() Side { return m.s.Side.Other() }

func (m *machine) send(msg wire.Message) { m.fx.Send = append(m.fx.Send, msg) }
func (m *machine) note(n Notice)         { m.fx.Notices = append(m.fx.Notices, n) }
func (m *machine) submit(a ChainAction)  { m.fx.Chain = append(m.fx.Chain, a) }
func (m *machine) void(err error)        { m.err = err }

// setPhase is the only function that changes a phase.
func (m *machine) setPhase(to Phase) {
	from := m.s.Phase
	if from == to {
		return
	}
	if !canMove(from, to) {
		m.void(fmt.Errorf("channel %s: no move from %s to %s", m.s.ID, from, to))
		return
	}
	m.s.Phase, m.s.Since, m.fx.Save = to, m.env.Height, true
	m.note(PhaseChanged{from, to})
}

// fault stops the channel because of what the peer did. seen says what came and what was wanted.
func (m *machine) fault(seen string) {
	seen = clip(seen)
	m.send(&wire.Fault{ID: m.s.ID, Text: seen})
	m.stop("the peer broke the protocol: " + seen)
}

// stop closes with the best version held; what the message at hand would have changed is not taken over.
func (m *machine) stop(why string) {
	m.s.Why = clip(fmt.Sprintf("%s. Version %d is being published; it pays %s to this side and leaves %d locks to be settled on chain",
		why, m.s.Held.Number, m.s.Held.Balance[m.me()], len(m.s.Held.Locks)))
	m.note(Failed{m.s.Why})
	m.setPhase(PhaseClosing)
	m.publish("close")
}

// fail ends an opening.
func (m *machine) fail(why string) {
	m.s.Why = clip(why)
	m.setPhase(PhaseFailed)
	m.note(Failed{m.s.Why})
}

// clip bounds text that is kept or sent to what a message carries, and keeps it text: the cut may fall into a character.
func clip(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), wire.MaxText)], "?")
}

// learn notes preimages in every version that is kept; it reports which open locks they opened anew.
func (m *machine) learn(preimages []types.Preimage) (opened []Lock) {
	byHash := make(map[types.Hash]types.Preimage, len(preimages))
	for _, p := range preimages {
		byHash[p.Hash()] = p
	}
	fill := func(locks []Lock) []Lock {
		var out []Lock
		for i := range locks {
			if p, ok := byHash[locks[i].Hash]; ok && locks[i].Preimage.IsZero() {
				if out == nil {
					out = append([]Lock(nil), locks...)
				}
				out[i].Preimage = p
			}
		}
		if out == nil {
			return locks
		}
		m.fx.Save = true
		return out
	}
	before := m.s.Current.Locks
	m.s.Current.Locks = fill(before)
	m.s.Held.Locks = fill(m.s.Held.Locks)
	for i, l := range m.s.Current.Locks {
		if before[i].Preimage != l.Preimage {
			opened = append(opened, l)
		}
	}
	if len(m.s.Outputs) > 0 {
		outs := append([]Output(nil), m.s.Outputs...)
		for i := range outs {
			if p, ok := byHash[outs[i].Lock.Hash]; ok && outs[i].Lock.Preimage.IsZero() {
				outs[i].Lock.Preimage = p
				m.fx.Save = true
			}
		}
		m.s.Outputs = outs
	}
	return opened
}
