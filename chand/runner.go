package chand

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

const (
	// maxDrain is how many inputs share one commit. More would lengthen the wait of the first one.
	maxDrain = 512
	// peerQueue is how many frames of one channel wait before its peer's link is no longer read.
	peerQueue = 64
	// blockQueue is how many blocks an owner may lag behind before the watcher waits for it.
	blockQueue = 8
	// maxCommands bounds commands that wait for one channel's turn: more are answered "busy".
	maxCommands = 8192
	// turnPatience is after how many blocks without the turn a waiting command is refused.
	turnPatience = 10
	// updateRoom is how many bytes of operations go into one update; the rest of a frame is its head.
	updateRoom = wire.MaxFrame - 1024
)

// runner is the one goroutine that owns a channel: its state, its outbox, the records of its locks. It takes inputs,
// steps each, saves everything that they changed in ONE commit, and only then sends, submits and answers.
type runner struct {
	d    *Daemon
	log  *slog.Logger
	peer types.NodeID

	fromPeer chan any // mailMessage, mailLink: in the order of the link
	blocks   chan ledger.BlockEvents
	box      *mailbox[any]               // everything else
	over     chan struct{}               // closed when run has ended
	seen     atomic.Uint32               // height processed; written by run
	view     atomic.Pointer[channelView] // newest saved state, for everybody; written by run

	// All below is owned by run.
	state    channel.State
	info     chanRecord
	saved    types.ChannelID // id that the saved records stand under; zero: nothing saved yet
	keys     channel.Keys
	outbox   []*wire.Update // kept until acknowledged, by version
	lazy     []types.Write  // go with the next save
	linked   bool
	named    bool   // reachable under the final id
	asked    bool   // the turn was asked for
	silent   uint32 // blocks for which the turn was asked for, on a link that works, and did not come
	wanted   bool   // the peer asked for the turn
	queue    []*request
	backs    []uint64                  // incoming locks to give back when the turn allows
	refunds  []wire.Pay                // unwanted payments to give back likewise
	releases map[uint64]types.Preimage // outgoing locks to settle likewise
	outgoing map[uint64]*outgoing
	incoming map[uint64]*incomingRecord
	pays     map[types.Hash]*payment // Pay operations whose receipt is missing
	spont    []*payment              // spontaneous Pay operations not yet acknowledged, by version
	receipts receipts
	streams  []*outStream // being sent over this channel
	ready    []*outStream // of them those with payments that are not signed
	// inStreams are the received streams that were met lately, as they are saved.
	inStreams map[types.Hash]*streamRecord
	height    types.Height
	opened    []chan<- error           // waiters for the opening to be agreed
	warned    map[channel.LockKey]bool // open locks whose deadline was said to be near
	caughtUp  types.Height             // the first block that was the newest when it was taken; 0: none since the start
}

// batch collects what a round of inputs did, until it is saved.
type batch struct {
	state  channel.State
	save   bool
	info   bool // the chanRecord changed
	writes []types.Write
	// streams are records to be saved as they stand at the end of the batch.
	streams []touched
	send    []wire.Message
	chain   []channel.ChainAction
	after   []func()
}

func (b *batch) write(w ...types.Write) { b.writes = append(b.writes, w...) }
func (b *batch) then(f func())          { b.after = append(b.after, f) }

func (r *runner) run(ctx context.Context) error {
	defer close(r.over)
	// What the load has left comes first, above all that the state came from a backup: a link that is up by now must not be heard
	// of before that.
	inputs := r.box.take(maxDrain)
	for {
		if err := r.round(ctx, inputs); err != nil {
			return fmt.Errorf("channel %s: %w", r.state.ID, err)
		}
		if r.finished() {
			break
		}
		first, ok := r.wait(ctx)
		if !ok {
			return nil
		}
		inputs = r.drain(first)
	}
	r.refuseAll()
	r.d.unregister(r)
	return nil
}

// wait returns the next input, nil when the mailbox has some; ok is false when ctx has ended. Blocks that change nothing end here: with thousands of
// quiet channels a round for each would keep the processor busy, and their stacks large.
func (r *runner) wait(ctx context.Context) (first any, ok bool) {
	for {
		select {
		case <-ctx.Done():
			return nil, false
		case first = <-r.fromPeer:
			return first, true
		case <-r.box.wake:
			return nil, true
		case b := <-r.blocks:
			if b.Height <= r.height || !r.quiet() || r.concerned(b.Events) {
				return b, true
			}
			r.height = b.Height
			r.seen.Store(uint32(b.Height))
		}
	}
}

