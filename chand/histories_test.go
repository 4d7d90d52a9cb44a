package chand

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/store/memstore"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

var (
	historyCount = flag.Int("histories", 200, "number of random histories of TestHistories")
	historyFrom  = flag.Uint64("history.from", 0, "seed of the first one; a failure names its seed")
)

// TestHistories plays random histories of networks of three to five daemons: payments by invoice, without one and in parts, escrows,
// channels opened and closed in agreement and by force; over links that break, delay, lose, repeat and mix up what is sent, kills, stores
// that fail with and without having written, and a backup restored. Afterwards both sides of every channel agree to the unit, everything
// has ended, what was acknowledged stands, and nobody but the restored one has less than its records say.
func TestHistories(t *testing.T) {
	procs := uint64(runtime.GOMAXPROCS(0))
	count := *historyCount
	if testing.Short() {
		count = min(count, 40)
	}
	last := *historyFrom + uint64(count)
	for k := range procs {
		t.Run(fmt.Sprintf("part %d", k), func(t *testing.T) {
			t.Parallel()
			for seed := *historyFrom + k; seed < last; seed += procs {
				if !t.Run(fmt.Sprint(seed), func(t *testing.T) { playHistory(t, seed) }) {
					t.Fatalf("play it again: go test ./chand -run TestHistories -histories 1 -history.from %d", seed)
				}
			}
		})
	}
}

type history struct {
	w      *world
	seed   uint64
	rng    *rand.Rand
	names  []string
	rough  map[string]*rough
	wg     sync.WaitGroup
	log    []string
	tries  []*try
	down   map[string]int // steps until a daemon that is down, or whose store will fail, starts again
	backup *memstore.Store
	old    string // whose backup it is
	stale  bool   // it was restored
	forced bool   // a channel was closed
	start  map[string]types.Amount
	tried  types.Amount // all that anybody wanted to pay or lock: no more can be in locks

	mu      sync.Mutex
	escrows []types.Hash // guarded by mu
}

// try is a payment that somebody waited for.
type try struct {
	payer, payee string
	inv          Invoice
	state        string // as Pay returned it
}

func playHistory(t *testing.T, seed uint64) {
	h := &history{seed: seed, rng: rand.New(rand.NewPCG(seed, 11)), rough: map[string]*rough{}, down: map[string]int{}, start: map[string]types.Amount{}}
	h.names = []string{"alice", "bob", "carol", "dave", "erin"}[:3+max(0, h.rng.IntN(12)-9)]
	defer func() {
		if t.Failed() {
			for _, l := range h.log {
				t.Log(l)
			}
		}
	}()
	inWorld(t, h.names, func(w *world) {
		h.w = w
		h.begin()
		for range 4 + h.rng.IntN(7) {
			h.step()
			<-time.After(time.Duration(h.rng.IntN(4)) * 150 * time.Millisecond)
			h.startDue()
		}
		h.calm()
		h.forgotten()
		h.end()
	})
}

