package library

import (
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/statement"
)

// Check verifies everything that is stored: each statement's form and signatures, and that it stands under its id. All
// problems are joined.
func Check(s Reader) error {
	var problems []error
	err := s.Scan(bucketStatement, "", func(key string, raw []byte) error {
		st, err := statement.Open(raw)
		if err == nil && st.ID.String() != key {
			err = fmt.Errorf("it holds %s", st.ID)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%w: %s: %w", errRecord, key, err))
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = s.Scan(bucketKey, "", func(key string, raw []byte) error {
		if _, err := decodeKey(raw); err != nil {
			problems = append(problems, fmt.Errorf("%w: key %q: %w", errRecord, key, err))
		}
		return nil
	})
	return errors.Join(append(problems, err)...)
}
