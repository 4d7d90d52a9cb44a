package chand

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

const (
	// openPatience is for how many inclusion times after its proposal a contract may be opened: enough for both sides' signatures and
	// some attempts, short enough that funds are free again soon.
	openPatience = 10
	// maxOpenings bounds the openings of one peer that are not on chain yet.
	maxOpenings = 16
)

// OpenRequest asks for a channel.
type OpenRequest struct {
	Peer         types.NodeID
	Mine, Theirs types.Amount
	Window       uint32 // blocks; 0: our own setting
	Private      bool   // never announced
	Key          string
}

// Open proposes a channel and returns once both sides have agreed and the contract is on its way (state "opening"). The channel
// carries payments once its state is "open".
func (d *Daemon) Open(ctx context.Context, q OpenRequest) (Channel, error) {
	if err := d.checkOpenRequest(q); err != nil {
		return Channel{}, err
	}
	if q.Key != "" {
		defer d.keys.lock("open/" + q.Key)()
		if id, ok, err := load[types.Hash](d.Store, bucketPayIndex, "open/"+q.Key); err != nil {
			return Channel{}, err
		} else if ok {
			return d.openedBefore(id, q)
		}
		if r := d.openingBy(q.Key); r != nil {
			return d.awaitAgain(ctx, r, q)
		}
	}
	timing := d.cfg.Timing
	if q.Window != 0 {
		timing.Window = q.Window
	}
	if err := timing.Check(); err != nil {
		return Channel{}, refuse(CodeInvalid, "ask for a longer dispute window", "%w", err)
	}
	var secret [72]byte
	if err := d.random(secret[:]); err != nil {
		return Channel{}, err
	}
	r := newRunner(d, q.Peer)
	r.info.KeyIndex = binary.BigEndian.Uint64(secret[64:]) >> 1
	r.height = d.Height()
	env := r.env()
	open := wire.Open{Temp: types.Hash(secret[:32]), Mine: q.Mine, Theirs: q.Theirs, Timing: timing, Rules: d.cfg.Rules,
		Keys: partyKeys(env.Keys, d.Account()), ValidUntil: r.height + types.Height(openPatience*(timing.Inclusion+1)), Salt: types.Hash(secret[32:64])}
	st, eff, err := channel.NewOpening(q.Peer, open, r.info.KeyIndex, env)
	if err != nil {
		return Channel{}, &Error{Code: CodeRefused, Text: err.Error(), Next: "open with other terms", Money: noMoneyMoved, Err: err}
	}
	r.info.OpenKey, r.info.Private = q.Key, q.Private
	done := make(chan error, 1)
	r.opened = append(r.opened, done)
	if err := d.start(r, st, eff); err != nil {
		return Channel{}, err
	}
	return d.awaitOpening(ctx, r, done)
}

func (d *Daemon) checkOpenRequest(q OpenRequest) error {
	if err := d.needAccount(); err != nil {
		return err
	}
	total, err := q.Mine.Add(q.Theirs)
	switch {
	case err != nil || total == 0 || q.Mine < 0 || q.Theirs < 0:
		return refuse(CodeInvalid, "say what each side puts in", "a channel of %s and %s", q.Mine, q.Theirs)
	case q.Peer == d.ID():
		return refuse(CodeInvalid, "name another node", "a channel with oneself")
	case len(q.Key) > maxKey:
		return refuse(CodeInvalid, "use a shorter key", "idempotency key of %d bytes: at most %d", len(q.Key), maxKey)
	case !d.peers.linked(q.Peer):
		return refuse(CodePeerOffline, "connect to it: chancli peer connect MULTIADDR", "the peer %s is not connected", q.Peer)
	}
	if _, ok := d.Chain.Head(); !ok {
		return refuse(CodeStale, "wait until the ledger is in sync", "the ledger as seen here is not fresh")
	}
	reserve := closeReserve * types.Amount(1+d.liveContracts())
	if acct, err := d.Chain.Account(d.Account()); err != nil || acct.Balance-reserve < q.Mine {
		return refuse(CodeFunds, "fund the account, or put in less", "account %s holds %s, wanted are %s and %s for fees when channels close",
			d.Account(), acct.Balance, q.Mine, reserve)
	}
	return nil
}

