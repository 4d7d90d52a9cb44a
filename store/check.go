package store

import (
	"errors"
	"fmt"
	"runtime/debug"

	"go.etcd.io/bbolt"
)

// maxFindings bounds what Check reports: a damaged file can give one finding for each of its pages.
const maxFindings = 20

// Check reads the whole file and verifies that its pages form one tree, that no page is lost or used twice, that keys
// are in order, and that the version is known. It says nothing about what the values mean. Commits go on meanwhile.
func (s *Store) Check() error {
	if err := s.readAll(); err != nil {
		return fmt.Errorf("check %s: %w", s.path, err)
	}
	return s.view(func(tx *bbolt.Tx) error {
		var found []error
		n := 0
		for e := range tx.Check() { // to the end: the checker must not be left blocked
			if n++; n <= maxFindings {
				found = append(found, e)
			}
		}
		if n > 0 {
			return fmt.Errorf("check %s: damaged, %d findings: %w: restore a backup of it", s.path, n, errors.Join(found...))
		}
		return nil
	})
}

// readAll reads the version and every key. bbolt panics on pages that make no sense, and its checker does so on
// a goroutine of its own where nobody can recover; so it runs only after all pages were read here once.
func (s *Store) readAll() (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("damaged: %v: restore a backup of it", p)
		}
	}()
	v, err := version(s.db)
	if err != nil {
		return err
	}
	if newest := len(migrations) + 1; v != newest {
		return fmt.Errorf("version %d, want %d", v, newest)
	}
	return s.view(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(_, _ []byte) error { return nil })
		})
	})
}
