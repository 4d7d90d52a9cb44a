package types

import (
	"errors"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// edges are the amounts where arithmetic goes wrong first.
var edges = []Amount{math.MinInt64, -MaxAmount, -1, 0, 1, Coin, MaxAmount - 1, MaxAmount, MaxAmount + 1, math.MaxInt64}

// TestArithmeticAgainstBigIntegers compares every checked operation with integers that can't overflow.
func TestArithmeticAgainstBigIntegers(t *testing.T) {
	ok := func(a Amount) bool { return a >= 0 && a <= MaxAmount }
	agree := func(t interface{ Errorf(string, ...any) }, what string, a, b, got Amount, err error, want *big.Int) {
		fits := ok(a) && ok(b) && want.Sign() >= 0 && want.Cmp(big.NewInt(int64(MaxAmount))) <= 0
		switch {
		case fits && (err != nil || big.NewInt(int64(got)).Cmp(want) != 0):
			t.Errorf("%d %s %d = %d, %v; want %s", a, what, b, got, err, want)
		case !fits && !errors.Is(err, ErrAmount):
			t.Errorf("%d %s %d = %d, %v; want ErrAmount", a, what, b, got, err)
		}
	}
	both := func(t interface{ Errorf(string, ...any) }, a, b Amount) {
		x, y := big.NewInt(int64(a)), big.NewInt(int64(b))
		sum, err := a.Add(b)
		agree(t, "+", a, b, sum, err, new(big.Int).Add(x, y))
		diff, err := a.Sub(b)
		agree(t, "-", a, b, diff, err, new(big.Int).Sub(x, y))
	}
	for _, a := range edges {
		for _, b := range edges {
			both(t, a, b)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := Amount(rapid.Int64().Draw(t, "a")), Amount(rapid.Int64().Draw(t, "b"))
		both(t, a, b)
		num, den := rapid.Uint64().Draw(t, "num"), rapid.Uint64().Draw(t, "den")
		got, err := a.MulDiv(num, den)
		if a < 0 || den == 0 {
			if err == nil {
				t.Errorf("%d * %d / %d = %d without an error", a, num, den, got)
			}
			return
		}
		want := new(big.Int).Mul(big.NewInt(int64(a)), new(big.Int).SetUint64(num))
		want.Div(want, new(big.Int).SetUint64(den))
		if fits := want.Cmp(big.NewInt(int64(MaxAmount))) <= 0; fits != (err == nil) || fits && want.Int64() != int64(got) {
			t.Errorf("%d * %d / %d = %d, %v; want %s", a, num, den, got, err, want)
		}
	})
}

func TestSum(t *testing.T) {
	if _, err := Sum(MaxAmount, MaxAmount); !errors.Is(err, ErrAmount) {
		t.Errorf("twice the supply: %v", err)
	}
	if s, err := Sum(1, 2, 3); s != 6 || err != nil {
		t.Errorf("1+2+3 = %d, %v", s, err)
	}
}

func TestAmountText(t *testing.T) {
	for text, want := range map[string]Amount{"0": 0, "1": Coin, "0.5": Coin / 2, "0.000000001": 1, "4611686018.427387904": MaxAmount, "007": 7 * Coin, "1.50": 3 * Coin / 2} {
		got, err := ParseAmount(text)
		if err != nil || got != want {
			t.Errorf("ParseAmount(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", ".", "1.", ".5", "-1", "+1", "1e3", "0x1", "1,5", " 1", "1.0000000001", "4611686018.427387905", "99999999999", "1.2.3", "١"} {
		if got, err := ParseAmount(text); !errors.Is(err, ErrAmount) {
			t.Errorf("ParseAmount(%q) = %d, %v; want ErrAmount", text, got, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a := Amount(rapid.Int64Range(0, int64(MaxAmount)).Draw(t, "a"))
		if got, err := ParseAmount(a.String()); got != a || err != nil {
			t.Errorf("%d is written %q and read as %d, %v", int64(a), a, got, err)
		}
	})
}

func FuzzParseAmount(f *testing.F) {
	for _, s := range []string{"0.5", "4611686018.427387904", "-1", "1e9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAmount(s)
		if err == nil && (a < 0 || a > MaxAmount) {
			t.Errorf("ParseAmount(%q) = %d", s, int64(a))
		}
	})
}
