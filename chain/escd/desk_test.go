package escd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// chainOf signs n transfers of one unit in a row.
func chainOf(t testing.TB, key [32]byte, from types.AccountID, msid uint32, prev types.Hash, n int) (txs [][]byte) {
	t.Helper()
	for k := range n {
		var raw []byte
		raw, prev = signSend(t, key, msid+uint32(k), prev, from, admin, 1)
		txs = append(txs, raw)
	}
	return txs
}

// receiptsOf checks every promise of an answer and returns the places of the accepted transactions by index.
func receiptsOf(t *testing.T, n *Node, txs [][]byte, a SubmitAnswer) map[int]ledger.Place {
	t.Helper()
	refused := map[int]bool{}
	for _, r := range a.Refused {
		refused[r.Index] = true
	}
	places := map[int]ledger.Place{}
	for _, p := range a.Promises {
		var ids []types.Hash
		place := p.Place
		for i := p.Index; len(ids) < p.Count; i++ {
			if refused[i] {
				continue
			}
			ids = append(ids, types.SHA256(txs[i]))
			places[i] = place
			place.Position++
		}
		raw, err := hex.DecodeString(p.Receipt)
		if err != nil {
			t.Fatal(err)
		}
		r, err := ledger.ParseReceipt(raw)
		if err != nil || !r.Covers(ids) || !r.Verify(ledger.PublicKey(n.cfg.LedgerNodeSecret), n.app.params.Genesis) {
			t.Errorf("receipt %+v for %d transactions: %v", r, len(ids), err)
		}
		if head, _ := n.Head(); r.Node != p.Place.Node || r.Msid != p.Place.Msid || r.First != p.Place.Position || r.Deadline > head.Height+n.desk().promise {
			t.Errorf("receipt %+v for %+v at block %d", r, p, head.Height)
		}
	}
	return places
}

func TestDeskBatch(t *testing.T) {
	n := start(t, testConfig(t, t.TempDir(), "a"))
	c := NewClient(n.OfficeAddr())
	defer c.Close()
	a, err := n.Account(admin)
	if err != nil {
		t.Fatal(err)
	}
	txs := chainOf(t, n.cfg.AccountSecret, admin, a.Msid, a.Hash, 6)
	wrong := chainOf(t, secret("somebody else"), admin, a.Msid+3, a.Hash, 1)[0]
	ahead, _ := signSend(t, n.cfg.AccountSecret, a.Msid+50, a.Hash, admin, admin, 1)
	batch := [][]byte{txs[0], txs[1], []byte("garbage"), txs[2], wrong, txs[3], ahead, txs[4], txs[5], txs[1]}
	res, err := c.SubmitMany(bounded(t), batch)
	if err != nil {
		t.Fatal(err)
	}
	var codes []uint32
	var at []int
	for _, r := range res.Refused {
		codes, at = append(codes, r.LedgerCode), append(at, r.Index)
	}
	// A wrong signature under a number takes what follows in the same group with it: it may be signed after that one.
	if !slices.Contains(at, 2) || !slices.Contains(at, 4) || !slices.Contains(at, 6) || res.Accepted+len(at) != len(batch) || res.Accepted < 4 {
		t.Fatalf("accepted %d, refused %v with %v", res.Accepted, at, codes)
	}
	first := receiptsOf(t, n, batch, res)
	// The same bytes again have the same places; what was refused only for what stood before it is taken now.
	again, err := c.SubmitMany(bounded(t), txs)
	if err != nil || again.Accepted != 6 {
		t.Fatalf("again: %+v, %v", again, err)
	}
	done := map[types.Hash]ledger.Place{}
	for i, tx := range txs {
		r := result(t, n, types.SHA256(tx))
		if r.Code != ledger.CodeOK {
			t.Errorf("transaction %d: %+v", i, r)
		}
		done[r.ID] = r.Place
	}
	for i, p := range first {
		if got := done[types.SHA256(batch[i])]; got != p {
			t.Errorf("transaction %d was promised %s and is at %s", i, p, got)
		}
	}
	executed, err := c.SubmitMany(bounded(t), txs[:1])
	if err != nil || executed.Accepted != 1 || len(executed.Promises) != 1 || executed.Promises[0].Place != done[types.SHA256(txs[0])] {
		t.Errorf("after the block: %+v, %v", executed, err)
	}
	other, _ := signSend(t, n.cfg.AccountSecret, a.Msid, a.Hash, admin, admin, 2)
	var p *Problem
	if err := c.Submit(bounded(t), other); !errors.As(err, &p) || p.LedgerCode != ledger.CodeMsid {
		t.Errorf("another transaction with a number that was used: %v", err)
	}
}

