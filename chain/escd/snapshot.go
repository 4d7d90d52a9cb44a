package escd

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// A snapshot file is the ledger's own snapshot (which names genesis and height) and the SHA-256 of it.

// snapshotBuffer bounds system calls and hash calls per snapshot.
const snapshotBuffer = 1 << 20

const (
	// snapshotBlocks and snapshotBytes bound what has to be replayed after a crash: blocks (about half a millisecond each
	// when empty) and bytes of transactions (executed at some 10 MB a second).
	snapshotBlocks = 500
	snapshotBytes  = 16 << 20
)

// writeSnapshot replaces the snapshot, atomically and durably, and returns its size.
func writeSnapshot(home string, s *ledger.State) (size int64, err error) {
	err = writeFile(filepath.Join(home, snapshotFile), func(f *os.File) error {
		sum := sha256.New()
		w := bufio.NewWriterSize(io.MultiWriter(f, sum), snapshotBuffer)
		if err := s.EncodeTo(w); err != nil {
			return err
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if _, err := f.Write(sum.Sum(nil)); err != nil {
			return err
		}
		size, err = f.Seek(0, io.SeekCurrent)
		return err
	})
	return size, err
}

// readSnapshot returns fs.ErrNotExist when there is none.
func readSnapshot(home string, genesis types.Hash) (*ledger.State, int64, error) {
	path := filepath.Join(home, snapshotFile)
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	body := st.Size() - sha256.Size
	if body < 0 {
		return nil, 0, fmt.Errorf("%s: too short", path)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.LimitReader(f, body)); err != nil {
		return nil, 0, err
	}
	want := make([]byte, sha256.Size)
	if _, err := io.ReadFull(f, want); err != nil {
		return nil, 0, err
	}
	if string(sum.Sum(nil)) != string(want) {
		return nil, 0, fmt.Errorf("%s: damaged: its checksum does not fit", path)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, 0, err
	}
	s, err := ledger.DecodeState(bufio.NewReaderSize(io.LimitReader(f, body), snapshotBuffer), ledger.DefaultLimits)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	if got := s.Params().Genesis; got != genesis {
		return nil, 0, fmt.Errorf("%s: %w: it is of the ledger with genesis %s, this home's is %s", path, errForeign, got, genesis)
	}
	return s, st.Size(), nil
}

// errForeign marks data of another ledger, which must never be discarded as if it were damaged.
var errForeign = errors.New("data of another ledger")

// loadState returns the state to go on from: the snapshot, or the genesis state at height 0. A damaged snapshot, or one whose
// block events are not all in the journal (power loss), is not needed: every block is kept, so all are
// replayed from the start.
func loadState(home string, g ledger.Genesis, genesis types.Hash, j journal) (s *ledger.State, size int64, warning, err error) {
	s, size, err = readSnapshot(home, genesis)
	if errors.Is(err, errForeign) {
		return nil, 0, nil, err
	}
	if err == nil {
		if err = j.covers(s.Height()); err == nil {
			return s, size, nil, nil
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		warning = fmt.Errorf("replaying the whole ledger: %w", err)
	}
	s, err = ledger.NewState(g)
	return s, 0, warning, err
}

// covers checks that the records written since the last snapshots before height h are all there: older ones were flushed
// and seen by an earlier start.
func (j journal) covers(h types.Height) error {
	from := types.Height(1)
	if h > 2*snapshotBlocks {
		from = h - 2*snapshotBlocks
	}
	for ; from <= h; from++ {
		if ok, err := j.db.Has(blockKey(from)); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("the events of block %d are missing", from)
		}
	}
	return nil
}
