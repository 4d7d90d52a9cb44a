package types

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strings"
)

// Amount is a quantity of money in base units of the settlement chain. On the ledger one coin is
// 10^9 units (E17, see docs/ledger.md). Amounts in rules are never negative; the signed type only
// makes a wrong subtraction visible. Range: 0..MaxAmount.
type Amount int64

const (
	// Coin is one coin of the ledger in base units.
	Coin Amount = 1_000_000_000
	// AmountDecimals is the number of digits after the point in the text form.
	AmountDecimals = 9
	// MaxAmount is the total supply of the ledger, 2^62 units.
	MaxAmount Amount = 1 << 62
)

// ErrAmount is wrapped by every error of amount arithmetic and parsing.
var ErrAmount = errors.New("amount out of range")

// Add returns a+b, or ErrAmount when the result is not in 0..MaxAmount.
func (a Amount) Add(b Amount) (Amount, error) {
	if a < 0 || b < 0 || a > MaxAmount || b > MaxAmount-a {
		return 0, fmt.Errorf("%w: %d + %d", ErrAmount, a, b)
	}
	return a + b, nil
}

// Sub returns a-b, or ErrAmount when b exceeds a or either is out of range.
func (a Amount) Sub(b Amount) (Amount, error) {
	if a < 0 || b < 0 || a > MaxAmount || b > MaxAmount || b > a {
		return 0, fmt.Errorf("%w: %d - %d", ErrAmount, a, b)
	}
	return a - b, nil
}

// Sum adds all amounts, checked.
func Sum(amounts ...Amount) (Amount, error) {
	var total Amount
	var err error
	for _, a := range amounts {
		if total, err = total.Add(a); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// MulDiv returns a*num/den rounded down, without intermediate overflow. It is how proportional fees are computed.
func (a Amount) MulDiv(num, den uint64) (Amount, error) {
	if a < 0 || den == 0 {
		return 0, fmt.Errorf("%w: %d * %d / %d", ErrAmount, a, num, den)
	}
	hi, lo := bits.Mul64(uint64(a), num)
	if hi >= den {
		return 0, fmt.Errorf("%w: %d * %d / %d", ErrAmount, a, num, den)
	}
	q, _ := bits.Div64(hi, lo, den)
	if q > uint64(MaxAmount) {
		return 0, fmt.Errorf("%w: %d * %d / %d", ErrAmount, a, num, den)
	}
	return Amount(q), nil
}

// String gives coins as a decimal number without trailing zeros: "0.1", "70", "-3.5".
func (a Amount) String() string {
	sign, u := "", uint64(a)
	if a < 0 {
		sign, u = "-", -uint64(a)
	}
	whole, frac := u/uint64(Coin), u%uint64(Coin)
	if frac == 0 {
		return fmt.Sprintf("%s%d", sign, whole)
	}
	return fmt.Sprintf("%s%d.%s", sign, whole, strings.TrimRight(fmt.Sprintf("%09d", frac), "0"))
}

// ParseAmount reads coins as a decimal number with at most nine digits after the point.
// Signs, exponents and anything else are refused.
func ParseAmount(s string) (Amount, error) {
	whole, frac, point := strings.Cut(s, ".")
	if whole == "" || (point && frac == "") || len(frac) > AmountDecimals || len(whole) > 10 {
		return 0, fmt.Errorf("%w: %q is not a decimal number of coins like 12 or 0.5 with at most %d digits after the point", ErrAmount, s, AmountDecimals)
	}
	var u uint64
	for _, c := range whole + frac + strings.Repeat("0", AmountDecimals-len(frac)) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%w: %q is not a decimal number of coins like 12 or 0.5", ErrAmount, s)
		}
		if u > math.MaxUint64/10-1 {
			return 0, fmt.Errorf("%w: %q exceeds the total supply", ErrAmount, s)
		}
		u = u*10 + uint64(c-'0')
	}
	if u > uint64(MaxAmount) {
		return 0, fmt.Errorf("%w: %q exceeds the total supply of %s coins", ErrAmount, s, MaxAmount)
	}
	return Amount(u), nil
}

// MarshalText writes the decimal text form; JSON therefore shows amounts as strings.
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (a *Amount) UnmarshalText(b []byte) error {
	v, err := ParseAmount(string(b))
	if err != nil {
		return err
	}
	*a = v
	return nil
}