func (h *history) did(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

func (h *history) node(name string) *node { return h.w.nodes[name] }

func (h *history) pick() string { return h.names[h.rng.IntN(len(h.names))] }

// begin opens a line of channels, sometimes with a second one beside the first.
func (h *history) begin() {
	for _, name := range h.names {
		h.start[name] = h.node(name).balance()
	}
	for i := range len(h.names) - 1 {
		h.w.open(h.names[i], h.names[i+1], 100*types.Coin, 50*types.Coin)
	}
	if h.rng.IntN(4) == 0 {
		h.w.open(h.names[0], h.names[1], 60*types.Coin, 60*types.Coin)
	}
	for _, name := range h.names {
		h.node(name).known(len(h.names) - 1)
	}
	for i, name := range h.names {
		r := &rough{seed: h.seed*16 + uint64(i), seen: map[[32]byte]int{}, held: map[types.NodeID][]byte{}}
		h.rough[name] = r
		h.node(name).wrap = func(d *Deps) { r.Transport, d.Transport = d.Transport, r }
	}
	if h.rng.IntN(2) == 0 { // links are rough from the next start on
		for _, name := range h.names {
			h.node(name).crash()
			h.node(name).start()
			h.rough[name].set(true)
		}
	}
}

// background runs a command for at most so many seconds; the end waits for all.
func (h *history) background(seconds int, f func(ctx context.Context)) {
	h.wg.Add(1)
	go func() {
		defer h.wg.Done()
		ctx, cancel := context.WithTimeout(h.w.ctx, time.Duration(seconds)*time.Second)
		defer cancel()
		f(ctx)
	}()
}

func (h *history) step() {
	switch x := h.rng.IntN(100); {
	case x < 32:
		h.pay()
	case x < 38:
		h.give()
	case x < 46:
		h.openEscrow()
	case x < 54:
		h.endEscrow()
	case x < 57:
		h.open()
	case x < 62:
		h.close()
	case x < 70:
		i := h.rng.IntN(len(h.names) - 1)
		h.did("the link of %s and %s breaks", h.names[i], h.names[i+1])
		h.w.pipes.Break(h.node(h.names[i]).seed.NodeID(), h.node(h.names[i+1]).seed.NodeID())
	case x < 75:
		d := time.Duration(h.rng.IntN(4)) * 60 * time.Millisecond
		h.did("links take %s", d)
		h.w.pipes.SetDelay(d)
	case x < 84:
		h.kill()
	case x < 92:
		h.failStore()
	default:
		h.restore()
	}
}

func (h *history) pay() {
	payer, payee := h.pick(), h.pick()
	x, y := h.node(payer), h.node(payee)
	if payer == payee || x.Daemon == nil || y.Daemon == nil {
		return
	}
	amount := types.Coin * types.Amount(1+h.rng.IntN(9))
	if h.rng.IntN(6) == 0 {
		amount *= 14 // more than some channels carry: in parts, or not at all
	}
	inv, err := y.CreateInvoice(h.w.ctx, InvoiceRequest{Amount: amount})
	h.did("%s pays %s to %s (%v)", payer, amount, payee, err)
	h.tried += amount
	if err != nil {
		return
	}
	p := &try{payer: payer, payee: payee, inv: inv}
	h.tries = append(h.tries, p)
	times := 1 + h.rng.IntN(5)/4
	for range times { // twice: the invoice is paid once
		d := x.Daemon
		h.background(2, func(ctx context.Context) {
			if r, err := d.Pay(ctx, PayRequest{Invoice: inv.Text, Key: inv.Hash.String()}); err == nil && r.State == PaymentSucceeded {
				h.mu.Lock()
				p.state = r.State
				h.mu.Unlock()
			}
		})
	}
}

// give pays without an invoice.
func (h *history) give() {
	payer, payee := h.pick(), h.pick()
	d, to := h.node(payer).Daemon, h.node(payee).seed.NodeID()
	if payer == payee || d == nil {
		return
	}
	amount := types.Coin * types.Amount(1+h.rng.IntN(9))
	h.did("%s gives %s to %s", payer, amount, payee)
	h.tried += amount
	h.background(2, func(ctx context.Context) { _, _ = d.Pay(ctx, PayRequest{To: to, Amount: amount}) })
}

func (h *history) openEscrow() {
	payer, payee := h.pick(), h.pick()
	d, to := h.node(payer).Daemon, h.node(payee).seed.NodeID()
	if payer == payee || d == nil {
		return
	}
	h.did("%s locks money for %s", payer, payee)
	h.tried += escrowed
	h.background(2, func(ctx context.Context) {
		if e, err := d.OpenEscrow(ctx, EscrowRequest{To: to, Amount: escrowed, Lifetime: 30}); err == nil {
			h.mu.Lock()
			h.escrows = append(h.escrows, e.ID)
			h.mu.Unlock()
		}
	})
}

// endEscrow lets anybody release or give back any escrow: one of them can.
func (h *history) endEscrow() {
	h.mu.Lock()
	ids := slices.Clone(h.escrows)
	h.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	id, release := ids[h.rng.IntN(len(ids))], h.rng.IntN(2) == 0
	h.did("an escrow ends, released %v", release)
	for _, name := range h.names {
		if d := h.node(name).Daemon; d != nil {
			h.background(1, func(ctx context.Context) {
				if release {
					_, _ = d.ReleaseEscrow(ctx, id)
				} else {
					_, _ = d.RefundEscrow(ctx, id)
				}
			})
		}
	}
}

func (h *history) open() {
	i := h.rng.IntN(len(h.names) - 1)
	d, to := h.node(h.names[i]).Daemon, h.node(h.names[i+1]).seed.NodeID()
	if d == nil {
		return
	}
	h.did("%s opens a channel", h.names[i])
	h.background(4, func(ctx context.Context) { _, _ = d.Open(ctx, OpenRequest{Peer: to, Mine: 40 * types.Coin}) })
}

func (h *history) close() {
	name, force := h.pick(), h.rng.IntN(2) == 0
	d := h.node(name).Daemon
	if d == nil {
		return
	}
	list, err := d.Channels(false)
	if err != nil || len(list) == 0 {
		return
	}
	c := list[h.rng.IntN(len(list))]
	h.forced = true // also an agreed close can end so
	h.did("%s closes a channel, by force %v", name, force)
	h.background(2, func(ctx context.Context) { _, _ = d.Close(ctx, c.ID, force) })
}

func (h *history) kill() {
	name := h.pick()
	if h.node(name).Daemon == nil {
		return
	}
	h.did("%s is killed", name)
	h.node(name).crash()
	h.down[name] = h.rng.IntN(3)
	h.startDue()
}

// failStore makes one of the next commits fail, with or without having written; the daemon is started again some steps later.
func (h *history) failStore() {
	name := h.pick()
	n := h.node(name)
	if _, already := h.down[name]; n.Daemon == nil || already {
		return
	}
	kind := []memstore.Fault{memstore.NotDone, memstore.DoneButFailed}[h.rng.IntN(2)]
	h.did("%s's store will fail, written %v", name, kind == memstore.DoneButFailed)
	n.store.FailAt(n.store.Commits()+1+h.rng.IntN(5), kind)
	h.down[name] = 1 + h.rng.IntN(3)
}

// startDue starts daemons whose time has come.
func (h *history) startDue() {
	for _, name := range h.names {
		if left, ok := h.down[name]; ok {
			if h.down[name] = left - 1; left <= 0 {
				h.startAgain(name)
			}
		}
	}
}

func (h *history) startAgain(name string) {
	delete(h.down, name)
	n := h.node(name)
	if n.Daemon != nil {
		n.crash()
	}
	n.start()
	h.did("%s runs again", name)
}

// restore takes a backup, and later starts its owner from it.
func (h *history) restore() {
	switch {
	case h.backup == nil:
		h.old = h.pick()
		h.backup = h.node(h.old).store.Copy()
		h.did("%s makes a backup", h.old)
	case !h.stale:
		h.stale = true
		delete(h.down, h.old)
		n := h.node(h.old)
		if n.Daemon != nil {
			n.crash()
		}
		n.store.Crash()
		n.store, n.cfg.Restored = h.backup, true
		n.start()
		n.cfg.Restored = false // it knows
		h.did("%s is restored from its backup", h.old)
	}
}

// calm ends the trouble: all daemons run, all links are new.
func (h *history) calm() {
	h.wg.Wait()
	h.w.pipes.SetDelay(0)
	for _, name := range h.names {
		h.rough[name].set(false)
		if _, ok := h.down[name]; ok {
			h.startAgain(name)
		}
	}
	for i := range len(h.names) - 1 {
		h.w.pipes.Break(h.node(h.names[i]).seed.NodeID(), h.node(h.names[i+1]).seed.NodeID())
	}
}

// forgotten closes by force what the restored one does not know any more: a channel that was opened after the backup.
func (h *history) forgotten() {
	if !h.stale {
		return
	}
	old := h.node(h.old)
	h.w.until("the openings that it forgot have ended", func() bool {
		for _, name := range h.names {
			list, _ := h.node(name).Channels(false)
			if slices.ContainsFunc(list, func(c Channel) bool { return c.Peer == old.ID() && c.Phase < channel.PhaseOpen }) {
				return false
			}
		}
		return true
	})
	for _, name := range h.names {
		list, _ := h.node(name).Channels(false)
		for _, c := range list {
			if _, err := old.Channel(c.ID); name == h.old || c.Peer != old.ID() || err == nil || c.Phase != channel.PhaseOpen {
				continue
			}
			h.did("%s closes channel %s, which %s has forgotten", name, c.ID, h.old)
			ctx, cancel := h.w.timeout()
			if _, err := h.node(name).Close(ctx, c.ID, true); err != nil {
				h.w.t.Errorf("%s can't close: %v", name, err)
			}
			cancel()
		}
	}
}

// end waits until nothing is under way and compares.
func (h *history) end() {
	for _, name := range h.names {
		n := h.node(name)
		for tries := 0; !h.idle(n); tries++ { // asked seldom: it costs more than what it waits for
			if tries == 300 {
				h.show(n)
				h.w.t.Fatalf("%s has still something under way after ten minutes", name)
			}
			<-time.After(2 * time.Second)
		}
	}
	h.books()
	for _, p := range h.tries {
		h.compare(p)
	}
	var total, all types.Amount
	for _, name := range h.names {
		have, want := h.worth(name)
		total, all = total+have, all+h.start[name]
		if h.stale && name == h.old {
			continue // what only the lost disk could prove is gone
		}
		if have < want-feeRoom || !h.stale && have > want+feeRoom {
			h.w.t.Errorf("%s has %s, by its records %s", name, have, want)
		}
	}
	if total > all || total < all-h.forgot()-feeRoom*types.Amount(len(h.names)) {
		h.w.t.Errorf("all together have %s of %s", total, all)
	}
}

// forgot is what may be left on the ledger: locks that a restored daemon does not remember. Else every coin is somebody's.
func (h *history) forgot() types.Amount {
	if !h.stale {
		return 0
	}
	return h.tried
}

// escrowed is what an escrow of a history holds.
const escrowed = 3 * types.Coin

// feeRoom is more than the ledger's fees of one daemon in a history, and much less than any payment.
const feeRoom = types.Coin / 10

// show logs what a daemon has.
func (h *history) show(n *node) {
	list, _ := n.Channels(true)
	for _, c := range list {
		h.w.t.Logf("%s: channel %s %s, ready %v, mine %s theirs %s locks %d v%d", n.name, c.ID, c.State, n.ready(c.ID), c.Mine, c.Theirs, c.Locks, c.Version)
	}
	for _, p := range h.payments(n) {
		h.w.t.Logf("%s: payment %s %s %s, %d parts, %s", n.name, p.Direction, p.Amount, p.State, len(p.Parts), p.Text)
	}
	escrows, _, _ := n.Escrows("", 100)
	for _, e := range escrows {
		h.w.t.Logf("%s: escrow %s %s %s until %d, height %d", n.name, e.Role, e.Amount, e.State, e.Deadline, n.Height())
	}
}

func (h *history) idle(n *node) bool {
	list, err := n.Channels(true)
	if err != nil {
		return false
	}
	for _, c := range list {
		switch c.Phase {
		case channel.PhaseClosed, channel.PhaseFailed:
		case channel.PhaseOpen:
			// A link that was just made anew is ready before what was lost has been sent again.
			if r := n.runner(c.ID); c.Locks != 0 || !n.ready(c.ID) || r == nil || r.view.Load().State.Unacked() != 0 {
				return false
			}
		default:
			return false
		}
	}
	for _, p := range h.payments(n) {
		if p.State == PaymentPending {
			return false
		}
	}
	escrows, _, err := n.Escrows("", 100)
	if err != nil {
		return false
	}
	return !slices.ContainsFunc(escrows, func(e Escrow) bool { return !e.final() })
}

func (h *history) payments(n *node) []Payment {
	list, _, err := n.Payments("", 100)
	if err != nil {
		h.w.t.Fatal(err)
	}
	return list
}

// books wants both sides of every open channel to agree to the unit.
func (h *history) books() {
	for i, a := range h.names {
		for _, b := range h.names[i+1:] {
			x, y := h.node(a), h.node(b)
			list, _ := x.Channels(false)
			for _, c := range list {
				if c.Peer != y.ID() || c.Phase != channel.PhaseOpen {
					continue
				}
				d, err := y.Channel(c.ID)
				if err != nil || c.Mine != d.Theirs || c.Theirs != d.Mine || c.Mine+c.Theirs != c.Capacity || c.Version != d.Version || c.Epoch != d.Epoch {
					h.w.t.Errorf("channel %s of %s and %s: %+v against %+v, %v", c.ID, a, b, c, d, err)
				}
			}
		}
	}
}

// compare wants the payer and the payee to say the same, and what Pay returned to stand.
func (h *history) compare(p *try) {
	if h.stale && (h.old == p.payer || h.old == p.payee) {
		return
	}
	sent, err := h.node(p.payer).Payment(p.inv.Hash, "")
	paid, err2 := h.node(p.payee).Invoice(p.inv.Hash)
	switch {
	case err2 != nil:
		h.w.t.Errorf("the invoice of %s is lost: %v", p.payee, err2)
	case p.state == PaymentSucceeded && (err != nil || sent.State != PaymentSucceeded):
		h.w.t.Errorf("an acknowledged payment of %s is lost: %q, %v", p.payer, sent.State, err)
	case sent.State == PaymentUnknown && (h.forced || h.stale):
	case (sent.State == PaymentSucceeded) != (paid.State == InvoicePaid):
		h.w.t.Errorf("%s says %q, %s says %q, %v", p.payer, sent.State, p.payee, paid.State, err)
	}
}

// worth is what a daemon has on the ledger and in open channels, and what it should have by its records.
func (h *history) worth(name string) (have, want types.Amount) {
	n := h.node(name)
	have, want = n.balance(), h.start[name]
	list, _ := n.Channels(false)
	for _, c := range list {
		have += c.Mine
	}
	for _, p := range h.payments(n) {
		switch {
		case p.Direction == PaymentReceived && p.State == PaymentSucceeded:
			want += p.Amount
		case p.Direction == PaymentReceived:
		case p.Direction == PaymentSent && p.State == PaymentSucceeded:
			want -= p.Amount + p.Fee + p.Reserve
		case p.Direction == PaymentSent:
			want -= p.Reserve
		default:
			want += p.Fee + p.Reserve
		}
	}
	escrows, _, _ := n.Escrows("", 100)
	for _, e := range escrows {
		switch {
		case e.State != EscrowReleased:
		case e.Role == rolePayer:
			want -= e.Amount + e.Fee
		default:
			want += e.Amount
		}
	}
	return have, want
}

// rough is a link that loses, repeats and holds back messages of channels, so that those of different channels change places. What
// happens to a frame follows from its bytes and from how often it was sent, so that a history can be played again.
type rough struct {
	Transport
	seed uint64

	mu   sync.Mutex
	on   bool                    // guarded by mu
	seen map[[32]byte]int        // guarded by mu
	held map[types.NodeID][]byte // guarded by mu
}

func (r *rough) set(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on = on
	clear(r.held)
}

// of is the channel of a frame that may be held back: zero for all others.
func of(frame []byte) types.ChannelID {
	m, err := wire.Decode(frame)
	if err != nil {
		return types.ChannelID{}
	}
	switch v := m.(type) {
	case *wire.Update, *wire.Ack, *wire.Reveal, *wire.Receipt, *wire.TurnRequest, *wire.Yield:
		return v.(wire.ChannelMessage).Channel()
	}
	return types.ChannelID{}
}

func (r *rough) Send(peer types.NodeID, frame []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.on {
		return r.Transport.Send(peer, frame)
	}
	id := of(frame)
	frames := [][]byte{frame}
	held := r.held[peer]
	delete(r.held, peer)
	switch fate := r.fate(frame); {
	case id.IsZero():
	case fate < 4:
		frames = nil
	case fate < 8:
		frames = [][]byte{frame, frame}
	case fate < 16 && held == nil:
		r.held[peer] = slices.Clone(frame)
		return nil
	}
	if held != nil && (id.IsZero() || of(held) == id) {
		frames = append([][]byte{held}, frames...)
	} else if held != nil {
		frames = append(frames, held)
	}
	for _, f := range frames {
		if err := r.Transport.Send(peer, f); err != nil {
			return err
		}
	}
	return nil
}

// fate is 0 to 99.
func (r *rough) fate(frame []byte) int {
	sum := sha256.Sum256(frame)
	r.seen[sum]++
	sum = sha256.Sum256(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(sum[:], r.seed), uint64(r.seen[sum])))
	return int(sum[0]) * 100 / 256
}
