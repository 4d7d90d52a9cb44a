package store

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Check reads everything and verifies the checksum of every block that holds something, that the tables and levels fit together, that
// keys are in order, and that the transactions which were known to be on disk are there. It says nothing about what the values
// mean. Commits go on meanwhile.
func (s *Store) Check() error {
	err := s.view(func(db *pebble.DB) error {
		if err := db.CheckLevels(nil); err != nil {
			return err
		}
		return iterate(db, nil, nil, func(k, _ []byte) error {
			if _, _, ok := splitKey(k); !ok {
				return fmt.Errorf("key %.40x belongs to no bucket", k)
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("check %s: damaged: %w: restore a backup of it", s.path, err)
	}
	return nil
}
