package escd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

const (
	// deskGroup is how many transactions go through the desk together, when as many wait: signatures of one key are cheaper the more of
	// them there are, and each core verifies some thousands at a time.
	deskGroup = 8192
	// deskQueue bounds the requests that wait for the desk, deskBytes their transactions: a second's worth.
	deskQueue = 4096
	deskBytes = 32 << 20
	// minPromise is the least number of blocks that a receipt allows for. A ledger with a longer delay of direct transactions allows as
	// long as that: what was promised before goes first all the same.
	minPromise = 8
)

// desk takes the transactions of this node's accounts: it merges what comes in at the same time, verifies signatures on all cores,
// gives each a place in one of the node's next messages, makes that durable, and only then answers. desk_message.go signs and sends
// the messages.
//
// Three goroutines pass groups on in order, so that one is verified while the next is decoded; the log's goroutine answers.
type desk struct {
	n       *Node
	app     *app
	node    uint16
	secret  [32]byte
	genesis types.Hash
	promise types.Height
	log     *deskLog
	logger  *slog.Logger

	queue chan *deskRequest
	bytes atomic.Int64 // of what is in the queue or under way
	live  context.Context

	// pool is guarded by app.mu, as are deadlines (of messages that no block has) and the order of records in the log.
	pool      *ledger.Pool
	deadlines map[uint32]types.Height
	closed    error        // guarded by app.mu: why nothing is admitted any more
	announced types.Height // guarded by app.mu: when the office's address was put into a message last

	durable atomic.Uint32 // number of the last message whose signature is in the log for good
	cutting chan struct{} // wakes the cutter
	sending chan struct{} // wakes the sender
	work    sync.WaitGroup
}

// deskRequest is a list of transactions that somebody waits for.
type deskRequest struct {
	txs  [][]byte
	size int64
	out  []admission
	err  error // the whole request failed; nothing is known of its transactions
	done chan struct{}
}

// admission is what became of one transaction.
type admission struct {
	id     types.Hash
	from   types.AccountID
	msid   uint32
	place  ledger.Place
	until  types.Height // the receipt's deadline
	refuse *ledger.Refusal
	stale  bool // refused for its number: it may have been executed before
}

// openDesk reads the log and starts to work; nil without an error when this node has no number on the ledger yet. The state must be
// that of the newest block of CometBFT's store.
func openDesk(n *Node) (*desk, error) {
	a := n.app
	key := types.Hash(ledger.PublicKey(n.cfg.LedgerNodeSecret))
	a.mu.Lock()
	defer a.mu.Unlock()
	node := nodeWithKey(a.state, key)
	if node == 0 {
		return nil, nil
	}
	genesis := a.params.Genesis
	l, admitted, sealed, err := openDeskLog(n.cfg.Home, genesis, key)
	if err != nil {
		return nil, err
	}
	d := &desk{n: n, app: a, node: node, secret: n.cfg.LedgerNodeSecret, genesis: genesis, log: l, logger: n.cfg.Logger, live: n.live,
		promise: max(types.Height(a.state.Genesis().DirectDelay), minPromise),
		queue:   make(chan *deskRequest, deskQueue), deadlines: map[uint32]types.Height{}, cutting: make(chan struct{}, 1), sending: make(chan struct{}, 1)}
	if d.pool, err = ledger.NewPool(a.state, node); err == nil {
		err = d.restore(admitted, sealed)
	}
	if err != nil {
		l.stop()
		return nil, fmt.Errorf("the office of node %d: %w", node, err)
	}
	d.run()
	a.desk = d
	return d, nil
}

// openDeskLater opens the desk once the state shows a node with our key: one that was made, or has got its key, while this daemon runs.
func (n *Node) openDeskLater() {
	key := types.Hash(ledger.PublicKey(n.cfg.LedgerNodeSecret))
	for {
		n.app.mu.RLock()
		node, next := nodeWithKey(n.app.state, key), n.app.next
		n.app.mu.RUnlock()
		if node != 0 {
			if _, err := openDesk(n); err != nil {
				n.cfg.Logger.Error("our ledger node has no office until this daemon starts again", "node", node, "err", err)
			}
			return
		}
		select {
		case <-n.live.Done():
			return
		case <-next:
		}
	}
}

// nodeWithKey finds the ledger node with a key, 0 when there is none.
func nodeWithKey(s *ledger.State, key types.Hash) uint16 {
	for i := 1; i <= s.Nodes(); i++ {
		if n, err := s.Node(uint16(i)); err == nil && n.PublicKey == key {
			return uint16(i)
		}
	}
	return 0
}

