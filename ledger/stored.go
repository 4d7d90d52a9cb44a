package ledger

import (
	"bufio"
	"bytes"
	"fmt"

	"github.com/eschaton-network/chand/merkle"
)

// maxContract bounds a contract's stored form: two refunds and less than 256 bytes besides.
const maxContract = 2*MaxSpend + 256

// EncodeContract writes a contract as its leaf in the state root hashes it.
func EncodeContract(c *Contract) []byte { return appendContract(nil, c) }

// ParseContract reads what EncodeContract wrote, and nothing else. The error wraps merkle.ErrProof.
func ParseContract(b []byte) (*Contract, error) {
	if len(b) > maxContract {
		return nil, fmt.Errorf("%w: contract of %d bytes, at most %d", merkle.ErrProof, len(b), maxContract)
	}
	d := &decoder{r: bufio.NewReaderSize(bytes.NewReader(b), min(len(b), 1<<12))}
	c := d.contract()
	if d.err == nil && !bytes.Equal(appendContract(nil, c), b) {
		d.fail("it is not in its only form")
	}
	if d.err != nil {
		return nil, fmt.Errorf("%w: contract: %w", merkle.ErrProof, d.err)
	}
	return c, nil
}

// Type is the transaction type's number.
func (tx *Tx) Type() byte { return tx.Body.kind() }
