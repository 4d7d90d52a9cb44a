package mallory

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Puppet is a channel that she has taken from her daemon: the automaton of package channel without the rules of package chand around it.
// It acknowledges what comes and gives the turn when asked for; all else is what a test makes it do. Safe for concurrent use.
type Puppet struct {
	m  *Daemon
	mu sync.Mutex
	// guarded by mu
	state   channel.State
	notices []channel.Notice
	silent  bool
}

// Seize takes an open channel on which nothing is under way.
func (m *Daemon) Seize(id types.ChannelID) (*Puppet, error) {
	p := &Puppet{m: m}
	m.Link.mu.Lock()
	defer m.Link.mu.Unlock()
	p.state = m.State(id)
	if p.state.Phase != channel.PhaseOpen || p.state.Unacked() > 0 {
		return nil, fmt.Errorf("channel %s is %s with %d updates under way", id, p.state.Phase, p.state.Unacked())
	}
	p.state.Link = channel.LinkIsReady // her daemon has exchanged Reestablish
	m.Link.puppets[id] = p
	return p, nil
}

// State is the puppet's.
func (p *Puppet) State() channel.State { p.mu.Lock(); defer p.mu.Unlock(); return p.state }

// Silence makes it answer nothing any more.
func (p *Puppet) Silence() { p.mu.Lock(); defer p.mu.Unlock(); p.silent = true }

// Saw tells whether a notice came of which is says true.
func (p *Puppet) Saw(is func(channel.Notice) bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.notices {
		if is(n) {
			return true
		}
	}
	return false
}

func (p *Puppet) env() channel.Env {
	head, _ := p.m.Chain.Head()
	return channel.Env{Height: head.Height, Now: types.Time(time.Now().Unix()), Genesis: p.m.Chain.Params().Genesis, Keys: p.m.keys(&p.state)}
}

// step runs the automaton and sends. The caller has the lock.
func (p *Puppet) step(in channel.Input) error {
	s, eff, err := channel.Step(p.state, in, p.env())
	if err != nil {
		return err
	}
	p.state = s
	p.notices = append(p.notices, eff.Notices...)
	p.m.records.note(s)
	for _, m := range eff.Send {
		if err := p.m.Link.Say(s.Peer, m); err != nil {
			return err
		}
	}
	for _, n := range eff.Notices {
		if _, ok := n.(channel.TurnWanted); ok {
			if err := p.step(channel.GiveTurn{}); err != nil && !errors.Is(err, channel.ErrIgnored) {
				return err
			}
		}
	}
	return nil
}

func (p *Puppet) hear(m wire.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := m.(wire.ChannelMessage); ok && !p.silent {
		_ = p.step(channel.Message{Msg: c}) // what the automaton refuses is nothing to a puppet
	}
}

// Do feeds an input to the automaton and sends what follows.
func (p *Puppet) Do(in channel.Input) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.step(in)
}

// Say sends a message as it is.
func (p *Puppet) Say(m wire.Message) error { return p.m.Link.Say(p.State().Peer, m) }

// SayFrame sends bytes as they are.
func (p *Puppet) SayFrame(frame []byte) error { return p.m.Link.Node.Send(p.State().Peer, frame) }

// Next is the version that follows the newest one, changed by edit.
func (p *Puppet) Next(edit func(v *channel.Version)) channel.Version {
	v := p.State().Current
	v.Number++
	v.Locks = append([]channel.Lock(nil), v.Locks...)
	if edit != nil {
		edit(&v)
	}
	return v
}

// Forge says an update with these operations and her valid signature on any version whatsoever, and goes on in silence.
func (p *Puppet) Forge(ops []wire.Op, v channel.Version) error {
	s := p.State()
	sig, err := p.m.SignVersion(&s, &v)
	if err != nil {
		return err
	}
	p.Silence()
	return p.Say(&wire.Update{ID: s.ID, Version: v.Number, Ops: ops, Sig: sig})
}

// SignVersion makes her signature on a version of a channel as the ledger would check it. It is made from Bitcoin's own rules (BIP 143), not by
// package channel, which would refuse.
func (m *Daemon) SignVersion(s *channel.State, v *channel.Version) (sig wire.Sig, err error) {
	tx := btcwire.NewMsgTx(int32(v.Epoch))
	in := btcwire.NewTxIn(&btcwire.OutPoint{Hash: chainhash.Hash(s.ID)}, nil, nil)
	in.Sequence = 1<<31 | v.Number
	tx.AddTxIn(in)
	for side, a := range v.Balance {
		if a != 0 {
			tx.AddTxOut(btcwire.NewTxOut(int64(a), htlc.AccountScript(s.Keys[side].Account)))
		}
	}
	for _, l := range v.Locks {
		lock := htlc.Lock{Payer: s.Keys[l.Funder].Lock, Payee: s.Keys[l.Funder.Other()].Lock, Hash: l.Hash, Expiry: l.Expiry}
		tx.AddTxOut(btcwire.NewTxOut(int64(l.Amount), htlc.P2WSH(lock.ScriptHash())))
	}
	script := htlc.ContractScript(s.Keys[0].Fund, s.Keys[1].Fund)
	fetcher := txscript.NewCannedPrevOutputFetcher(htlc.P2WSH(types.SHA256(script)), int64(s.Capacity()))
	hash, err := txscript.CalcWitnessSigHash(script, txscript.NewTxSigHashes(tx, fetcher), txscript.SigHashAll, tx, 0, int64(s.Capacity()))
	if err != nil {
		return sig, err
	}
	made := ecdsa.Sign(m.keys(s).Fund, hash)
	r, ss := made.R(), made.S()
	r.PutBytesUnchecked(sig[:32])
	ss.PutBytesUnchecked(sig[32:])
	return sig, nil
}
