package store

import (
	"errors"
	"fmt"
	"strconv"

	"go.etcd.io/bbolt"
)

const (
	metaBucket = "_store"
	versionKey = "version"
)

// migrations are the steps from one schema version to the next, in order: migrations[i] turns version i+1 into i+2.
// Each runs in the transaction that records the new version, so a crash leaves either version whole. Never
// remove or reorder one: files of every earlier version must still open.
var migrations []func(*bbolt.Tx) error

// migrate brings a file up to date; a new file starts at the newest version.
func migrate(db *bbolt.DB, steps []func(*bbolt.Tx) error) error {
	newest := len(steps) + 1
	have, err := version(db)
	if err != nil {
		return err
	}
	if have > newest {
		return fmt.Errorf("%w: its version is %d, this program knows up to %d: run the newer chand", ErrNewer, have, newest)
	}
	if have == 0 {
		return db.Update(func(tx *bbolt.Tx) error { return setVersion(tx, newest) })
	}
	for v := have; v < newest; v++ {
		err := db.Update(func(tx *bbolt.Tx) error {
			return errors.Join(steps[v-1](tx), setVersion(tx, v+1))
		})
		if err != nil {
			return fmt.Errorf("bring the store from version %d to %d: %w: the file is unchanged", v, v+1, err)
		}
	}
	return nil
}

// version reads the schema version; 0 for an empty file.
func version(db *bbolt.DB) (v int, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(metaBucket))
		if b == nil {
			if name, _ := tx.Cursor().First(); name != nil {
				return fmt.Errorf("%w: a bbolt file of another program (it has a bucket %.40q and no version)", ErrNotStore, name)
			}
			return nil
		}
		text := string(b.Get([]byte(versionKey)))
		if v, err = strconv.Atoi(text); err != nil || v < 1 {
			return fmt.Errorf("%w: its version reads %.40q", ErrNotStore, text)
		}
		return nil
	})
	return v, err
}

func setVersion(tx *bbolt.Tx, v int) error {
	b, err := tx.CreateBucketIfNotExists([]byte(metaBucket))
	if err != nil {
		return err
	}
	return b.Put([]byte(versionKey), []byte(strconv.Itoa(v)))
}
