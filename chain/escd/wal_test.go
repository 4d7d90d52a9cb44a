package escd

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/cometbft/cometbft/consensus"
	cmttime "github.com/cometbft/cometbft/types/time"
)

// logOf encodes ends of blocks as CometBFT's log has them.
func logOf(t *testing.T, heights ...int64) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := consensus.NewWALEncoder(&b)
	for _, h := range heights {
		if err := enc.Encode(&consensus.TimedWALMessage{Time: cmttime.Now(), Msg: consensus.EndHeightMessage{Height: h}}); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// TestMarkLog: CometBFT finds the end of the block that it goes on after, and what the log had after that stays.
func TestMarkLog(t *testing.T) {
	damaged := logOf(t, 3, 4)
	damaged[9] ^= 1
	for name, c := range map[string]struct {
		files  map[string][]byte
		height int64
		kept   bool // the log is left as it was
	}{
		"no log":                {nil, 5, false},
		"new ledger":            {nil, 0, true},
		"empty":                 {map[string][]byte{"wal": nil}, 5, false},
		"marked":                {map[string][]byte{"wal": logOf(t, 0, 1, 2, 3)}, 3, true},
		"marked, torn":          {map[string][]byte{"wal": append(logOf(t, 0, 1), logOf(t, 2)[:7]...)}, 1, true},
		"marked after damage":   {map[string][]byte{"wal": damaged}, 4, true},
		"marked in an older":    {map[string][]byte{"wal": nil, "wal.000": logOf(t, 1), "wal.001": logOf(t, 2)}, 2, true},
		"blocks from elsewhere": {map[string][]byte{"wal": logOf(t, 0, 1, 2)}, 9, false},
		"the same, rotated":     {map[string][]byte{"wal": nil, "wal.000": logOf(t, 1), "wal.001": logOf(t, 2)}, 9, false},
		"torn":                  {map[string][]byte{"wal": append(logOf(t, 0), logOf(t, 1)[:7]...)}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cs.wal")
			if c.files != nil {
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			for file, b := range c.files {
				if err := os.WriteFile(filepath.Join(dir, file), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(dir, "wal")
			for range 2 {
				if err := markLog(path, c.height); err != nil {
					t.Fatal(err)
				}
			}
			if b, _ := os.ReadFile(path); c.kept != bytes.Equal(b, c.files["wal"]) {
				t.Errorf("the log is kept: %v, want %v", !c.kept, c.kept)
			}
			wal, err := consensus.NewWAL(path) // as CometBFT reads it
			if err != nil {
				t.Fatal(err)
			}
			defer wal.Group().Close()
			if c.height == 0 {
				return
			}
			r, found, err := wal.SearchForEndHeight(c.height, &consensus.WALSearchOptions{IgnoreDataCorruptionErrors: true})
			if err != nil || !found {
				t.Fatalf("found %v, %v", found, err)
			}
			r.Close()
		})
	}
}
