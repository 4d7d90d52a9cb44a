package channel

import (
	"fmt"

	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// block follows the chain: first what the block did, then what this side must do about it. All of it follows from the
// saved state, so a daemon that was down does the same when it catches up.
func (m *machine) block(events []ledger.Event) {
	for _, e := range events {
		switch e := e.(type) {
		case ledger.ContractOpened:
			if e.ID == m.s.ID {
				m.opened(e)
			}
		case ledger.ContractPosted:
			if e.ID == m.s.ID {
				m.posted(e)
			}
		case ledger.ContractSettled:
			if e.ID == m.s.ID {
				m.settled(e)
			}
		case ledger.OutputSpent:
			if m.s.Phase == PhaseSettled && e.TxID == m.s.OnChain.TxID {
				m.spent(e)
			}
		}
	}
	m.watch()
}

// watch does what the height demands.
func (m *machine) watch() {
	s := &m.s
	switch s.Phase {
	case PhaseProposed, PhaseAccepted, PhaseFunding:
		if m.env.Height >= s.ValidUntil {
			m.fail(fmt.Sprintf("the contract was not on chain by block %d and can't be opened any more; all funds are free", s.ValidUntil))
			return
		}
		m.submitContract()
	case PhaseOpen:
		for i := range s.Current.Locks {
			if at, why := s.deadline(&s.Current.Locks[i]); why != "" && m.env.Height >= at {
				if m.env.Starting && m.env.Height < at+types.Height(s.Timing.Downtime) {
					continue // agreement may be possible, and there is time
				}
				l := &s.Current.Locks[i]
				m.stop(fmt.Sprintf("lock %d of %s expires at block %d and %s", l.ID, l.Amount, l.Expiry, why))
				return
			}
		}
	case PhaseFinishing:
		// Whoever had both signatures first submits; the other side if that does not happen in time.
		if m.env.Height >= s.Since+types.Height(s.Timing.Inclusion) {
			m.publishFinal()
		}
	case PhaseClosing:
		m.publish("close")
	case PhasePosted:
		m.supersede()
	case PhaseSettled:
		m.settleOutputs()
	}
}

// publish submits the best version held, with the close signature that starts the dispute window.
func (m *machine) publish(why string) {
	if m.s.HasFinal {
		m.publishFinal()
		return
	}
	closeSig := ledger.SignClose(m.env.Keys.Close, m.s.ID)
	m.submitHeld(closeSig[:], why)
}

func (m *machine) submitHeld(closeSig []byte, why string) {
	tx, err := m.s.publishable(m.env.Keys.Fund, &m.s.Held.Version, false, m.s.Held.Sig)
	if err != nil {
		m.void(err)
		return
	}
	m.submit(Spend{Tx: tx, CloseSig: closeSig, Why: why})
}

// publishFinal submits the agreed close, once the peer's signature on it is here.
func (m *machine) publishFinal() {
	if !m.s.HasFinal {
		return
	}
	tx, err := m.s.publishable(m.env.Keys.Fund, &m.s.Current, true, m.s.FinalSig)
	if err != nil {
		m.void(err)
		return
	}
	m.submit(Spend{Tx: tx, Why: "agreed close"})
}

// posted: a version is in the dispute window. From here on both sides are frozen but for settling what is there.
func (m *machine) posted(e ledger.ContractPosted) {
	if m.s.Phase < PhaseOpen || m.s.Phase > PhasePosted {
		return
	}
	if m.s.Phase == PhaseOpen || m.s.Phase == PhaseFinishing {
		m.s.Why = fmt.Sprintf("version %d was published by the peer", e.Version)
	}
	m.s.OnChain = Posting{Epoch: e.Epoch, Version: e.Version, Deadline: e.Deadline}
	m.fx.Save = true
	m.setPhase(PhasePosted)
}

// supersede replaces an older version on chain with the newest one that the peer signed, until the chain shows it.
func (m *machine) supersede() {
	s := &m.s
	switch {
	case s.HasFinal:
		m.publishFinal()
	case s.Held.after(s.OnChain.Epoch, s.OnChain.Version):
		m.submitHeld(nil, fmt.Sprintf("supersede version %d", s.OnChain.Version))
	}
}

// settled: the contract has paid out. What is open now are the outputs of locks.
func (m *machine) settled(e ledger.ContractSettled) {
	s := &m.s
	if s.Phase < PhaseOpen || s.Phase > PhasePosted {
		return
	}
	s.OnChain = Posting{Epoch: e.Epoch, Version: e.Version, Final: e.Final, TxID: e.TxID, Deadline: s.OnChain.Deadline}
	m.setPhase(PhaseSettled)
	m.matchOutputs(e.Refund)
	onChain := make(map[LockKey]bool, len(s.Outputs))
	for _, o := range s.Outputs {
		onChain[o.Lock.Key()] = true
	}
	for _, l := range s.Current.Locks { // what is not an output can't be claimed by anybody any more
		if !onChain[l.Key()] {
			m.note(LockReturned{Lock: l})
		}
	}
}

// matchOutputs finds the known locks among the settled refund's outputs. One that this side has settled can be there, if the peer
// published a version from before that: it is the peer's to claim, and this side's again after its expiry.
func (m *machine) matchOutputs(refund []byte) {
	s := &m.s
	tx, err := ledger.DecodeMsgTx(refund)
	if err != nil { // the ledger has checked it
		m.void(fmt.Errorf("settled refund of channel %s: %w", s.ID, err))
		return
	}
	known := map[types.Hash][]Lock{} // several locks may have the same script
	seen := map[LockKey]bool{}
	given := make([]Lock, len(s.Given))
	for i, g := range s.Given {
		given[i] = g.Lock
	}
	for _, list := range [][]Lock{s.Current.Locks, s.Held.Locks, given} {
		for _, l := range list {
			if !seen[l.Key()] {
				seen[l.Key()] = true
				known[l.program] = append(known[l.program], l)
			}
		}
	}
	for i, out := range tx.TxOut {
		if !txscript.IsPayToWitnessScriptHash(out.PkScript) {
			continue
		}
		program := types.Hash(out.PkScript[2:])
		for j, l := range known[program] {
			if int64(l.Amount) != out.Value {
				continue
			}
			known[program] = append(append([]Lock(nil), known[program][:j]...), known[program][j+1:]...)
			_, live := s.Current.find(l.Key())
			s.Outputs = append(s.Outputs, Output{Index: uint32(i), Lock: l, Live: live || l.Funder == m.me()})
			break
		}
	}
	m.fx.Save = true
}

// spent follows the outputs of locks; a claim shows the preimage.
func (m *machine) spent(e ledger.OutputSpent) {
	i := m.output(e.Index)
	if i < 0 {
		return
	}
	outs := append([]Output(nil), m.s.Outputs...)
	o := &outs[i]
	wasDone := o.Done
	o.Done = true
	m.s.Outputs, m.fx.Save = outs, true
	p, claimed := htlc.Preimage(e.Witness, o.Lock.Hash)
	if claimed { // it opens every other lock with this hash, too
		for _, l := range m.learn([]types.Preimage{p}) {
			if l.Funder == m.me() {
				m.note(PreimageKnown{l})
			}
		}
	}
	l := m.s.Outputs[i].Lock
	switch {
	case wasDone || !o.Live:
	case claimed:
		m.note(LockSettled{l})
	default:
		m.note(LockReturned{Lock: l})
	}
}

func (m *machine) output(index uint32) int {
	for i := range m.s.Outputs {
		if m.s.Outputs[i].Index == index {
			return i
		}
	}
	return -1
}

// settleOutputs claims the outputs whose preimage is known and takes back this side's expired ones, until the chain shows it.
func (m *machine) settleOutputs() {
	s := &m.s
	if s.Phase != PhaseSettled {
		return
	}
	open := false
	for i := range s.Outputs {
		o := &s.Outputs[i]
		if o.Done {
			continue
		}
		mine, known := o.Lock.Funder == m.me(), !o.Lock.Preimage.IsZero()
		switch {
		case !mine && known:
			m.claim(o)
		case mine && m.env.Height >= o.Lock.Expiry:
			m.reclaim(o)
		case !mine && m.env.Height >= o.Lock.Expiry:
			m.giveUp(i)
			continue
		}
		open = true
	}
	if !open && m.err == nil {
		m.setPhase(PhaseClosed)
		m.note(Closed{Agreed: s.OnChain.Final})
	}
}

// giveUp stops waiting for the preimage of a lock that its funder can take back now.
func (m *machine) giveUp(i int) {
	outs := append([]Output(nil), m.s.Outputs...)
	outs[i].Done = true
	m.s.Outputs, m.fx.Save = outs, true
	if outs[i].Live {
		m.note(LockReturned{Lock: outs[i].Lock})
	}
}

func (m *machine) claim(o *Output) {
	tx, err := htlc.Claim(htlc.OutPoint(m.s.OnChain.TxID, o.Index), o.Lock.Amount, m.s.script(&o.Lock), o.Lock.Preimage,
		m.s.Keys[m.me()].Account, m.env.Keys.Lock)
	m.submitOutput(tx, err, fmt.Sprintf("claim lock %d", o.Lock.ID))
}

func (m *machine) reclaim(o *Output) {
	tx, err := htlc.Reclaim(htlc.OutPoint(m.s.OnChain.TxID, o.Index), o.Lock.Amount, m.s.script(&o.Lock),
		m.s.Keys[m.me()].Account, m.env.Keys.Lock)
	m.submitOutput(tx, err, fmt.Sprintf("take back expired lock %d", o.Lock.ID))
}

func (m *machine) submitOutput(tx *btcwire.MsgTx, err error, why string) {
	if err != nil {
		m.void(err)
		return
	}
	m.submit(Spend{Tx: htlc.EncodeTx(tx), Why: why})
}