func (d *desk) run() {
	prepared, verified := make(chan *deskGroupOf, 1), make(chan *deskGroupOf, 1)
	d.work.Go(func() { defer close(prepared); d.gather(prepared) })
	d.work.Go(func() {
		defer close(verified)
		for g := range prepared {
			g.batch.Verify(parallel)
			verified <- g
		}
	})
	d.work.Go(func() {
		for g := range verified {
			d.admit(g)
		}
	})
	d.work.Go(d.cutter)
	d.work.Go(d.sender)
}

// stop ends the desk when its Node's live context has ended. What was admitted is durable then.
func (d *desk) stop() {
	d.work.Wait()
	d.log.stop()
}

// deskGroupOf is one group on its way.
type deskGroupOf struct {
	requests []*deskRequest
	batch    *ledger.Batch
}

// gather merges what waits.
func (d *desk) gather(out chan<- *deskGroupOf) {
	for {
		var g deskGroupOf
		var txs [][]byte
		add := func(r *deskRequest) { g.requests, txs = append(g.requests, r), append(txs, r.txs...) }
		select {
		case <-d.live.Done():
			return
		case r := <-d.queue:
			add(r)
		}
		for more := true; more && len(txs) < deskGroup; {
			select {
			case r := <-d.queue:
				add(r)
			default:
				more = false
			}
		}
		g.batch = ledger.DecodeBatch(txs, parallel)
		d.app.mu.Lock()
		d.pool.Prepare(g.batch)
		d.app.mu.Unlock()
		out <- &g
	}
}

// admit gives places to a verified group, and hands it to the log.
func (d *desk) admit(g *deskGroupOf) {
	b := g.batch
	d.app.mu.Lock()
	defer d.app.mu.Unlock()
	d.pool.Admit(b)
	if err := d.closed; err != nil { // what was admitted meanwhile is never signed
		for _, r := range g.requests {
			r.finish(err)
		}
		return
	}
	until := d.app.head.Height + d.promise
	var rows []promised
	i := 0
	for _, r := range g.requests {
		r.out = make([]admission, len(r.txs))
		for k := range r.out {
			d.outcome(&r.out[k], b, i, until, &rows)
			i++
		}
		busyAfterBusy(r.out)
	}
	tell := func(err error) {
		if err != nil {
			go d.broken(err) // the caller of add holds app.mu
		}
		for _, r := range g.requests {
			r.finish(err)
		}
	}
	for k, row := range rows {
		then := func(error) {}
		if k == len(rows)-1 {
			then = tell
		}
		d.log.admitted(row, then)
	}
	if len(rows) == 0 {
		tell(nil)
		return
	}
	d.wakeCutter()
}

// outcome says what became of transaction i of a batch and adds it to the rows for the log.
func (d *desk) outcome(o *admission, b *ledger.Batch, i int, until types.Height, rows *[]promised) {
	head := b.Head(i)
	o.id, o.from, o.msid, o.refuse = b.ID(i), head.From, head.Msid, b.Refused(i)
	if o.refuse != nil {
		if o.refuse.Code == ledger.CodeMsid {
			d.known(o)
		}
		return
	}
	o.place = b.Place(i)
	o.until = d.enter(rows, o.place, until, b.Raw(i))
}

// enter adds what has a place to the rows for the log and returns its message's deadline: until, where it has none yet.
func (d *desk) enter(rows *[]promised, place ledger.Place, until types.Height, raw []byte) types.Height {
	at, ok := d.deadlines[place.Msid]
	if !ok {
		at = until
		d.deadlines[place.Msid] = at
	}
	last := len(*rows) - 1
	if last < 0 || (*rows)[last].msid != place.Msid {
		*rows = append(*rows, promised{msid: place.Msid, first: place.Position, deadline: at})
		last++
	}
	(*rows)[last].txs = append((*rows)[last].txs, raw)
	return at
}

// known answers what was refused for its number, when the same bytes, or others, have that number already.
func (d *desk) known(o *admission) {
	switch id, place, ok := d.pool.Find(o.from, o.msid); {
	case !ok:
		o.stale = true
	case id == o.id:
		o.refuse, o.place, o.until = nil, place, d.deadlines[place.Msid]
	default:
		o.refuse = &ledger.Refusal{Code: ledger.CodePending, Text: fmt.Sprintf(
			"another transaction of %s with number %d waits for a block, at %s; ask again after it", o.from, o.msid, place)}
	}
}

// busyAfterBusy says of what follows a transaction that found no room that it found none either: its number is in order.
func busyAfterBusy(out []admission) {
	var busy map[types.AccountID]*ledger.Refusal
	for i := range out {
		o := &out[i]
		switch {
		case o.refuse == nil:
		case o.refuse.Code == ledger.CodeBusy:
			if busy == nil {
				busy = map[types.AccountID]*ledger.Refusal{}
			}
			busy[o.from] = o.refuse
		case o.refuse.Code == ledger.CodeMsid && busy[o.from] != nil:
			o.refuse, o.stale = busy[o.from], false
		}
	}
}

func (r *deskRequest) finish(err error) {
	r.err = err
	close(r.done)
}