// quiet tells whether nothing in this channel depends on the height: it is open, and neither locks nor anything else waits.
func (r *runner) quiet() bool {
	s := &r.state
	return s.Phase == channel.PhaseOpen && len(s.Current.Locks) == 0 && !s.CloseAsked[0] && !s.CloseAsked[1] && !s.Restored && s.Offered == 0 && r.named &&
		!r.asked && !r.wanted && len(r.queue)+len(r.backs)+len(r.refunds)+len(r.releases)+len(r.outgoing)+len(r.incoming) == 0
}

// concerned tells whether a block holds an event about this open channel; outputs of others' channels don't matter to it.
func (r *runner) concerned(events []ledger.Event) bool {
	for _, e := range events {
		switch v := e.(type) {
		case ledger.ContractOpened:
			if v.ID == r.state.ID {
				return true
			}
		case ledger.ContractPosted:
			if v.ID == r.state.ID {
				return true
			}
		case ledger.ContractSettled:
			if v.ID == r.state.ID {
				return true
			}
		}
	}
	return false
}

// finished tells whether nothing is left to do for this channel: it is over, and nobody waits for what it knows.
func (r *runner) finished() bool {
	return (r.state.Phase == channel.PhaseClosed || r.state.Phase == channel.PhaseFailed) && len(r.outgoing) == 0 && len(r.incoming) == 0
}

// refuseAll answers what came too late.
func (r *runner) refuseAll() {
	gone := refuse(CodePhase, "use another channel", "the channel is %s", r.state.Phase)
	for _, m := range r.box.take(1 << 30) {
		switch v := m.(type) {
		case mailRequest:
			v.fail(gone)
		case mailOutcome:
			if v.ack != nil {
				v.ack()
			}
		case mailRelease:
			v.missed("the next channel is over")
		case mailReleased:
			v.ack()
		case mailClose:
			v.done <- nil
		case mailSettle:
			v.done <- gone
		case mailGiveBack:
			v.done <- gone
		}
	}
}

// reestablished repeats what only this daemon knows and the old link may have lost.
func (r *runner) reestablished(b *batch) {
	r.resendReceipts(b)
	// Only now can announcement signatures be exchanged; those of an earlier link may not have arrived.
	b.then(func() { r.d.announcer.box.force(mailOpened{r}) })
}

// drain takes what is there without waiting, in bounded number.
func (r *runner) drain(first any) []any {
	var in []any
	if first != nil {
		in = append(in, first)
	}
	in = append(in, r.box.take(maxDrain)...)
	for len(in) < maxDrain {
		select {
		case m := <-r.fromPeer:
			in = append(in, m)
		case b := <-r.blocks:
			in = append(in, b)
		default:
			return in
		}
	}
	return in
}

// round is the life of a batch: step, save, send.
func (r *runner) round(ctx context.Context, inputs []any) error {
	b := &batch{state: r.state}
	for _, in := range inputs {
		r.take(b, in)
	}
	r.propose(b)
	if err := r.commit(ctx, b); err != nil { // the commit point: nothing below happens before it is durable
		return err
	}
	r.state = b.state
	r.publish()
	if !r.state.ID.IsZero() && !r.named { // an opening gets its final id
		r.named = r.d.register(r, r.state.ID)
	}
	r.deliver(b)
	for _, action := range b.chain {
		r.d.submitAction(r.state.ID, action)
	}
	for _, f := range b.after {
		f()
	}
	if r.height != 0 {
		r.seen.Store(uint32(r.height))
	}
	return nil
}

// commit saves state, outbox and records of a batch in one transaction.
func (r *runner) commit(ctx context.Context, b *batch) error {
	writes := b.writes
	id := stateKey(&b.state)
	if b.save && r.saved != id {
		if !r.saved.IsZero() { // an opening gets its final id
			writes = append(writes, del(bucketChannel, r.saved.String()), del(bucketChanInfo, r.saved.String()))
		}
		b.info = true
	}
	if b.info {
		writes = append(writes, put(bucketChanInfo, id.String(), r.info))
	}
	if b.save {
		writes = append(writes, types.Write{Bucket: bucketChannel, Key: id.String(), Value: b.state.Encode()})
	}
	for _, t := range b.streams {
		writes = append(writes, put(bucketStream, t.key, *t.rec))
	}
	if len(writes) == 0 {
		return nil
	}
	// What waited comes first: in a new epoch the numbers of updates come again, and what is deleted then must not be the new ones.
	writes = append(r.lazy, writes...)
	r.lazy = nil
	if err := r.d.Store.Commit(ctx, writes...); err != nil {
		return fmt.Errorf("saving the channel's new state: %w", err)
	}
	if b.save {
		r.saved = id
	}
	return nil
}