// liveContracts counts the contracts that may still cost a fee.
func (d *Daemon) liveContracts() (n int) {
	for _, r := range d.allRunners() {
		if v := r.view.Load(); v != nil && v.State.Phase >= channel.PhaseFunding && v.State.Phase < channel.PhaseClosed {
			n++
		}
	}
	return n
}

func (d *Daemon) openedBefore(id types.ChannelID, q OpenRequest) (Channel, error) {
	c, err := d.Channel(id)
	if err == nil && (c.Peer != q.Peer || c.PutIn != q.Mine) {
		return c, conflict(q.Key)
	}
	return c, err
}

// openingBy finds the opening that a key began and that the peer has not agreed to yet.
func (d *Daemon) openingBy(key string) *runner {
	for _, r := range d.allRunners() {
		if v := r.view.Load(); v != nil && v.Info.OpenKey == key && v.State.Phase < channel.PhaseClosed {
			return r
		}
	}
	return nil
}

// awaitAgain waits for an opening that the same command began before.
func (d *Daemon) awaitAgain(ctx context.Context, r *runner, q OpenRequest) (Channel, error) {
	if v := r.view.Load(); v.State.Peer != q.Peer || v.State.Funding != [2]types.Amount{q.Mine, q.Theirs} {
		return Channel{}, conflict(q.Key)
	}
	done := make(chan error, 1)
	r.box.force(func(b *batch) {
		r.opened = append(r.opened, done)
		if b.state.Phase != channel.PhaseProposed {
			b.then(func() { r.agreed(nil) })
		}
	})
	return d.awaitOpening(ctx, r, done)
}

func (d *Daemon) awaitOpening(ctx context.Context, r *runner, done <-chan error) (Channel, error) {
	select {
	case err := <-done:
		if err != nil {
			return Channel{}, err
		}
		return r.view.Load().show(d), nil
	case <-ctx.Done():
		return Channel{}, &Error{Code: CodeBusy, Text: "the peer has not answered yet", Next: "see `channel list`, or ask again with the same idempotency key",
			Money: "nothing is locked before both have signed; an opening that is not completed ends by itself", Err: ctx.Err()}
	case <-d.life.ctx.Done():
		return Channel{}, errStopping()
	}
}

func partyKeys(k channel.Keys, account types.AccountID) wire.PartyKeys {
	return wire.PartyKeys{Fund: types.PubKey(k.Fund.PubKey().SerializeCompressed()), Close: types.PubKey(k.Close.PubKey().SerializeCompressed()),
		Lock: types.PubKey(k.Lock.PubKey().SerializeCompressed()), Account: account}
}

// start gives a new channel its goroutine, which saves the first state and only then sends.
func (d *Daemon) start(r *runner, st channel.State, eff channel.Effects) error {
	if !d.running.Load() {
		return refuse(CodeBusy, "try again in a moment", "the daemon is starting")
	}
	<-d.ready
	r.state = st
	r.linked = true
	if !d.register(r, stateKey(&st)) {
		return refuse(CodeBusy, "close channels that are not used", "more than %d channels", maxRunners)
	}
	d.register(r, st.Temp)
	r.box.force(func(b *batch) { r.absorb(b, st, eff) })
	if !d.peers.linked(r.peer) { // it broke meanwhile, before the runner could be told
		r.box.force(mailLink{up: false})
	}
	d.life.run("runner", r.run)
	return nil
}

// acceptOpen answers a peer's proposal by our policy: the amounts we may put in, our room, our rules.
func (d *Daemon) acceptOpen(peer types.NodeID, o *wire.Open) {
	if r := d.runner(o.Temp); r != nil {
		d.toRunner(r, peer, o)
		return
	}
	r, st, eff, err := d.considerOpen(peer, o)
	if err == nil {
		err = d.start(r, st, eff)
	}
	if err != nil {
		d.Log.Info("a channel that a peer proposes is refused", "peer", peer, "why", err)
		d.send(peer, &wire.Refuse{ID: o.Temp, Text: clipText(err.Error())})
	}
}