// take hands transactions to the desk and waits for their places. What has a place is durable. The error says that it is not known
// what became of them, or that none was taken (CodeBusy).
func (d *desk) take(ctx context.Context, txs [][]byte) ([]admission, error) {
	r := &deskRequest{txs: txs, done: make(chan struct{})}
	for _, tx := range txs {
		r.size += int64(len(tx))
	}
	if d.bytes.Add(r.size) > deskBytes+r.size {
		d.bytes.Add(-r.size)
		return nil, errDeskBusy()
	}
	select {
	case d.queue <- r:
	default:
		d.bytes.Add(-r.size)
		return nil, errDeskBusy()
	}
	select {
	case <-r.done:
		d.bytes.Add(-r.size)
		if r.err != nil {
			return nil, r.err
		}
		d.executed(r.out)
		return r.out, nil
	case <-d.live.Done():
		return nil, errStopped
	case <-ctx.Done():
		go func() {
			select {
			case <-r.done:
				d.bytes.Add(-r.size)
			case <-d.live.Done():
			}
		}()
		return nil, ctx.Err()
	}
}

func errDeskBusy() error {
	return &ledger.Refusal{Code: ledger.CodeBusy, Text: "the office has more to verify than it can in a second; submit it again in a moment"}
}

// executed gives the answer for the same bytes again when a block has them already.
func (d *desk) executed(out []admission) {
	for i := range out {
		o := &out[i]
		if !o.stale {
			continue
		}
		if place, ok := d.n.placeOf(o.id); ok {
			o.refuse, o.place = nil, place
		}
	}
}

// receipt is the signed promise for transactions in a row; they must be of one message and have a deadline.
func (d *desk) receipt(out []*admission) ledger.Receipt {
	ids := make([]types.Hash, len(out))
	for i, o := range out {
		ids[i] = o.id
	}
	r := ledger.NewReceipt(out[0].place, out[0].until, ids)
	r.Sign(d.secret, d.genesis)
	return r
}

// restore refills the pool from the log.
func (d *desk) restore(admitted []promised, sealed []signed) error {
	messages := map[uint32][]ledger.Logged{}
	for _, r := range admitted {
		for i, tx := range r.txs {
			messages[r.msid] = append(messages[r.msid], ledger.Logged{Place: ledger.Place{Node: d.node, Msid: r.msid, Position: r.first + uint32(i)}, Raw: tx})
		}
		d.deadlines[r.msid] = r.deadline
	}
	var raws [][]byte
	for _, s := range sealed {
		m := ledger.NodeMessage{Node: d.node, Msid: s.msid, Time: types.Time(s.time), Signature: s.signature}
		for _, l := range messages[s.msid] {
			m.Txs = append(m.Txs, l.Raw)
		}
		if uint32(len(m.Txs)) != s.count {
			if s.msid <= d.last() { // its transactions went with an older file
				continue
			}
			return fmt.Errorf("%w: message %d has %d transactions, %d were signed", errDeskLog, s.msid, len(m.Txs), s.count)
		}
		raw, err := m.Encode()
		if err != nil {
			return err
		}
		raws = append(raws, raw)
		delete(messages, s.msid)
		d.durable.Store(max(d.durable.Load(), s.msid))
	}
	var pending []ledger.Logged
	for _, msid := range slices.Sorted(maps.Keys(messages)) {
		pending = append(pending, messages[msid]...)
	}
	if err := d.pool.Restore(raws, pending); err != nil {
		return err
	}
	d.forget()
	return nil
}

// last is the number of the node's last message that a block has. The caller holds app.mu.
func (d *desk) last() uint32 {
	n, err := d.app.state.Node(d.node)
	if err != nil {
		return 0
	}
	return n.Msid
}

// applied follows a block. The caller holds app.mu.
func (d *desk) applied() {
	if d.closed != nil {
		return
	}
	if err := d.pool.Applied(); err != nil {
		d.fail(err)
		return
	}
	d.forget()
}

// forget drops the deadlines of messages that are done.
func (d *desk) forget() {
	last := d.last()
	for msid := range d.deadlines {
		if msid <= last {
			delete(d.deadlines, msid)
		}
	}
}

// fail closes the desk for good. The caller holds app.mu.
func (d *desk) fail(err error) {
	if d.closed == nil && !errors.Is(err, errStopped) {
		d.logger.Error("the office takes no more transactions", "node", d.node, "err", err)
	}
	if d.closed == nil {
		d.closed = fmt.Errorf("the office of node %d is closed: %w", d.node, err)
	}
}

// messageTime is a message's time: the clock's, but not so far beyond the last block's that the ledger would not take it yet.
func (d *desk) messageTime() types.Time {
	return min(types.Time(time.Now().Unix()), d.app.state.Time()+ledger.MaxTimeAhead/2)
}
