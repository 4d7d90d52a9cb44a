package escd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// A snapshot is the ledger's own snapshot (which names genesis and height) in one file, and a manifest with the hashes of its
// chunks. It counts from when the manifest is there; the manifest is written last and removed first.

const (
	// chunkBytes is the size of a chunk: a request each, small enough to be asked for again, large enough that requests cost nothing.
	chunkBytes = 4 << 20
	// syncEvery is how many chunks are written between flushes, so that no large flush holds up those of the blocks.
	syncEvery = 4
	// keptSnapshots are enough that who fetches one is not cut off by the next, and that there is one more when one is damaged.
	keptSnapshots = 2
	// maxManifest bounds a manifest: the hashes of the chunks of the largest snapshot, in JSON.
	maxManifest = 256 << 10
)

// manifest names a snapshot.
type manifest struct {
	// Height is that of the last block in it, Root the state root after it: the app hash of the next block's header.
	Height types.Height `json:"height"`
	Root   types.Hash   `json:"root"`
	// Size is in bytes; Chunks are the SHA-256 of every chunkBytes of them, the last one shorter.
	Size   int64        `json:"size"`
	Chunks []types.Hash `json:"chunks"`
}

// check refuses what no snapshot that this program takes has.
func (m *manifest) check() error {
	if m.Height == 0 || m.Size <= 0 || m.Size > ledger.DefaultLimits.Bytes || int64(len(m.Chunks)) != (m.Size+chunkBytes-1)/chunkBytes {
		return fmt.Errorf("manifest of snapshot %d: %d bytes in %d chunks", m.Height, m.Size, len(m.Chunks))
	}
	return nil
}

// chunkSize is the length of a chunk.
func (m *manifest) chunkSize(i int) int {
	return int(min(m.Size-int64(i)*chunkBytes, chunkBytes))
}

// parseManifest reads a manifest strictly.
func parseManifest(b []byte) (manifest, error) {
	var m manifest
	if len(b) > maxManifest {
		return m, fmt.Errorf("manifest of %d bytes: at most %d", len(b), maxManifest)
	}
	if err := strict(b, &m); err != nil {
		return m, fmt.Errorf("manifest: %w", err)
	}
	return m, m.check()
}

// snapshots are those in a directory. Safe for concurrent use; one writer.
type snapshots struct {
	dir string
	log *slog.Logger

	mu   sync.Mutex
	list []manifest // guarded by mu; newest first
}

// openSnapshots lists what is there and removes what an interruption left.
func openSnapshots(dir string, log *slog.Logger) (*snapshots, error) {
	s := &snapshots{dir: dir, log: log}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	whole := map[string]bool{}
	for _, f := range files {
		if filepath.Ext(f.Name()) != manifestExt {
			continue
		}
		m, err := s.readManifest(f.Name())
		if err != nil {
			log.Warn("a snapshot of the ledger is not used", "err", err)
			continue
		}
		whole[f.Name()], whole[filepath.Base(s.path(m.Height))] = true, true
		s.list = append(s.list, m)
	}
	for _, f := range files {
		if !whole[f.Name()] {
			os.Remove(filepath.Join(dir, f.Name()))
		}
	}
	slices.SortFunc(s.list, func(a, b manifest) int { return int(b.Height) - int(a.Height) })
	return s, nil
}

const (
	snapshotExt = ".snap"
	manifestExt = ".json"
)

func (s *snapshots) path(h types.Height) string {
	return filepath.Join(s.dir, fmt.Sprintf("%010d%s", h, snapshotExt))
}

func (s *snapshots) manifestPath(h types.Height) string {
	return strings.TrimSuffix(s.path(h), snapshotExt) + manifestExt
}

func (s *snapshots) readManifest(name string) (manifest, error) {
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		return manifest{}, err
	}
	m, err := parseManifest(b)
	if err != nil {
		return m, fmt.Errorf("%s: %w", name, err)
	}
	if filepath.Base(s.manifestPath(m.Height)) != name {
		return m, fmt.Errorf("%s is the manifest of snapshot %d", name, m.Height)
	}
	st, err := os.Stat(s.path(m.Height))
	if err != nil {
		return m, err
	}
	if st.Size() != m.Size {
		return m, fmt.Errorf("snapshot %d has %d bytes, want %d", m.Height, st.Size(), m.Size)
	}
	return m, nil
}

// all lists the snapshots, newest first.
func (s *snapshots) all() []manifest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// newest is the newest snapshot, with height 0 when there is none.
func (s *snapshots) newest() manifest {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 {
		return manifest{}
	}
	return s.list[0]
}

// oldest is the height of the oldest snapshot, 0 when there is none.
func (s *snapshots) oldest() types.Height {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 {
		return 0
	}
	return s.list[len(s.list)-1].Height
}

