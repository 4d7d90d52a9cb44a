package escd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	dbm "github.com/cometbft/cometbft-db"
	"github.com/cometbft/cometbft/config"
	"github.com/syndtr/goleveldb/leveldb/opt"
)

// databases opens each of CometBFT's databases once and hands the same one to everybody who asks for it, so that catching
// up before the node starts and the node itself share them. Safe for concurrent use.
type databases struct {
	dir string

	mu   sync.Mutex
	open map[string]*database
}

func newDatabases(dir string) *databases { return &databases{dir: dir, open: map[string]*database{}} }

// get is a config.DBProvider.
func (d *databases) get(ctx *config.DBContext) (dbm.DB, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if db := d.open[ctx.ID]; db != nil {
		return db, nil
	}
	db, err := openDB(ctx.ID, d.dir)
	if err != nil {
		return nil, err
	}
	d.open[ctx.ID] = &database{DB: db}
	return d.open[ctx.ID], nil
}

// newDB is added to the name of a database in the making.
const newDB = ".new"

// openDB opens or creates the database name.db in a directory. A new one is made under another name and renamed when it is whole:
// what is there of it after a kill in between would be taken for a damaged one.
func openDB(name, dir string) (db dbm.DB, err error) {
	path := filepath.Join(dir, name+".db")
	if _, err = os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		err = createDB(name, dir)
	}
	if err == nil {
		db, err = dbm.NewGoLevelDBWithOpts(name, dir, optionsOf(name))
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return db, nil
}

// blockBuffer is how many bytes of the newest blocks are kept in memory, and how long the block store's files are. Every file has keys of all
// kinds, so merging a new one rewrites all others of its level: with goleveldb's 4 MiB, files for parts of a block, a ledger under load wrote
// each block twelve times and spent a fifth of a second of CPU on it; with more than a block it is three times and a tenth.
const blockBuffer = 32 << 20

// optionsOf is nil for the databases that hold little.
func optionsOf(name string) *opt.Options {
	if name != "blockstore" {
		return nil
	}
	return &opt.Options{WriteBuffer: blockBuffer, CompactionTableSize: blockBuffer, CompactionTotalSize: 2 * blockBuffer}
}

func createDB(name, dir string) error {
	aside := filepath.Join(dir, name+newDB+".db")
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	db, err := dbm.NewGoLevelDB(name+newDB, dir)
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return err
	}
	if err := os.Rename(aside, filepath.Join(dir, name+".db")); err != nil {
		return err
	}
	return syncDir(dir)
}

// close closes all for real.
func (d *databases) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for id, db := range d.open {
		db.mu.Lock()
		db.closed = true
		errs = append(errs, db.DB.Close())
		db.mu.Unlock()
		delete(d.open, id)
	}
	return errors.Join(errs...)
}

// database is a goleveldb whose Close does nothing and which, once closed by its owner, ends any goroutine that still uses
// it. CometBFT closes its stores while goroutines of its reactors may still read from them (they sleep up to two
// seconds between rounds), and each of those panics on "leveldb: closed"; ending it with its deferred calls is what
// they would do themselves at their next look at the reactor's state.
type database struct {
	dbm.DB
	mu     sync.RWMutex
	closed bool
}

func (d *database) enter() {
	d.mu.RLock()
	if d.closed {
		d.mu.RUnlock()
		runtime.Goexit()
	}
}

func (d *database) Close() error { return nil }

func (d *database) Get(k []byte) ([]byte, error) {
	d.enter()
	defer d.mu.RUnlock()
	return d.DB.Get(k)
}

func (d *database) Has(k []byte) (bool, error) {
	d.enter()
	defer d.mu.RUnlock()
	return d.DB.Has(k)
}

func (d *database) Set(k, v []byte) error {
	d.enter()
	defer d.mu.RUnlock()
	return d.DB.Set(k, v)
}

func (d *database) SetSync(k, v []byte) error {
	d.enter()
	defer d.mu.RUnlock()
	return d.DB.SetSync(k, v)
}

func (d *database) Delete(k []byte) error {
	d.enter()
	defer d.mu.RUnlock()
	return d.DB.Delete(k)
}

func (d *database) DeleteSync(k []byte) error {
	d.enter()
	defer d.mu.RUnlock()
	return d.DB.DeleteSync(k)
}

func (d *database) Iterator(start, end []byte) (dbm.Iterator, error) {
	d.enter()
	defer d.mu.RUnlock()
	return d.DB.Iterator(start, end)
}

func (d *database) ReverseIterator(start, end []byte) (dbm.Iterator, error) {
	d.enter()
	defer d.mu.RUnlock()
	return d.DB.ReverseIterator(start, end)
}

func (d *database) NewBatch() dbm.Batch {
	d.enter()
	defer d.mu.RUnlock()
	return &batch{d.DB.NewBatch(), d}
}

type batch struct {
	dbm.Batch
	of *database
}

func (b *batch) Write() error {
	b.of.enter()
	defer b.of.mu.RUnlock()
	return b.Batch.Write()
}

func (b *batch) WriteSync() error {
	b.of.enter()
	defer b.of.mu.RUnlock()
	return b.Batch.WriteSync()
}