// slow is a ledger on which what is admitted waits for a while.
func slow(t testing.TB, home string) Config {
	c := testConfig(t, home, "slow")
	c.BlockMillis = 2500
	return c
}

func TestDeskRestart(t *testing.T) {
	home := t.TempDir()
	n := start(t, slow(t, home))
	awaitHeight(t, n, 1)
	a, err := n.Account(admin)
	if err != nil {
		t.Fatal(err)
	}
	txs := chainOf(t, n.cfg.AccountSecret, admin, a.Msid, a.Hash, 20)
	d := n.desk()
	out, err := d.take(bounded(t), txs[:10])
	if err != nil {
		t.Fatal(err)
	}
	d.app.mu.Lock()
	durable := d.cut(true)
	d.app.mu.Unlock()
	<-durable
	more, err := d.take(bounded(t), txs[10:])
	if err != nil {
		t.Fatal(err)
	}
	var pending *ledger.Refusal
	other, _ := signSend(t, n.cfg.AccountSecret, a.Msid+2, a.Hash, admin, admin, 2)
	if err := n.Submit(bounded(t), other); !errors.As(err, &pending) || pending.Code != ledger.CodePending {
		t.Errorf("another transaction with a number that waits: %v", err)
	}
	sent := d.unexecuted()
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	m := start(t, slow(t, home))
	if again := m.desk().unexecuted(); len(sent) != 1 || len(again) != 1 || !bytes.Equal(again[0].Raw, sent[0].Raw) {
		t.Errorf("%d messages before the restart, %d after it, or another one", len(sent), len(again))
	}
	for i, o := range append(out, more...) {
		if r := result(t, m, o.id); r.Code != ledger.CodeOK || r.Place != o.place {
			t.Errorf("transaction %d was promised %s: %+v", i, o.place, r)
		}
	}
	head, _ := m.Head()
	awaitHeight(t, m, head.Height+1)
	if files, err := filepath.Glob(filepath.Join(home, deskDir, "*.log")); err != nil || len(files) > 2 {
		t.Errorf("files of the log that nobody needs: %v, %v", files, err)
	}
}

func TestDeskBusy(t *testing.T) {
	n := start(t, testConfig(t, t.TempDir(), "a"))
	a, err := n.Account(admin)
	if err != nil {
		t.Fatal(err)
	}
	tx := chainOf(t, n.cfg.AccountSecret, admin, a.Msid, a.Hash, 1)[0]
	d := n.desk()
	d.bytes.Add(deskBytes + 1)
	var refusal *ledger.Refusal
	if err := n.Submit(bounded(t), tx); !errors.As(err, &refusal) || refusal.Code != ledger.CodeBusy {
		t.Errorf("more under way than there is room for: %v", err)
	}
	c := NewClient(n.OfficeAddr())
	defer c.Close()
	if res, err := c.SubmitMany(bounded(t), [][]byte{tx}); err != nil || len(res.Refused) != 1 || res.Refused[0].LedgerCode != ledger.CodeBusy {
		t.Errorf("a batch: %+v, %v", res, err)
	}
	d.bytes.Add(-deskBytes - 1)
	result(t, n, submit(t, n, tx))
	if left := d.bytes.Load(); left != 0 {
		t.Errorf("%d bytes are still counted", left)
	}
}

