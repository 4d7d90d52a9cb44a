package escd

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// planted makes the home of a ledger with so many accounts, whose keys are secrets of their numbers.
func planted(t testing.TB, name string, accounts int) Config {
	t.Helper()
	c := testConfig(t, t.TempDir(), name)
	s, err := ledger.NewState(ledger.Genesis{ChainID: "planted", Time: types.Time(time.Now().Unix() - 60), BlockMillis: testMillis,
		Nodes: []ledger.GenesisNode{{PublicKey: ledger.PublicKey(c.LedgerNodeSecret), Account0: ledger.PublicKey(c.AccountSecret)}}})
	if err != nil {
		t.Fatal(err)
	}
	s.Apply(1, s.Time(), nil)
	err = s.Populate(accounts, types.Coin, func(i int) [32]byte { return ledger.PublicKey(accountSecret(i)) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := Plant(c, s); err != nil {
		t.Fatal(err)
	}
	return c
}

func accountSecret(i int) [32]byte { return secret("planted " + strconv.Itoa(i)) }

func rootOf(n *Node) (types.Height, types.Hash) {
	n.app.mu.Lock()
	defer n.app.mu.Unlock()
	return n.app.head.Height, n.app.state.Root()
}

// sameStates waits until both nodes are at one block and compares.
func sameStates(t testing.TB, a, b *Node) {
	t.Helper()
	ctx := bounded(t)
	for {
		ha, ra := rootOf(a)
		hb, rb := rootOf(b)
		if ha == hb {
			if ra != rb {
				t.Fatalf("state roots at block %d differ: %s and %s", ha, ra, rb)
			}
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal("the nodes are never at one block")
		case <-time.After(time.Millisecond): // two independent chains of events: neither announces that they agree
		}
	}
}

// TestStateSync: a fresh node follows a ledger whose first blocks nobody has, and serves others in turn.
func TestStateSync(t *testing.T) {
	const accounts = 5000
	a := start(t, planted(t, "a", accounts))
	awaitHeight(t, a, 3)
	conf := testConfig(t, t.TempDir(), "b")
	conf.Join, conf.KeepBlocks, conf.snapshotBlocks = a.JoinAddr(), 10_000, 10
	began := time.Now()
	b := start(t, conf)
	awaitFresh(t, b)
	t.Logf("followed a ledger of %d accounts after %s", accounts, time.Since(began))
	sameStates(t, a, b)

	// What was created before the snapshot is found by key, and spends.
	for _, i := range []int{0, 17, accounts - 1} {
		key := ledger.PublicKey(accountSecret(i))
		id, ok, err := b.AccountOf(key)
		if want := (types.AccountID{Node: 1, User: uint32(i + 1)}); err != nil || !ok || id != want {
			t.Fatalf("account %d: %s, %v, %v, want %s", i, id, ok, err, want)
		}
	}
	user := types.AccountID{Node: 1, User: 18}
	id := submit(t, b, sendOne(t, b, user, accountSecret(17), admin, 5))
	if done := result(t, b, id); done.Code != ledger.CodeOK {
		t.Fatalf("%+v", done)
	}
	// History begins after the snapshot, and that is said.
	var pruned *ledger.Pruned
	err := b.Blocks(bounded(t), 1, func(ledger.BlockEvents) error { t.Error("a block that is not there was reported"); return errEnough })
	if !errors.As(err, &pruned) || pruned.First < 2 || !errors.Is(err, ledger.ErrNotFound) {
		t.Fatalf("%v", err)
	}
	head, _ := b.Head()
	awaitHeight(t, a, head.Height)
	theirs, ours := events(t, a, pruned.First, head.Height), events(t, b, pruned.First, head.Height)
	for i := range theirs {
		if line(theirs[i]) != line(ours[i]) {
			t.Errorf("here %s\nthere %s", line(ours[i]), line(theirs[i]))
		}
	}
	if counts, err := b.Counts(1, head.Height); err != nil || len(counts) == 0 || counts[0].Height != pruned.First {
		t.Errorf("counts %v, %v, want from block %d", counts, err, pruned.First)
	}
	// It starts again from its own data, and another node from it.
	awaitHeight(t, b, pruned.First+25) // beyond a snapshot of its own
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	b = start(t, conf)
	awaitFresh(t, b)
	conf = testConfig(t, t.TempDir(), "c")
	conf.Join, conf.KeepBlocks = b.JoinAddr(), 10_000
	c := start(t, conf)
	awaitFresh(t, c)
	sameStates(t, a, c)
	if err := (&ledger.Pruned{}); !errors.As(c.Blocks(bounded(t), 1, func(ledger.BlockEvents) error { return errEnough }), &err) {
		t.Error("the third node has blocks that none of the others had")
	}
}

// TestFarBehind: a node with blocks of its own, which is away for longer than the others keep theirs, goes on from a snapshot. What
// its validator key signed last stays known.
func TestFarBehind(t *testing.T) {
	conf := testConfig(t, t.TempDir(), "a")
	conf.BlockMillis, conf.snapshotBlocks, conf.KeepBlocks = minBlockMillis, 10, 20
	a := start(t, conf)
	follow := testConfig(t, t.TempDir(), "b")
	follow.Join, follow.KeepBlocks = a.JoinAddr(), 10_000
	b := start(t, follow)
	own, err := b.WaitOwnAccount(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	awaitFresh(t, b)
	left, _ := b.Head()
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	mark := []byte(`{"height":"7","round":0,"step":3}`)
	if err := os.WriteFile(filepath.Join(follow.Home, dataDir, signFile), mark, 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, a, "pruned block", func() bool {
		first, err := a.app.journal.first()
		return err == nil && first > left.Height+5
	})
	b = start(t, follow)
	awaitFresh(t, b)
	sameStates(t, a, b)
	if first, err := b.app.journal.first(); err != nil || first <= left.Height {
		t.Errorf("the first block kept is %d, %v; block %d was the last one seen", first, err, left.Height)
	}
	if b.OwnAccount() != own {
		t.Errorf("own account %s, was %s", b.OwnAccount(), own)
	}
	if got, err := os.ReadFile(filepath.Join(follow.Home, dataDir, signFile)); err != nil || !bytes.Contains(got, []byte(`"7"`)) {
		t.Errorf("what was signed last: %s, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(follow.Home, oldDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old data is still there: %v", err)
	}
}

// TestStartOver: when every snapshot is damaged and the first blocks are gone, a node fetches the state again, and one that has
// nobody to fetch it from says what to do.
func TestStartOver(t *testing.T) {
	a := start(t, planted(t, "a", 10))
	awaitHeight(t, a, 3)
	conf := testConfig(t, t.TempDir(), "b")
	conf.Join, conf.KeepBlocks, conf.Logger = a.JoinAddr(), 1000, nil
	b := start(t, conf)
	awaitFresh(t, b)
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	damage := func(home string) {
		t.Helper()
		snaps, err := filepath.Glob(filepath.Join(home, dataDir, snapshotDir, "*"+snapshotExt))
		if err != nil || len(snaps) == 0 {
			t.Fatal("no snapshots", err)
		}
		for _, s := range snaps {
			if err := os.Truncate(s, 100); err != nil {
				t.Fatal(err)
			}
		}
	}
	damage(conf.Home)
	b = start(t, conf)
	awaitFresh(t, b)
	sameStates(t, a, b)

	alone := planted(t, "alone", 10)
	damage(alone.Home)
	alone.Logger = nil
	if _, err := Start(bounded(t), alone); err == nil || !strings.Contains(err.Error(), "restore the home") {
		t.Errorf("without snapshots and peers: %v", err)
	}
}

// liar is an office that changes what another answers.
type liar struct {
	url  string
	lie  atomic.Pointer[func(path string, body []byte) []byte]
	told atomic.Int64 // answers that were changed
}

func newLiar(t *testing.T, n *Node) *liar {
	to, err := url.Parse("http://" + n.OfficeAddr())
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ModifyResponse = func(r *http.Response) error {
		lie := l.lie.Load()
		if lie == nil || r.StatusCode != http.StatusOK {
			return nil
		}
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		out := (*lie)(r.Request.URL.Path, append([]byte(nil), raw...))
		if !bytes.Equal(out, raw) {
			l.told.Add(1)
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(out)), int64(len(out))
		r.Header.Set("Content-Length", strconv.Itoa(len(out)))
		return nil
	}
	s := httptest.NewServer(proxy)
	t.Cleanup(s.Close)
	l.url = strings.TrimPrefix(s.URL, "http://")
	return l
}

// lies about snapshots, each consistent in itself where it can be.
func lies(t *testing.T, other *Node) map[string]func(path string, body []byte) []byte {
	isChunk := func(path string) bool { return strings.Contains(path, "/chunks/") }
	onOffer := func(body []byte, change func(m *manifest)) []byte {
		var o offer
		if err := strict(body, &o); err != nil {
			t.Error(err)
			return body
		}
		for i := range o.Snapshots {
			change(&o.Snapshots[i])
		}
		out, _ := json.Marshal(o)
		return out
	}
	var forged []byte // the snapshot with a richer account, all hashes fitting but the root
	var forgedRoot types.Hash
	forge := func(c *Client) {
		other.app.mu.Lock()
		defer other.app.mu.Unlock()
		var b bytes.Buffer
		s := other.app.state
		if err := s.EncodeTo(&b); err != nil {
			t.Error(err)
		}
		forged, forgedRoot = b.Bytes(), s.Root()
	}
	forge(nil)
	return map[string]func(string, []byte) []byte{
		"flipped bit in a chunk": func(path string, body []byte) []byte {
			if isChunk(path) {
				body[len(body)/2] ^= 1
			}
			return body
		},
		"chunk cut short": func(path string, body []byte) []byte {
			if isChunk(path) {
				return body[:len(body)-1]
			}
			return body
		},
		"more than was announced": func(path string, body []byte) []byte {
			if isChunk(path) {
				return append(body, 0)
			}
			return body
		},
		"hashes of a changed snapshot": func(path string, body []byte) []byte {
			if isChunk(path) {
				return []byte("no snapshot at all")
			}
			if path == "/v1/snapshots" {
				return onOffer(body, func(m *manifest) {
					m.Size, m.Chunks = 18, []types.Hash{types.SHA256([]byte("no snapshot at all"))}
				})
			}
			return body
		},
		"another root": func(path string, body []byte) []byte {
			if path == "/v1/snapshots" {
				return onOffer(body, func(m *manifest) { m.Root[3] ^= 1 })
			}
			return body
		},
		"the state of another ledger": func(path string, body []byte) []byte {
			if isChunk(path) {
				return forged
			}
			if path == "/v1/snapshots" {
				return onOffer(body, func(m *manifest) {
					m.Size, m.Root, m.Chunks = int64(len(forged)), forgedRoot, []types.Hash{types.SHA256(forged)}
				})
			}
			return body
		},
		"another ledger's state under the right root": func(path string, body []byte) []byte {
			if isChunk(path) {
				return forged
			}
			if path == "/v1/snapshots" {
				return onOffer(body, func(m *manifest) { m.Size, m.Chunks = int64(len(forged)), []types.Hash{types.SHA256(forged)} })
			}
			return body
		},
		"a header that nobody signed": func(path string, body []byte) []byte {
			if strings.HasSuffix(path, "/anchor") {
				body[len(body)/3] ^= 1
			}
			return body
		},
		"validators from nowhere": func(path string, body []byte) []byte {
			if strings.HasSuffix(path, "/anchor") {
				body[len(body)-9] ^= 1
			}
			return body
		},
		"no anchor": func(path string, body []byte) []byte {
			if strings.HasSuffix(path, "/anchor") {
				return body[:len(body)/2]
			}
			return body
		},
		"no list": func(path string, body []byte) []byte {
			if path == "/v1/snapshots" {
				return []byte(`{"first":1,"snapshots":[{"height":4294967295,"size":9223372036854775807,"chunks":[]}]}`)
			}
			return body
		},
	}
}

// TestSnapshotLies: nothing of what a lying office says gets into the state, and the next office is used.
func TestSnapshotLies(t *testing.T) {
	a := start(t, planted(t, "a", 300))
	awaitHeight(t, a, 3)
	other := start(t, planted(t, "other", 200))
	for name, lie := range lies(t, other) {
		t.Run(name, func(t *testing.T) {
			l := newLiar(t, a)
			l.lie.Store(&lie)
			conf := testConfig(t, t.TempDir(), "b")
			conf.Join, conf.KeepBlocks, conf.Logger = l.url+"/"+a.trust.Genesis.String(), 1000, nil
			b, err := Start(bounded(t), conf)
			if err != nil {
				t.Fatal(err)
			}
			for ctx := bounded(t); l.told.Load() == 0; { // until it was lied to
				select {
				case <-ctx.Done():
					t.Fatal("it never asked")
				case <-time.After(5 * time.Millisecond):
				}
			}
			if head, ok := b.Head(); ok || head.Height != 0 {
				t.Errorf("it follows at block %d", head.Height)
			}
			if err := b.Stop(); err != nil {
				t.Fatal(err)
			}
			if _, err := readSynced(filepath.Join(conf.Home, dataDir)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("data was made of it: %v", err)
			}
			conf.Peers = []string{a.OfficeAddr()}
			b = start(t, conf)
			awaitFresh(t, b)
			sameStates(t, a, b)
		})
	}
}

// TestProposerLie: priorities that do not fit who proposed are noticed.
func TestProposerLie(t *testing.T) {
	a := start(t, planted(t, "a", 1))
	awaitHeight(t, a, 3)
	raw, err := a.anchor(1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeAnchor(raw)
	if err != nil {
		t.Fatal(err)
	}
	_, lb, err := a.trust.Advance(got.bundle)
	if err != nil {
		t.Fatal(err)
	}
	if err := proposes(lb); err != nil {
		t.Fatal(err)
	}
	lb.ProposerAddress = bytes.Repeat([]byte{1}, 20)
	if proposes(lb) == nil {
		t.Error("a block that somebody else proposed fits")
	}
}

// TestSettle interrupts the exchange of data at every moment.
func TestSettle(t *testing.T) {
	write := func(home, dir, file, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(home, dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		make func(home string)
		want string
	}{
		"nothing":               {func(string) {}, ""},
		"old data only":         {func(h string) { write(h, dataDir, "x", "old") }, "old"},
		"new data begun":        {func(h string) { write(h, dataDir, "x", "old"); write(h, nextDir, "x", "new") }, "old"},
		"new data begun, alone": {func(h string) { write(h, nextDir, "x", "new") }, ""},
		"new data whole": {func(h string) {
			write(h, dataDir, "x", "old")
			write(h, nextDir, "x", "new")
			write(h, nextDir, syncedFile, "{}")
		}, "new"},
		"old data moved away": {func(h string) {
			write(h, oldDir, "x", "old")
			write(h, nextDir, "x", "new")
			write(h, nextDir, syncedFile, "{}")
		}, "new"},
		"old data not removed": {func(h string) {
			write(h, oldDir, "x", "old")
			write(h, dataDir, "x", "new")
			write(h, dataDir, syncedFile, "{}")
		}, "new"},
		"an older exchange's rest": {func(h string) {
			write(h, oldDir, "x", "older")
			write(h, dataDir, "x", "old")
			write(h, nextDir, "x", "new")
			write(h, nextDir, syncedFile, "{}")
		}, "new"},
	} {
		home := t.TempDir()
		c.make(home)
		for range 2 {
			if err := settle(home); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, err := os.ReadFile(filepath.Join(home, dataDir, "x"))
			if string(got) != c.want || (err != nil) != (c.want == "") {
				t.Errorf("%s: data is %q, want %q (%v)", name, got, c.want, err)
			}
			left, _ := filepath.Glob(filepath.Join(home, "data.*"))
			if len(left) > 0 {
				t.Errorf("%s: %v is left", name, left)
			}
		}
	}
}

// TestKillSync kills a node at random moments while it syncs and takes snapshots, and lets it end in the same state.
func TestKillSync(t *testing.T) {
	a := start(t, planted(t, "a", 20_000))
	awaitHeight(t, a, 3)
	home := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for range 8 {
		cmd := exec.CommandContext(bounded(t), os.Args[0])
		cmd.Env = append(os.Environ(), childHome+"="+home, childJoin+"="+a.JoinAddr(), childKeep+"=10000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rnd.Int64N(int64(700 * time.Millisecond)))) // the moment is what is tested; nothing waits for it
		cmd.Process.Kill()
		cmd.Wait()
	}
	conf := victim(t, home)
	conf.Join, conf.KeepBlocks = a.JoinAddr(), 10_000
	b := start(t, conf)
	awaitFresh(t, b)
	sameStates(t, a, b)
	b.app.mu.Lock()
	err := b.app.state.Verify()
	b.app.mu.Unlock()
	if err != nil {
		t.Error(err)
	}
}