// deliver sends a batch's messages. A link that does not take one is dropped, so that both sides start over with Reestablish.
func (r *runner) deliver(b *batch) {
	for _, m := range coalesce(b.send) {
		if err := r.d.Transport.Send(r.peer, wire.Encode(m)); err != nil {
			r.log.Info("a message was not taken by the link", "type", m.MessageType(), "err", err)
			r.d.Transport.Drop(r.peer, "a message could not be sent: "+err.Error())
			return
		}
	}
}

// coalesce leaves out acknowledgements that a later one of the same batch covers, joins reveals and receipts, and puts these first
// as somebody waits for them: they depend on no other message of the batch but the start of a link.
func coalesce(list []wire.Message) []wire.Message {
	var out []wire.Message
	var ack, reveal, receipt = -1, -1, -1
	for _, m := range list {
		switch v := m.(type) {
		case *wire.Ack:
			if ack >= 0 {
				out[ack] = nil
			}
			ack = len(out)
		case *wire.Reveal:
			if reveal >= 0 && len(v.Preimages)+len(out[reveal].(*wire.Reveal).Preimages) <= wire.MaxOps {
				joined := *out[reveal].(*wire.Reveal)
				joined.Preimages = append(slices.Clone(joined.Preimages), v.Preimages...)
				out[reveal] = &joined
				continue
			}
			reveal = len(out)
		case *wire.Receipt:
			if receipt >= 0 && len(v.Preimages)+len(out[receipt].(*wire.Receipt).Preimages) <= wire.MaxOps {
				joined := *out[receipt].(*wire.Receipt)
				joined.Preimages = append(slices.Clone(joined.Preimages), v.Preimages...)
				out[receipt] = &joined
				continue
			}
			receipt = len(out)
		case *wire.Reestablish:
			ack, reveal, receipt = -1, -1, -1 // nothing moves across the start of a link
		}
		out = append(out, m)
	}
	out = slices.DeleteFunc(out, func(m wire.Message) bool { return m == nil })
	start := 0
	for i, m := range out {
		if _, ok := m.(*wire.Reestablish); ok {
			start = i + 1
		}
	}
	slices.SortStableFunc(out[start:], func(a, b wire.Message) int { return rank(a) - rank(b) })
	return out
}

// rank is 0 for what somebody waits for.
func rank(m wire.Message) int {
	switch m.(type) {
	case *wire.Reveal, *wire.Receipt:
		return 0
	}
	return 1
}

// step runs one input through the automaton and collects what it wants done.
func (r *runner) step(b *batch, in channel.Input) (channel.Effects, error) {
	next, eff, err := channel.Step(b.state, in, r.envFor(in))
	if err != nil {
		return eff, err
	}
	r.absorb(b, next, eff)
	return eff, nil
}

// absorb collects the effects of a step that was taken.
func (r *runner) absorb(b *batch, next channel.State, eff channel.Effects) {
	b.state = next
	b.save = b.save || eff.Save
	if eff.OutboxAcked > 0 {
		n := 0
		for ; n < len(r.outbox) && r.outbox[n].Version <= eff.OutboxAcked; n++ {
			r.lazy = append(r.lazy, del(bucketOutbox, outboxKey(next.ID, r.outbox[n].Version)))
		}
		r.outbox = r.outbox[n:]
	}
	if eff.Resend > 0 {
		for _, u := range r.outbox {
			if u.Version >= eff.Resend {
				b.send = append(b.send, u)
			}
		}
	}
	for _, u := range eff.Outbox {
		r.outbox = append(r.outbox, u)
		b.write(types.Write{Bucket: bucketOutbox, Key: outboxKey(next.ID, u.Version), Value: wire.Encode(u)})
	}
	b.send = append(b.send, eff.Send...)
	b.chain = append(b.chain, eff.Chain...)
	for _, n := range eff.Notices {
		r.notice(b, n)
	}
}

