package statement_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/types"
)

func add(t testing.TB, x *statement.Set, now types.Height, ss ...*statement.Statement) {
	t.Helper()
	for _, s := range ss {
		if _, err := x.Add(s, now); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSupersession(t *testing.T) {
	x := statement.NewSet(statement.DefaultLimits)
	old := sign(t, body("n=1"), alice)
	b := body("n=2")
	b.Supersedes = []statement.ID{old.ID}
	b.From, b.Until = 20, 30 // a temporary replacement
	brief := sign(t, b, alice)
	b.Until = 100
	lasting := sign(t, b, alice)
	foreign := sign(t, b, bob)
	add(t, x, 15, old, brief, foreign)
	for h, want := range map[types.Height]bool{9: false, 10: true, 19: true, 20: false, 30: false, 31: true, 100: true, 101: false} {
		if got := x.InForce(old.ID, h); got != want {
			t.Errorf("at %d in force: %v, want %v", h, got, want)
		}
	}
	dropped, err := x.Add(lasting, 25)
	if err != nil || len(dropped) != 1 || dropped[0] != old || x.Get(old.ID) != nil {
		t.Fatalf("%v, %v", dropped, err)
	}
	if _, err := x.Add(old, 26); !errors.Is(err, statement.ErrRetired) {
		t.Errorf("superseded statement again: %v", err)
	}
	if gone := x.Expire(31); len(gone) != 1 || gone[0] != brief {
		t.Errorf("expired at 31: %v", gone)
	}
	if gone := x.Expire(101); len(gone) != 2 || x.Len() != 0 {
		t.Errorf("expired at 101: %d, %d left", len(gone), x.Len())
	}
	if _, err := x.Add(old, 101); !errors.Is(err, statement.ErrExpired) {
		t.Errorf("expired statement: %v", err)
	}
}

func TestRevocation(t *testing.T) {
	target := sign(t, body("n=1"), alice)
	b := body()
	b.From, b.Until, b.Revokes = 12, 0, []statement.ID{target.ID}
	revoke, foreign := sign(t, b, alice), sign(t, b, bob)
	// Before its target and after it, a revocation has the same effect; another's has none.
	x := statement.NewSet(statement.DefaultLimits)
	add(t, x, 20, revoke, foreign)
	if _, err := x.Add(target, 20); !errors.Is(err, statement.ErrRetired) {
		t.Errorf("revoked before it came: %v", err)
	}
	y := statement.NewSet(statement.DefaultLimits)
	add(t, y, 20, target, foreign)
	if !y.InForce(target.ID, 20) {
		t.Error("another issuer's revocation has effect")
	}
	if dropped, err := y.Add(revoke, 20); err != nil || len(dropped) != 1 || y.InForce(target.ID, 20) {
		t.Errorf("%v, %v", dropped, err)
	}
	// One that begins later takes effect then.
	z := statement.NewSet(statement.DefaultLimits)
	add(t, z, 11, revoke, target)
	if !z.InForce(target.ID, 11) || z.InForce(target.ID, 12) {
		t.Error("revocation from block 12 on")
	}
	if gone := z.Expire(12); len(gone) != 1 || gone[0] != target {
		t.Errorf("%v", gone)
	}
}

func TestSetBounds(t *testing.T) {
	x := statement.NewSet(statement.Limits{Total: 3, PerIssuer: 2})
	var ss []*statement.Statement
	for i := range 3 {
		ss = append(ss, sign(t, body(fmt.Sprintf("n=%d", i)), alice))
	}
	add(t, x, 10, ss[:2]...)
	if _, err := x.Add(ss[1], 10); !errors.Is(err, statement.ErrKnown) {
		t.Errorf("twice: %v", err)
	}
	if _, err := x.Add(ss[2], 10); !errors.Is(err, statement.ErrFull) {
		t.Errorf("third of one issuer: %v", err)
	}
	add(t, x, 10, sign(t, body(), bob))
	if _, err := x.Add(sign(t, body(), [32]byte{9}), 10); !errors.Is(err, statement.ErrFull) {
		t.Errorf("fourth in all: %v", err)
	}
	if !x.Remove(ss[0].ID) || x.Remove(ss[0].ID) {
		t.Error("removal")
	}
	add(t, x, 10, ss[2])
	if n := x.Count(statement.IssuerKey(statement.KeyOf(alice))); n != 2 {
		t.Errorf("%d under the issuer's key", n)
	}
}

// The set with its index agrees with a list and the plain reading of the rules, whatever comes in whatever order.
func TestSetAgainstList(t *testing.T) {
	secrets := [][32]byte{alice, bob}
	rapid.Check(t, func(t *rapid.T) {
		x := statement.NewSet(statement.DefaultLimits)
		var made, all []*statement.Statement
		now := types.Height(0)
		for i := range rapid.IntRange(1, 15).Draw(t, "n") {
			b := body(fmt.Sprintf("n%d.x=%d", i%3, i))
			b.From = types.Height(rapid.IntRange(0, 20).Draw(t, "from"))
			b.Until = b.From + types.Height(rapid.IntRange(0, 20).Draw(t, "span"))
			if rapid.Bool().Draw(t, "endless") {
				b.Until = 0
			}
			if len(made) > 0 && rapid.Bool().Draw(t, "retires") {
				ids := []statement.ID{made[rapid.IntRange(0, len(made)-1).Draw(t, "which")].ID}
				if b.Until == 0 && rapid.Bool().Draw(t, "revokes") {
					b.Revokes = ids
				} else {
					b.Supersedes = ids
				}
			}
			s, err := statement.Sign(b, secrets[rapid.IntRange(0, 1).Draw(t, "issuer")])
			if err != nil {
				t.Fatal(err)
			}
			made = append(made, s)
		}
		for _, s := range rapid.Permutation(made).Draw(t, "order") {
			now += types.Height(rapid.IntRange(0, 4).Draw(t, "pass"))
			_, err := x.Add(s, now)
			if !errors.Is(err, statement.ErrExpired) { // a list that forgets nothing but what came too late
				all = append(all, s)
			}
			if rapid.IntRange(0, 4).Draw(t, "expire") == 0 {
				x.Expire(now)
			}
		}
		for h := now; h < now+25; h += 3 {
			var want, got []statement.ID
			for _, s := range all {
				retired := slices.ContainsFunc(all, func(r *statement.Statement) bool {
					return r.Issuer == s.Issuer && r.ValidAt(h) && (slices.Contains(r.Supersedes, s.ID) || slices.Contains(r.Revokes, s.ID))
				})
				if s.ValidAt(h) && !retired && slices.ContainsFunc(s.IndexKeys(), func(k string) bool { return k == "a/n1" || k == "a/n2.x" }) {
					want = append(want, s.ID)
				}
			}
			for s := range x.Candidates([]string{"a/n1", "a/n2.x"}, h, statement.ID{}) {
				got = append(got, s.ID)
			}
			slices.SortFunc(want, func(a, b statement.ID) int { return slices.Compare(a[:], b[:]) })
			if !slices.Equal(slices.Compact(want), got) {
				t.Fatalf("at %d: %v, want %v", h, got, want)
			}
		}
	})
}

func TestRate(t *testing.T) {
	x := statement.NewSet(statement.DefaultLimits)
	rated := func(secret [32]byte, value int, from types.Height, payment byte) *statement.Statement {
		b := body(fmt.Sprintf("rating.quality=%d", value))
		b.From = from
		if payment != 0 {
			r, err := statement.NewReceipt(nodeC, ledger, statement.KeyOf(secret), types.Hash{payment}, types.Coin, 5, nil)
			if err != nil {
				t.Fatal(err)
			}
			b.Receipt = r
		}
		return sign(t, b, secret)
	}
	add(t, x, 10, rated(alice, 5, 1, 1), rated(alice, 4, 2, 1), rated(alice, 2, 1, 2), rated(bob, 1, 1, 0), rated(bob, 3, 2, 0), sign(t, body("rating.quality=good"), bob))
	r := statement.Rate(x.Candidates([]string{statement.SubjectKey(carol)}, 10, statement.ID{}), carol, "rating.quality")
	if r.Paid != (statement.Tally{Count: 2, Sum: 6, Min: 2, Max: 4}) || r.Opinions != (statement.Tally{Count: 1, Sum: 3, Min: 3, Max: 3}) {
		t.Errorf("%+v", r)
	}
	if r.Paid.Mean() != "3.00" || (statement.Tally{}).Mean() != "" || (statement.Tally{Count: 3, Sum: -5}).Mean() != "-1.66" {
		t.Errorf("mean %s, %s", r.Paid.Mean(), statement.Tally{Count: 3, Sum: -5}.Mean())
	}
	// A receipt of a node that is not rated makes no paid rating.
	b := body("rating.quality=5")
	b.Subjects = []string{"x:other"}
	b.Receipt, _ = statement.NewReceipt(nodeC, ledger, statement.KeyOf(alice), types.Hash{3}, 1, 1, nil)
	if sign(t, b, alice).PaidFor() {
		t.Error("paid another node")
	}
}

func TestTrust(t *testing.T) {
	x := statement.NewSet(statement.DefaultLimits)
	secret := func(i int) [32]byte { return [32]byte{100, byte(i)} }
	key := func(i int) statement.Key { return statement.KeyOf(secret(i)) }
	for _, edge := range [][2]int{{0, 1}, {1, 2}, {2, 3}, {3, 4}, {0, 5}, {5, 6}, {6, 0}, {4, 7}} {
		b := body("trust=true")
		b.Subjects = []string{key(edge[1]).String()}
		add(t, x, 10, sign(t, b, secret(edge[0])))
	}
	b := body("trust=false")
	b.Subjects = []string{key(7).String()}
	add(t, x, 10, sign(t, b, secret(0)))
	path := x.FindTrust(key(0), key(4), 4, 10)
	if len(path) != 5 || path[0] != key(0) || path[2] != key(2) || path[4] != key(4) {
		t.Errorf("%v", path)
	}
	for _, c := range []struct {
		from, to, hops int
		h              types.Height
		want           int
	}{{0, 4, 3, 10, 0}, {0, 0, 1, 10, 1}, {0, 1, 1, 10, 2}, {0, 7, 5, 10, 6}, {4, 0, 9, 10, 0}, {0, 4, 4, 101, 0}} {
		if got := x.FindTrust(key(c.from), key(c.to), c.hops, c.h); len(got) != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
