package escd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	dbm "github.com/cometbft/cometbft-db"
	"github.com/cometbft/cometbft/config"
	sm "github.com/cometbft/cometbft/state"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// pruning is a ledger that keeps few blocks and whose evidence is soon too old.
func pruning(t testing.TB, home string) Config {
	t.Helper()
	c := testConfig(t, home, "victim")
	c.KeepBlocks, c.snapshotBlocks = 15, 10
	if _, err := os.Stat(filepath.Join(home, genesisFile)); err == nil {
		return c
	}
	g, err := newGenesis(c, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	g.BlockMillis, g.UnbondingBlocks = minBlockMillis, 20
	c.GenesisFile = filepath.Join(t.TempDir(), "genesis.json")
	b, err := g.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if err := writeBytes(c.GenesisFile, b); err != nil {
		t.Fatal(err)
	}
	return c
}

// keys counts what is in the three stores.
func keys(t testing.TB, n *Node) (count int) {
	t.Helper()
	dbs := []dbm.DB{n.app.journal.db}
	for _, id := range []string{"blockstore", "state"} {
		db, err := n.dbs.get(&config.DBContext{ID: id})
		if err != nil {
			t.Fatal(err)
		}
		dbs = append(dbs, db)
	}
	for _, db := range dbs {
		it, err := db.Iterator(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for ; it.Valid(); it.Next() {
			count++
		}
		it.Close()
	}
	return count
}

// TestPruning: what is on disk stays the same size while blocks come, and what is needed stays.
func TestPruning(t *testing.T) {
	home := t.TempDir()
	n := start(t, pruning(t, home))
	user := openAccount(t, n, "user")
	early := submit(t, n, sendOne(t, n, admin, n.cfg.AccountSecret, user, types.Coin))
	result(t, n, early)
	awaitHeight(t, n, 80)
	id := submit(t, n, sendOne(t, n, admin, n.cfg.AccountSecret, user, types.Coin))
	result(t, n, id)
	awaitHeight(t, n, 160)
	// Eight keys for a block that is kept, three for one of which the header is still young enough for evidence (20 blocks and those
	// under way), and a few single ones: one key more that every block leaves would show.
	blocks := n.comet.BlockStore()
	if count, kept := keys(t, n), int(blocks.Height()-blocks.Base()+1); count > 8*kept+3*30+20 {
		t.Errorf("%d keys in the stores with %d blocks kept", count, kept)
	}
	head, _ := n.Head()
	first, err := n.app.journal.first()
	if err != nil || first+60 < head.Height || first+types.Height(n.cfg.KeepBlocks) > head.Height+1 {
		t.Errorf("at block %d the first block kept is %d (%v), asked for was %d blocks", head.Height, first, err, n.cfg.KeepBlocks)
	}
	if base := n.comet.BlockStore().Base(); types.Height(base) > first || types.Height(base)+pruneStep < first {
		t.Errorf("CometBFT keeps blocks from %d on, the journal from %d", base, first)
	}
	// What was forgotten is said to be, everywhere.
	var pruned *ledger.Pruned
	if err := n.Blocks(bounded(t), 1, func(ledger.BlockEvents) error { return errEnough }); !errors.As(err, &pruned) {
		t.Errorf("old blocks: %v", err)
	}
	for _, tx := range []types.Hash{early, id} {
		if _, _, err := n.FindTx(tx); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("an old transaction: %v", err)
		}
	}
	// The keys under which headers are dropped are CometBFT's.
	states := sm.NewStore(must(n.dbs.get(&config.DBContext{ID: "state"})), sm.StoreOptions{})
	if meta := n.comet.BlockStore().LoadBlockMeta(20); meta != nil {
		t.Error("the header of block 20 is still there")
	}
	if commit := n.comet.BlockStore().LoadBlockCommit(20); commit != nil {
		t.Error("the commit of block 20 is still there")
	}
	for _, h := range []types.Height{first, head.Height, head.Height + 1} {
		if _, err := states.LoadValidators(int64(h)); err != nil {
			t.Errorf("the validators of block %d: %v", h, err)
		}
	}
	if _, err := n.Bundle(head.Height); err != nil {
		t.Error(err)
	}
	c := NewClient(n.OfficeAddr())
	defer c.Close()
	var p *Problem
	if _, err := c.blocks(bounded(t), 1); !errors.As(err, &p) || p.Code != "pruned" {
		t.Errorf("the office says of old blocks: %v", err)
	}
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := Check(home); err != nil {
		t.Error(err)
	}
	n = start(t, pruning(t, home))
	again, _ := n.Head()
	awaitHeight(t, n, again.Height+20)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestKillPruning kills a node that prunes and takes snapshots all the time.
func TestKillPruning(t *testing.T) {
	home := t.TempDir()
	n := start(t, pruning(t, home)) // writes the genesis document
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	printed := map[types.Height]string{}
	for _, until := range []types.Height{30, 61, 95, 133} {
		killPruning(t, home, until, printed)
	}
	n = start(t, pruning(t, home))
	awaitHeight(t, n, 150)
	n.app.mu.Lock()
	err := n.app.state.Verify()
	n.app.mu.Unlock()
	if err != nil {
		t.Error(err)
	}
	first, err := n.app.journal.first()
	if err != nil || first < 60 {
		t.Errorf("the first block kept is %d, %v", first, err)
	}
}

func killPruning(t *testing.T, home string, until types.Height, printed map[types.Height]string) {
	t.Helper()
	t.Setenv(childKeep, "15")
	killAt(t, home, "", until, printed)
}

// TestSnapshotFiles: what an interruption or damage left of snapshots is found out and does no harm.
func TestSnapshotFiles(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	open := func() *snapshots { return must(openSnapshots(dir, log)) }
	g := must(newGenesis(testConfig(t, dir, "a"), time.Now()))
	s, err := ledger.NewState(g)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Populate(60_000, 1, func(i int) [32]byte { return [32]byte{byte(i), byte(i >> 8), byte(i >> 16)} }, parallel); err != nil { // two chunks
		t.Fatal(err)
	}
	kept := open()
	for range 4 {
		s.Apply(s.Height()+1, s.Time()+1, nil)
		if err := kept.write(t.Context(), s.Freeze(), func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	heights := func(s *snapshots) (out []types.Height) {
		for _, m := range s.all() {
			out = append(out, m.Height)
		}
		return out
	}
	if got := heights(open()); !slices.Equal(got, []types.Height{4, 3}) {
		t.Fatalf("snapshots %v, want 4 and 3", got)
	}
	genesis := s.Params().Genesis
	newest := kept.newest()
	if len(newest.Chunks) != 2 {
		t.Fatalf("%d chunks", len(newest.Chunks))
	}
	if back, err := kept.load(newest, genesis); err != nil || back.Root() != s.Root() {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for i := range newest.Chunks {
		all.Write(must(kept.chunk(4, i)))
	}
	if int64(all.Len()) != newest.Size || types.SHA256(must(kept.chunk(4, 1))) != newest.Chunks[1] {
		t.Error("the chunks are not the snapshot")
	}
	for _, c := range []struct {
		h types.Height
		i int
	}{{4, 2}, {4, -1}, {5, 0}, {1, 0}} {
		if _, err := kept.chunk(c.h, c.i); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("chunk %d of snapshot %d: %v", c.i, c.h, err)
		}
	}
	// A stop in the middle of writing: nothing counts, nothing is left.
	if err := kept.write(canceled(), s.Freeze(), func() error { return nil }); err == nil {
		t.Error("a snapshot was written after the end")
	}
	if err := kept.write(t.Context(), s.Freeze(), func() error { return errors.New("the journal is full") }); err == nil {
		t.Error("a snapshot counts whose blocks are not on disk")
	}
	os.WriteFile(filepath.Join(dir, "0000000009.snap"), []byte("begun"), 0o600)
	os.WriteFile(filepath.Join(dir, "0000000009.snap.1.tmp"), []byte("begun"), 0o600)
	if got := heights(open()); !slices.Equal(got, []types.Height{4, 3}) {
		t.Fatalf("snapshots %v, want 4 and 3", got)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 4 {
		t.Errorf("%v is left", left)
	}
	// Damage: one bit, one byte less, another's manifest.
	path := kept.path(4)
	good := must(os.ReadFile(path))
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	os.WriteFile(path, flipped, 0o600)
	if _, err := open().load(newest, genesis); err == nil {
		t.Error("a flipped bit was not seen")
	}
	os.WriteFile(path, good[:len(good)-1], 0o600)
	if got := heights(open()); !slices.Equal(got, []types.Height{3}) {
		t.Errorf("snapshots %v, want 3", got)
	}
	if _, err := kept.load(kept.all()[1], types.Hash{1}); !errors.Is(err, errForeign) {
		t.Errorf("another ledger's: %v", err)
	}
}

func FuzzManifest(f *testing.F) {
	for _, m := range []string{`{"height":1,"root":"` + fmt.Sprintf("%064x", 7) + `","size":5,"chunks":["` + fmt.Sprintf("%064x", 8) + `"]}`,
		`{"height":0}`, `{}`, `[]`} {
		f.Add([]byte(m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b)
		if err != nil {
			return
		}
		sum := int64(0)
		for i := range m.Chunks {
			if n := m.chunkSize(i); n <= 0 || n > chunkBytes {
				t.Fatalf("chunk %d of %d bytes", i, n)
			}
			sum += int64(m.chunkSize(i))
		}
		if sum != m.Size {
			t.Fatalf("chunks of %d bytes, size %d", sum, m.Size)
		}
	})
}

func FuzzAnchor(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 1, 7, 0, 0, 0, 1, 8, 0, 0, 0, 2, 10, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := decodeAnchor(b); err == nil && (a.after == nil || len(a.bundle)+len(a.next) > len(b)) {
			t.Fatal("an anchor without validators")
		}
		if list, err := decodeBlobs(b); err == nil {
			n := 0
			for _, one := range list {
				n += 4 + len(one)
			}
			if n != len(b) {
				t.Fatalf("%d bytes of %d", n, len(b))
			}
		}
	})
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