// take handles one input.
func (r *runner) take(b *batch, in any) {
	var err error
	switch m := in.(type) {
	case mailMessage:
		save, phase := b.save, b.state.Phase
		_, err = r.step(b, channel.Message{Msg: m.msg})
		if _, update := m.msg.(*wire.Update); update && err == nil && b.state.Phase == phase {
			r.d.signers.met(b.state.Keys[b.state.Side.Other()].Fund)
			r.acked(b, b.state.Held.Number) // who signs on has saved what came before, even if its word of that was lost
		}
		if _, ack := m.msg.(*wire.Ack); ack && err == nil && b.state.Phase == phase {
			// What an acknowledgement says is asked for again on every new link: it waits for the next save. Payments that it
			// decides have writes of their own.
			b.save = save
		}
		if err != nil && !errors.Is(err, channel.ErrIgnored) {
			r.d.stray(r.peer, fmt.Sprintf("message type %d: %v", m.msg.MessageType(), err))
		}
		return
	case mailLink:
		r.link(b, m.up)
	case ledger.BlockEvents:
		r.block(b, m)
	case mailRequest:
		r.enqueue(b, m.request)
	case mailStream:
		if slices.Contains(r.streams, m.s) && !slices.Contains(r.ready, m.s) {
			r.ready = append(r.ready, m.s)
		}
	case mailOutcome:
		r.outcome(b, m)
	case mailRelease:
		r.release(b, m)
	case mailForget:
		r.forget(b, m.lock)
	case mailGiveBack:
		err := r.giveBack(b, m.lock)
		b.then(func() { m.done <- err })
	case mailSettle:
		err := r.settleEscrow(b, m.lock)
		b.then(func() { m.done <- err })
	case mailReleased:
		r.released(b, m)
	case mailPart:
		r.part(b, m)
	case func(*batch):
		m(b)
	case mailClose:
		var cmd channel.Input = channel.Close{}
		if m.force {
			cmd = channel.ForceClose{}
		}
		_, err = r.step(b, cmd)
		if errors.Is(err, channel.ErrIgnored) {
			err = nil
		}
		done := m.done
		b.then(func() { done <- err })
	case mailAnnounce:
		_, err = r.step(b, m.in)
		if err != nil && !errors.Is(err, channel.ErrIgnored) {
			r.log.Info("the announcement is not sent", "why", err)
		}
	}
}

// link tells the automaton of the link. What waits for the turn can't be signed without one and is refused.
func (r *runner) link(b *batch, up bool) {
	r.linked, r.asked, r.wanted = up, false, false
	var in channel.Input = channel.LinkDown{}
	if up {
		in = channel.LinkUp{}
	}
	if _, err := r.step(b, in); err != nil && !errors.Is(err, channel.ErrIgnored) {
		r.log.Info("link event", "up", up, "why", err)
	}
	if !up {
		r.refuseQueue(b, refuse(CodePeerOffline, "try again when the peer is connected", "the link to %s broke before the payment was signed", r.peer))
		return
	}
}

// enqueue takes a command, or refuses it at once when it could not be signed soon.
func (r *runner) enqueue(b *batch, q *request) {
	var err error
	switch {
	case b.state.Phase != channel.PhaseOpen:
		err = refuse(CodePhase, "use another channel", "channel %s is %s", b.state.ID, b.state.Phase)
	case !r.linked:
		err = refuse(CodePeerOffline, "try again when the peer is connected", "the peer %s is not connected", r.peer)
	case q.pay != nil && len(r.pays)+len(r.spont) >= maxReceipts:
		err = refuse(CodeBusy, "wait until some end", "%d payments in this channel wait for the peer's receipt", maxReceipts)
	}
	if err != nil {
		b.then(func() { q.fail(err) })
		return
	}
	q.since = r.height
	r.queue = append(r.queue, q)
}

// ask hands a command to the runner.
func (r *runner) ask(q *request) error {
	if !r.box.put(mailRequest{q}) {
		return busy()
	}
	return nil
}

func (r *runner) refuseQueue(b *batch, err error) {
	for _, q := range r.queue {
		b.then(func() { q.fail(err) })
	}
	r.queue = nil
}