func (d *Daemon) considerOpen(peer types.NodeID, o *wire.Open) (r *runner, st channel.State, eff channel.Effects, err error) {
	pending := 0
	for _, r := range d.allRunners() {
		if v := r.view.Load(); r.peer == peer && v.State.Phase < channel.PhaseOpen {
			pending++
		}
	}
	switch _, fresh := d.Chain.Head(); {
	case d.needAccount() != nil:
		err = fmt.Errorf("this daemon has no ledger account yet")
	case !fresh:
		err = errors.New(NotFresh)
	case o.Timing.Inclusion < d.cfg.Timing.Inclusion || o.Timing.Downtime < d.cfg.Timing.Downtime:
		err = fmt.Errorf("this daemon may need %d blocks to get a transaction in and be down for %d; proposed were %d and %d, too few to answer in time",
			d.cfg.Timing.Inclusion, d.cfg.Timing.Downtime, o.Timing.Inclusion, o.Timing.Downtime)
	case o.Theirs > d.cfg.MaxContribution:
		err = fmt.Errorf("this daemon puts at most %s into a channel that others propose, asked were %s", d.cfg.MaxContribution, o.Theirs)
	case pending >= maxOpenings:
		err = fmt.Errorf("%d openings of yours are not completed; wait for them", pending)
	}
	if err == nil && o.Theirs > 0 {
		acct, e := d.Chain.Account(d.Account())
		if e != nil || acct.Balance-closeReserve*types.Amount(1+d.liveContracts()) < o.Theirs {
			err = fmt.Errorf("this daemon's account does not hold the %s asked for", o.Theirs)
		}
	}
	if err != nil {
		return nil, st, eff, err
	}
	var b [8]byte
	if err = d.random(b[:]); err != nil {
		return nil, st, eff, err
	}
	r = newRunner(d, peer)
	r.info.KeyIndex = binary.BigEndian.Uint64(b[:]) >> 1
	r.height = d.Height()
	env := r.env()
	st, eff, err = channel.AcceptOpening(peer, o, d.cfg.Rules, partyKeys(env.Keys, d.Account()), r.info.KeyIndex, env)
	return r, st, eff, err
}

// Close starts an agreed close, or with force a one-sided one. A close that is under way already is no error.
func (d *Daemon) Close(ctx context.Context, id types.ChannelID, force bool) (Channel, error) {
	r := d.runner(id)
	if r == nil {
		c, err := d.Channel(id)
		if err == nil {
			return c, nil
		}
		return Channel{}, refuse(CodeNotFound, "see `channel list`", "no channel %s", id)
	}
	if phase := r.view.Load().State.Phase; phase > channel.PhaseOpen && !(force && phase == channel.PhaseFinishing) {
		return r.view.Load().show(d), nil
	}
	done := make(chan error, 1)
	if !r.box.put(mailClose{force: force, done: done}) {
		return Channel{}, busy()
	}
	select {
	case err := <-done:
		if err != nil {
			return Channel{}, &Error{Code: CodePhase, Text: err.Error(), Next: "see `channel list`", Money: "the channel stays as it is", Err: err}
		}
		return r.view.Load().show(d), nil
	case <-ctx.Done():
		return Channel{}, ctx.Err()
	case <-d.life.ctx.Done():
		return Channel{}, errStopping()
	}
}

// actionBody makes the ledger transaction of a channel's chain action.
func (d *Daemon) actionBody(a channel.ChainAction) (kind string, body ledger.Body, err error) {
	switch v := a.(type) {
	case channel.OpenContract:
		o := ledger.OpenContract{ContractBody: v.Body}
		for i, f := range v.Body.Funders { // the submitter's own consent is the transaction's signature
			if f.Account != d.Account() && i < len(v.FundSigs) {
				o.Signatures = append(o.Signatures, v.FundSigs[i])
			}
		}
		return "open contract", o, nil
	case channel.Spend:
		var sig *[64]byte
		if len(v.CloseSig) == 64 {
			s := [64]byte(v.CloseSig)
			sig = &s
		}
		spend, err := ledger.NewSpend(v.Tx, sig)
		return v.Why, spend, err
	}
	return "", nil, fmt.Errorf("%T is not a chain action", a)
}

// actionKey names an action, so that one that is pending is not doubled.
func actionKey(id types.ChannelID, kind string, body ledger.Body) string {
	raw, _, err := ledger.Sign([32]byte{}, types.Hash{}, ledger.Head{}, body)
	if err != nil {
		return "channel/" + id.String() + "/" + kind
	}
	return "channel/" + types.SHA256(raw).String()
}

// clipText bounds text to what a message carries, and keeps it text.
func clipText(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), wire.MaxText)], "?")
}