// TestRoute: a follower's transactions go to the office of the account's node, and without it when that does not answer.
func TestRoute(t *testing.T) {
	conf := testConfig(t, t.TempDir(), "a")
	conf.DirectDelay = 3
	a := start(t, conf)
	bc := testConfig(t, t.TempDir(), "b")
	bc.Join = a.JoinAddr()
	b := start(t, bc)
	user, err := b.WaitOwnAccount(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	awaitFresh(t, b)
	var given types.Hash
	await(t, a, "the office's own use of the admin's account to be over", func() bool {
		raw := sendOne(t, a, admin, conf.AccountSecret, user, types.Coin)
		err := a.Submit(bounded(t), raw)
		var refusal *ledger.Refusal
		if errors.As(err, &refusal) && refusal.Code == ledger.CodePending {
			return false
		} else if err != nil {
			t.Fatal(err)
		}
		given = types.SHA256(raw)
		return true
	})
	result(t, b, given)
	tx := sendOne(t, b, user, bc.AccountSecret, admin, 1)
	if r := result(t, b, submit(t, b, tx)); r.Place.Node != 1 || r.Code != ledger.CodeOK {
		t.Errorf("over the office: %+v", r)
	}
	a.office.close()
	tx = sendOne(t, b, user, bc.AccountSecret, admin, 1)
	id := submit(t, b, tx)
	submit(t, b, tx)
	r := result(t, b, id)
	if r.Place.Node != 0 || r.Code != ledger.CodeOK {
		t.Errorf("without the office: %+v", r)
	}
	if h, _, err := b.FindTx(id); err != nil || h < types.Height(r.Place.Msid+conf.DirectDelay) {
		t.Errorf("included in block %d, executed in %d, %v", r.Place.Msid, h, err)
	}
}

// TestMessagesOfTwo: messages of a node that does not propose reach the proposer, in order.
func TestMessagesOfTwo(t *testing.T) {
	ports := map[string]string{}
	for _, name := range []string{"a", "b"} {
		addr, err := freePort("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports[name] = addr
	}
	g := ledger.Genesis{ChainID: "two", Time: types.Time(time.Now().Unix()), BlockMillis: 100}
	for _, name := range []string{"a", "b"} {
		g.Nodes = append(g.Nodes, ledger.GenesisNode{PublicKey: ledger.PublicKey(secret("node " + name)), Account0: ledger.PublicKey(secret("account " + name))})
	}
	raw, err := g.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "genesis.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	nodes := map[string]*Node{}
	for _, name := range []string{"a", "b"} {
		c := testConfig(t, t.TempDir(), name)
		c.GenesisFile, c.ListenOffice, c.Peers = file, ports[name], []string{ports["a"], ports["b"]}
		nodes[name] = start(t, c)
	}
	a, b := nodes["a"], nodes["b"]
	awaitHeight(t, a, 2)
	var ids []types.Hash
	for i, n := range []*Node{a, b} {
		from := types.AccountID{Node: uint16(i + 1)}
		acc, err := n.Account(from)
		if err != nil {
			t.Fatal(err)
		}
		for _, tx := range chainOf(t, n.cfg.AccountSecret, from, acc.Msid, acc.Hash, 30) {
			ids = append(ids, submit(t, n, tx))
			n.desk().wakeCutter()
			d := n.desk()
			d.app.mu.Lock()
			d.cut(true) // a message each
			d.app.mu.Unlock()
		}
	}
	for i, id := range ids {
		if r := result(t, a, id); r.Code != ledger.CodeOK || int(r.Place.Node) != i/30+1 {
			t.Errorf("transaction %d: %+v", i, r)
		}
	}
	head, _ := a.Head()
	for _, blk := range events(t, a, 1, head.Height) {
		for _, e := range blk.Events {
			if m, ok := e.(ledger.MessageDone); ok && m.Code != 0 {
				t.Errorf("block %d: %+v", blk.Height, m)
			}
		}
	}
}

// childLoad is set for the process that is killed under load.
const childLoad = "ESCD_TEST_CHILD_LOAD"

// load submits one batch after the other and prints, of each, what was promised.
func load(home string) error {
	n, err := Start(context.Background(), victim(nil, home))
	if err != nil {
		return err
	}
	a, err := n.desk().account(admin)
	if err != nil {
		return err
	}
	prev := a.Hash
	for msid := a.Msid; ; {
		var txs [][]byte
		for range 25 {
			raw, next, err := ledger.Sign(n.cfg.AccountSecret, prev, ledger.Head{From: admin, Msid: msid}, ledger.SendOne{To: admin, Amount: 1})
			if err != nil {
				return err
			}
			txs, prev, msid = append(txs, raw), next, msid+1
		}
		out, err := n.desk().take(context.Background(), txs)
		if err != nil {
			return err
		}
		for _, o := range out {
			if o.refuse != nil {
				return o.refuse
			}
			fmt.Println("PROMISED", o.id, o.place)
		}
	}
}

// account is the account with all that waits executed.
func (d *desk) account(id types.AccountID) (ledger.Account, error) {
	d.app.mu.Lock()
	defer d.app.mu.Unlock()
	return d.pool.Account(id)
}

// TestKillLoad kills the process under load, several times: what was promised is executed at its place, and no message number was
// ever signed twice.
func TestKillLoad(t *testing.T) {
	home := t.TempDir()
	promised := map[string]string{}
	signatures := map[uint32][64]byte{}
	for round := range 4 {
		killLoaded(t, home, 300+170*round, promised)
		for msid, s := range loggedSignatures(t, home) {
			if was, known := signatures[msid]; known && was != s {
				t.Fatalf("message %d was signed twice", msid)
			}
			signatures[msid] = s
		}
	}
	n := start(t, victim(t, home))
	want := maps.Clone(promised)
	last := ""
	for id := range promised {
		last = id
	}
	if last == "" {
		t.Fatal("nothing was promised")
	}
	await(t, n, "empty pool", func() bool {
		d := n.desk()
		d.app.mu.Lock()
		defer d.app.mu.Unlock()
		all, _, _ := d.pool.Waiting()
		return all == 0
	})
	head, _ := n.Head()
	for _, b := range events(t, n, 1, head.Height) {
		for _, e := range b.Events {
			switch e := e.(type) {
			case ledger.MessageDone:
				if e.Code != 0 {
					t.Errorf("block %d: %+v", b.Height, e)
				}
			case ledger.TxDone:
				id := e.ID.String()
				if place, ok := want[id]; ok && (e.Code != 0 || place != e.Place.String()) {
					t.Errorf("%s was promised %s: %+v", id, place, e)
				}
				delete(want, id)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("%d of %d promised transactions are in no block", len(want), len(promised))
	}
}

func killLoaded(t *testing.T, home string, after int, promised map[string]string) {
	t.Helper()
	cmd := exec.CommandContext(bounded(t), os.Args[0])
	cmd.Env = append(os.Environ(), childHome+"="+home, childLoad+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) != 3 || f[0] != "PROMISED" {
			if n >= after { // cut off by the kill
				continue
			}
			t.Fatalf("child: %s", lines.Text())
		}
		if was, known := promised[f[1]]; known && was != f[2] {
			t.Errorf("%s was promised %s and %s", f[1], was, f[2])
		}
		promised[f[1]] = f[2]
		if n++; n == after {
			cmd.Process.Kill() // what it printed meanwhile is read on
		}
	}
	cmd.Wait()
	if n < after {
		t.Fatalf("the child ended by itself after %d", n)
	}
}

// loggedSignatures reads the messages that were signed from the log of a process that was killed, without changing it.
func loggedSignatures(t *testing.T, home string) map[uint32][64]byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(home, deskDir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[uint32][64]byte{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for {
			body, rest, ok := nextRecord(b)
			if !ok {
				break
			}
			var p []promised
			var s []signed
			if _, err := readDeskRecord(body, &p, &s); err != nil {
				t.Fatal(err)
			}
			for _, m := range s {
				out[m.msid] = m.signature
			}
			b = rest
		}
	}
	return out
}

// TestDeskLog: a torn end is cut off, damage before it is refused, another ledger's log too.
func TestDeskLog(t *testing.T) {
	home := t.TempDir()
	genesis, key := types.SHA256([]byte("g")), types.SHA256([]byte("k"))
	open := func() (*deskLog, []promised, []signed, error) { return openDeskLog(home, genesis, key) }
	l, _, _, err := open()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 2)
	l.admitted(promised{msid: 1, first: 1, deadline: 9, txs: [][]byte{{1}, {2, 3}}}, func(err error) { done <- err })
	l.signed(signed{msid: 1, time: 5, count: 2, signature: [64]byte{7}}, func(err error) { done <- err })
	if err := errors.Join(<-done, <-done); err != nil {
		t.Fatal(err)
	}
	l.stop()
	l.admitted(promised{msid: 2, first: 1, txs: [][]byte{{1}}}, func(err error) { done <- err })
	if err := <-done; !errors.Is(err, errStopped) {
		t.Errorf("after the stop: %v", err)
	}
	name := l.files[0].name
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(whole); cut >= 0; cut-- { // as the last file, any end is fine
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, deskDir), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, deskDir, "00000001.log"), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l, p, s, err := openDeskLog(dir, genesis, key)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		l.stop()
		if cut == len(whole) && (len(p) != 1 || len(s) != 1 || p[0].deadline != 9 || len(p[0].txs) != 2 || s[0].count != 2) || cut < len(whole) && len(s) != 0 {
			t.Errorf("cut at %d: %+v %+v", cut, p, s)
		}
		again, p2, s2, err := openDeskLog(dir, genesis, key)
		if err != nil || len(p2) != len(p) || len(s2) != len(s) {
			t.Fatalf("cut at %d, opened again: %+v %+v %v", cut, p2, s2, err)
		}
		again.stop()
	}
	if _, _, _, err := openDeskLog(home, key, key); !errors.Is(err, errDeskLog) {
		t.Errorf("another ledger: %v", err)
	}
	l, _, _, err = open() // a second file follows
	if err != nil {
		t.Fatal(err)
	}
	l.stop()
	if err := os.WriteFile(name, whole[:len(whole)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := open(); !errors.Is(err, errDeskLog) {
		t.Errorf("damage before the last file: %v", err)
	}
}

func FuzzDeskLog(f *testing.F) {
	w := frame(nil, func(b []byte) []byte { return append(b, deskSigned, 0, 0, 0, 1) })
	f.Add(w)
	f.Add(frame(nil, func(b []byte) []byte {
		return append(b, deskAdmitted, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 2, 5, 6)
	}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			body, rest, ok := nextRecord(b)
			if !ok {
				return
			}
			var p []promised
			var s []signed
			if _, err := readDeskRecord(body, &p, &s); err == nil && len(p)+len(s) > 1 {
				t.Fatalf("%x is %d records", body, len(p)+len(s))
			}
			b = rest
		}
	})
}

// TestAnnounce: the ledger learns where the office listens, once, and again when it has moved.
func TestAnnounce(t *testing.T) {
	home := t.TempDir()
	for range 2 {
		n := start(t, testConfig(t, home, "a"))
		record := func() ledger.Node {
			n.app.mu.RLock()
			defer n.app.mu.RUnlock()
			r, err := n.app.state.Node(1)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		await(t, n, "address of the office", func() bool { r := record(); return r.Port != 0 && officeAddress(r) == n.OfficeAddr() })
		was := record().Msid
		head, _ := n.Head()
		awaitHeight(t, n, head.Height+3)
		if r := record(); r.Msid != was {
			t.Errorf("message %d follows message %d without a reason", r.Msid, was)
		}
		if err := n.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}