// block feeds one block of the ledger, with the events that concern this channel.
func (r *runner) block(b *batch, ev ledger.BlockEvents) {
	if ev.Height <= r.height {
		return
	}
	r.height = ev.Height
	if _, err := r.step(b, channel.Block{Events: r.mine(b.state.ID, ev.Events)}); err != nil && !errors.Is(err, channel.ErrIgnored) {
		r.log.Warn("a block was not taken", "height", ev.Height, "why", err)
	}
	r.deadlines(b)
	r.warn(b)
	r.remind(b)
	r.turnWithheld(b)
	n := 0
	for ; n < len(r.queue) && ev.Height > r.queue[n].since+turnPatience; n++ {
		q := r.queue[n]
		b.then(func() {
			q.fail(refuse(CodeBusy, "try again, or close the channel if the peer stays silent",
				"the peer has not handed over the turn for %d blocks", turnPatience))
		})
	}
	r.queue = r.queue[n:]
}

// turnWithheld closes the channel when the peer has not handed over the turn for as long as a dispute takes: who keeps the turn for
// ever keeps our money from moving. Only the turn itself ends the count, so that breaking the link now and then does not help.
func (r *runner) turnWithheld(b *batch) {
	if !r.linked || !r.asked || b.state.Phase != channel.PhaseOpen {
		return
	}
	if r.silent++; r.silent <= b.state.Timing.Window {
		return
	}
	r.silent = 0
	if _, err := r.step(b, channel.ForceClose{}); err != nil {
		r.log.Warn("the channel can't be closed", "why", err)
		return
	}
	r.info.Fault, b.info = fmt.Sprintf("the peer did not hand over the turn for %d blocks; closed with the newest version", b.state.Timing.Window), true
	text := fmt.Sprintf("channel %s: %s", b.state.ID, r.info.Fault)
	b.then(func() { r.d.emit("warning", text, nil) })
}

// mine are the events about this channel; spent outputs are passed on as only the automaton knows which are its own.
func (r *runner) mine(id types.ChannelID, events []ledger.Event) []ledger.Event {
	var out []ledger.Event
	for _, e := range events {
		keep := false
		switch v := e.(type) {
		case ledger.ContractOpened:
			keep = v.ID == id
		case ledger.ContractPosted:
			keep = v.ID == id
		case ledger.ContractSettled:
			keep = v.ID == id
		case ledger.OutputSpent:
			keep = true
		}
		if keep {
			out = append(out, e)
		}
	}
	return out
}

// stateKey is the id that a channel is saved under: the temporary one until the final one is known.
func stateKey(s *channel.State) types.ChannelID {
	if s.ID.IsZero() {
		return s.Temp
	}
	return s.ID
}

// envFor gives a block's step the block's height, everything else the newest one: after a restart commands come before the
// blocks that were missed.
func (r *runner) envFor(in channel.Input) channel.Env {
	env := r.env()
	if _, block := in.(channel.Block); !block {
		env.Height = r.d.chainView(r.height).Height
	} else {
		env.Starting = r.starting()
	}
	return env
}

// startBlocks is for how many blocks after it has caught up a daemon that was down leaves open locks to its peers, who may be waiting to settle
// them or give them back. They count as part of its downtime.
const startBlocks = 3

// starting tells, of the block that is taken now, whether the peer had no chance yet to say what happened while this daemon was down.
func (r *runner) starting() bool {
	if r.caughtUp == 0 {
		if head, _ := r.d.Chain.Head(); r.height < head.Height {
			return true
		}
		r.caughtUp = r.height
	}
	return r.height < r.caughtUp+startBlocks
}

func (r *runner) env() channel.Env {
	secret := r.d.cfg.AccountSecret
	return channel.Env{
		Height: r.height, Now: r.d.now(), Genesis: r.d.genesis,
		Keys:       r.ownKeys(),
		Tables:     r.d.signers.table,
		RenewAt:    r.d.cfg.RenewAt,
		HasAccount: func(id types.AccountID) bool { _, err := r.d.Chain.Account(id); return err == nil },
		FundSign:   func(body ledger.ContractBody) [64]byte { return body.SignAsFunder(secret, r.d.genesis) },
	}
}

// ownKeys derives this side's keys once: it takes as long as some signatures.
func (r *runner) ownKeys() channel.Keys {
	if r.keys.Fund == nil {
		r.keys = channelKeys(r.d.cfg.Seed, r.info.KeyIndex)
	}
	return r.keys
}

func channelKeys(seed types.Seed, index uint64) channel.Keys {
	return channel.Keys{Fund: seed.ChannelKey("fund", index), Close: seed.ChannelKey("close", index), Lock: seed.ChannelKey("lock", index)}
}