// write adds a snapshot, atomically and durably, and removes those that are one too many. ready is called before it counts.
func (s *snapshots) write(ctx context.Context, state *ledger.Frozen, ready func() error) error {
	w := &chunkWriter{ctx: ctx, buf: make([]byte, 0, chunkBytes), m: manifest{Height: state.Height(), Root: state.Root()}}
	err := writeFile(s.path(w.m.Height), func(f *os.File) error {
		w.f = f
		if err := state.EncodeTo(w); err != nil {
			return err
		}
		return w.flush()
	})
	if err != nil {
		return err
	}
	if err := ready(); err != nil {
		return err
	}
	return s.add(w.m)
}

// add makes the snapshot whose file is there count.
func (s *snapshots) add(m manifest) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := writeBytes(s.manifestPath(m.Height), b); err != nil {
		return err
	}
	s.mu.Lock()
	s.list = append([]manifest{m}, slices.DeleteFunc(s.list, func(o manifest) bool { return o.Height >= m.Height })...)
	var old []manifest
	if len(s.list) > keptSnapshots {
		s.list, old = s.list[:keptSnapshots:keptSnapshots], s.list[keptSnapshots:]
	}
	s.mu.Unlock()
	for _, o := range old {
		os.Remove(s.manifestPath(o.Height))
		os.Remove(s.path(o.Height))
	}
	return nil
}

// chunkWriter hashes chunks and writes them.
type chunkWriter struct {
	ctx context.Context
	f   *os.File
	buf []byte
	m   manifest
}

func (w *chunkWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), chunkBytes-len(w.buf))
		w.buf, rest = append(w.buf, rest[:n]...), rest[n:]
		if len(w.buf) == chunkBytes {
			if err := w.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

func (w *chunkWriter) flush() error {
	if err := w.ctx.Err(); err != nil || len(w.buf) == 0 {
		return err
	}
	if _, err := w.f.Write(w.buf); err != nil {
		return err
	}
	w.m.Chunks, w.m.Size = append(w.m.Chunks, types.SHA256(w.buf)), w.m.Size+int64(len(w.buf))
	w.buf = w.buf[:0]
	if len(w.m.Chunks)%syncEvery == 0 {
		return w.f.Sync()
	}
	return nil
}

// chunk reads one chunk; fs.ErrNotExist when the snapshot has gone.
func (s *snapshots) chunk(h types.Height, i int) ([]byte, error) {
	all := s.all()
	at := slices.IndexFunc(all, func(m manifest) bool { return m.Height == h })
	if at < 0 || i < 0 || i >= len(all[at].Chunks) {
		return nil, fs.ErrNotExist
	}
	f, err := os.Open(s.path(h))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, all[at].chunkSize(i))
	if _, err := f.ReadAt(b, int64(i)*chunkBytes); err != nil {
		return nil, err
	}
	return b, nil
}

// errForeign marks data of another ledger, which must never be discarded as if it were damaged.
var errForeign = errors.New("data of another ledger")

// load reads a snapshot of the ledger with this genesis.
func (s *snapshots) load(m manifest, genesis types.Hash) (*ledger.State, error) {
	path := s.path(m.Height)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := newChunkReader(f, m)
	defer r.close()
	limits := ledger.DefaultLimits
	limits.Run = parallel
	state, err := ledger.DecodeState(r, limits)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	case state.Params().Genesis != genesis:
		return nil, fmt.Errorf("%s: %w: it is of the ledger with genesis %s, this home's is %s", path, errForeign, state.Params().Genesis, genesis)
	case state.Height() != m.Height || state.Root() != m.Root:
		return nil, fmt.Errorf("%s: it is of block %d with state root %s, want %d with %s", path, state.Height(), state.Root(), m.Height, m.Root)
	}
	return state, nil
}

// chunkReader reads a file by the chunk, ahead of its reader, and checks each chunk's hash.
type chunkReader struct {
	next chan []byte
	err  error // of the goroutine; valid once next is closed
	quit chan struct{}
	cur  bytes.Reader
}

func newChunkReader(f io.ReaderAt, m manifest) *chunkReader {
	r := &chunkReader{next: make(chan []byte, 1), quit: make(chan struct{})}
	go func() {
		defer close(r.next)
		for i, want := range m.Chunks {
			b := make([]byte, m.chunkSize(i))
			if _, err := f.ReadAt(b, int64(i)*chunkBytes); err != nil {
				r.err = err
				return
			}
			if got := types.SHA256(b); got != want {
				r.err = fmt.Errorf("damaged: chunk %d has hash %s, want %s", i, got, want)
				return
			}
			select {
			case r.next <- b:
			case <-r.quit:
				return
			}
		}
		r.err = io.EOF
	}()
	return r
}

func (r *chunkReader) Read(p []byte) (int, error) {
	for r.cur.Len() == 0 {
		b, ok := <-r.next
		if !ok {
			return 0, r.err
		}
		r.cur.Reset(b)
	}
	return r.cur.Read(p)
}

// close ends the goroutine, after which the file may be closed.
func (r *chunkReader) close() {
	close(r.quit)
	for range r.next {
	}
}
