package market

import (
	"errors"
	"fmt"
	"strings"

	"github.com/eschaton-network/chand/types"
)

// Unit is what a price is for.
type Unit string

const (
	// Request is one HTTP request that the service answered.
	Request Unit = "request"
	// Byte is one byte of answer.
	Byte Unit = "byte"
	// Second is one second of service.
	Second Unit = "second"
	// Event is one reading of a meter.
	Event Unit = "event"
)

var units = []Unit{Request, Byte, Second, Event}

// ErrPrice is wrapped by every error about a price.
var ErrPrice = errors.New("not a price")

// Price is an amount of coins for one unit.
type Price struct {
	Amount types.Amount `json:"amount"`
	Unit   Unit         `json:"unit"`
}

// ParsePrice reads "3/request" or "0.01/second": a positive amount of coins, a slash, and a unit. A bare amount, signs and
// spaces are refused.
func ParsePrice(s string) (Price, error) {
	amount, unit, ok := strings.Cut(s, "/")
	if !ok {
		return Price{}, fmt.Errorf("%w: %.40q: want an amount of coins and a unit, like 3/request or 0.01/request", ErrPrice, s)
	}
	a, err := types.ParseAmount(amount)
	if err != nil {
		return Price{}, fmt.Errorf("%w: %.40q: %w", ErrPrice, s, err)
	}
	p := Price{a, Unit(unit)}
	return p, p.Check()
}

// Check wants a positive amount and a known unit.
func (p Price) Check() error {
	if p.Amount <= 0 || p.Amount > types.MaxAmount {
		return fmt.Errorf("%w: the amount must be more than 0 and at most %s coins", ErrPrice, types.MaxAmount)
	}
	for _, u := range units {
		if p.Unit == u {
			return nil
		}
	}
	return fmt.Errorf("%w: unknown unit %.20q: want request, byte, second or event", ErrPrice, string(p.Unit))
}

// String is the form that ParsePrice reads.
func (p Price) String() string { return p.Amount.String() + "/" + string(p.Unit) }

// For returns what n units cost.
func (p Price) For(n uint32) (types.Amount, error) {
	a, err := p.Amount.MulDiv(uint64(n), 1)
	if err != nil {
		return 0, fmt.Errorf("%w: %d times %s is too much", ErrPrice, n, p)
	}
	return a, nil
}

// MarshalText writes the text form.
func (p Price) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the text form.
func (p *Price) UnmarshalText(b []byte) (err error) { *p, err = ParsePrice(string(b)); return err }
