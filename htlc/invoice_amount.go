package htlc

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/eschaton-network/chand/types"
)

// multipliers of BOLT 11 amounts, in base units. p (a thousandth of a unit) is not used.
var multipliers = []struct {
	letter string
	units  types.Amount
}{{"", types.Coin}, {"m", types.Coin / 1e3}, {"u", types.Coin / 1e6}, {"n", 1}}

// amountText is the shortest form of an amount; empty for zero.
func amountText(a types.Amount) string {
	if a == 0 {
		return ""
	}
	for _, m := range multipliers {
		if a%m.units == 0 {
			return strconv.FormatInt(int64(a/m.units), 10) + m.letter
		}
	}
	return ""
}

func parseAmountText(s string) (types.Amount, error) {
	if s == "" {
		return 0, nil
	}
	for _, m := range multipliers[1:] {
		if digits, ok := strings.CutSuffix(s, m.letter); ok {
			return parseUnits(s, digits, m.units)
		}
	}
	return parseUnits(s, s, types.Coin)
}

func parseUnits(s, digits string, units types.Amount) (types.Amount, error) {
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n == 0 || n > uint64(types.MaxAmount/units) {
		return 0, fmt.Errorf("amount %q", s)
	}
	a := types.Amount(n) * units
	if amountText(a) != s {
		return 0, fmt.Errorf("amount %q is not in its shortest form %q", s, amountText(a))
	}
	return a, nil
}
