package market

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/eschaton-network/chand/types"
)

var (
	// ErrUsedUp says that a credit has no units left.
	ErrUsedUp = errors.New("the credit is used up")
	// ErrCredit is wrapped by errors about a damaged or contradicting credit.
	ErrCredit = errors.New("not a valid credit")
	// ErrOutcomeUnknown says of a payment that it may or may not have happened. It must be asked for, never paid again.
	ErrOutcomeUnknown = errors.New("the outcome of the payment is unknown")
)

// Credit is a prepaid number of units: what one settled payment bought. The zero value bought nothing.
type Credit struct {
	// Limit is the number of units bought, Used of those taken. Used <= Limit.
	Limit, Used uint32
	// Paid is what the buyer paid for all of them.
	Paid types.Amount
	// Until is when what is left lapses.
	Until types.Time
}

// Left is the number of units to be had.
func (c Credit) Left() uint32 { return c.Limit - c.Used }

// Use takes one unit, or returns ErrUsedUp.
func (c Credit) Use() (Credit, error) {
	if c.Used >= c.Limit {
		return c, fmt.Errorf("%w: all %d were used", ErrUsedUp, c.Limit)
	}
	c.Used++
	return c, nil
}

// Refund gives one unit back, because nothing was delivered for it.
func (c Credit) Refund() (Credit, error) {
	if c.Used == 0 {
		return c, fmt.Errorf("%w: a unit is given back that was never used", ErrCredit)
	}
	c.Used--
	return c, nil
}

// creditVersion and creditSize are of the encoded form: version, limit, used, paid, until.
const (
	creditVersion = 1
	creditSize    = 1 + 4 + 4 + 8 + 8
)

// Encode returns the stored form, 25 bytes.
func (c Credit) Encode() []byte {
	b := append(make([]byte, 0, creditSize), creditVersion)
	b = binary.BigEndian.AppendUint32(b, c.Limit)
	b = binary.BigEndian.AppendUint32(b, c.Used)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Paid))
	return binary.BigEndian.AppendUint64(b, uint64(c.Until))
}

// DecodeCredit reads exactly what Encode wrote.
func DecodeCredit(b []byte) (Credit, error) {
	if len(b) != creditSize || b[0] != creditVersion {
		return Credit{}, fmt.Errorf("%w: %d bytes", ErrCredit, len(b))
	}
	paid, until := binary.BigEndian.Uint64(b[9:]), binary.BigEndian.Uint64(b[17:])
	c := Credit{binary.BigEndian.Uint32(b[1:]), binary.BigEndian.Uint32(b[5:]), types.Amount(paid), types.Time(until)}
	if c.Used > c.Limit || paid > uint64(types.MaxAmount) || until > math.MaxInt64 {
		return Credit{}, fmt.Errorf("%w: %d of %d used, %d paid", ErrCredit, c.Used, c.Limit, paid)
	}
	return c, nil
}
