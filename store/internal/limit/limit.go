// Package limit holds what both stores (disk and memory) accept, so that no write passes in one and fails in the other.
package limit

import (
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/types"
)

const (
	// MaxKey bounds a key: keys are ids and numbers, and every index block holds some.
	MaxKey = 32768
	// MaxBucket bounds a bucket name: names are words of the program, never input.
	MaxBucket = 255
	// MaxCommit bounds the keys and values of one Commit, in bytes. A transaction is built in memory before it is written;
	// the largest that the daemon makes (a block's worth of statements) is far below.
	MaxCommit = 64 << 20
	// Reserved starts the names of buckets that belong to the store itself.
	Reserved = '_'
)

// ErrBadWrite is wrapped by every refusal of Check and Name. Nothing was written.
var ErrBadWrite = errors.New("write refused by the store")

// Check validates one Commit and returns its size in bytes.
func Check(writes []types.Write) (size int, err error) {
	for i := range writes {
		w := &writes[i]
		if err := Name(w.Bucket); err != nil {
			return 0, err
		}
		if len(w.Key) == 0 || len(w.Key) > MaxKey {
			return 0, fmt.Errorf("%w: key of %d bytes in bucket %q: want 1..%d", ErrBadWrite, len(w.Key), w.Bucket, MaxKey)
		}
		size += len(w.Bucket) + len(w.Key) + len(w.Value)
	}
	if size > MaxCommit {
		return 0, fmt.Errorf("%w: commit of %d bytes: at most %d fit in one", ErrBadWrite, size, MaxCommit)
	}
	return size, nil
}

// Name validates a bucket name.
func Name(bucket string) error {
	if len(bucket) == 0 || len(bucket) > MaxBucket || bucket[0] == Reserved {
		return fmt.Errorf("%w: bucket name %.40q: want 1..%d bytes that do not start with %q", ErrBadWrite, bucket, MaxBucket, Reserved)
	}
	return nil
}
