package query_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/statement/query"
	"github.com/eschaton-network/chand/types"
)

var (
	ledger = types.Hash{0x1e, 0xd9}
	alice  = [32]byte{1}
	bob    = [32]byte{2}
	node   = types.Seed{3}.NodeID().String()
	other  = types.Seed{4}.NodeID().String()
)

func sign(t testing.TB, secret [32]byte, subjects []string, attrs ...string) *statement.Statement {
	t.Helper()
	b := statement.Body{Ledger: ledger, Subjects: subjects, Issued: 1, From: 10, Until: 100, Attributes: statement.Attributes{}}
	for _, a := range attrs {
		if err := b.Attributes.Assign(a); err != nil {
			t.Fatal(err)
		}
	}
	s, err := statement.Sign(b, secret)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMatch(t *testing.T) {
	s := sign(t, alice, []string{node, "https://example.com/a"}, "rating.quality=5", "rating.text=fast and honest", "price=0.25", "flag=true", `tags=["x","y"]`)
	issuer := statement.KeyOf(alice).String()
	bloom := query.NewBloom(10)
	bloom.Add(s.ID.String())
	for expr, want := range map[string]bool{
		``:                                                         true,
		`attributes.rating.quality >= 4`:                           true,
		`attributes.rating.quality > 5`:                            false,
		`attributes.rating["quality"] == 5`:                        true,
		`attributes.rating.quality >= 4.5`:                         true,
		`double(attributes.price) < 0.3`:                           true,
		`attributes.none.quality >= 4`:                             false,
		`attributes.rating.text > 4`:                               false,
		`has(attributes.rating)`:                                   true,
		`has(attributes.none)`:                                     false,
		`!has(attributes.none)`:                                    true,
		`attributes.flag`:                                          true,
		`attributes.rating.quality`:                                false,
		`"x" in attributes.tags`:                                   true,
		`subject == "peer:` + node + `"`:                           true,
		`subject == "` + node + `"`:                                true,
		`subject == "` + other + `"`:                               false,
		`"` + node + `" in subjects`:                               true,
		`subject in ["` + node + `", "x:y"]`:                       true,
		`subjects.exists(s, s == "` + node + `")`:                  true,
		`subjects.exists(s, s.startsWith("https://"))`:             true,
		`issuer == "` + issuer + `"`:                               true,
		`issuer != "` + issuer + `"`:                               false,
		`issuer in ["` + issuer + `"]`:                             true,
		`glob(subject, "peer:16U*")`:                               true,
		`attributes.rating.text.glob("*honest")`:                   true,
		`glob(attributes.rating.text, "slow*")`:                    false,
		`attributes.rating.text.matches("^fast")`:                  true,
		`bloom("` + bloom.String() + `", id)`:                      true,
		`!bloom("` + bloom.String() + `", id)`:                     false,
		`bloom("?", id)`:                                           false,
		`from == 10 && until == 100 && valid && height == 50`:      true,
		`paid || has(receipt.payee)`:                               false,
		`schema == "" && not_before == 0 && issued == 1`:           true,
		`attributes.rating.quality in [4, 5] && !attributes.none`:  false,
		`1 / (attributes.rating.quality - 5) == 0`:                 false,
		`attributes.none == 1 || attributes.rating.quality == 5`:   true,
		`attributes.rating.quality == 5 ? subject != "" : 1 == 2`:  true,
		`size(subjects) == 2 && attributes.tags.all(t, t < "zzz")`: true,
	} {
		f, err := query.Compile(expr)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		if got, _, err := f.Match(s, 50); got != want || err != nil {
			t.Errorf("%s: %v, %v; want %v", expr, got, err, want)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for expr, say := range map[string]string{
		`rating.quality > 3`:                   "attributes.rating",
		`isuer == "x"`:                         "Did you mean issuer?",
		`subjcet == "x"`:                       "Did you mean subject?",
		`subject = "x"`:                        "Syntax error",
		`1 + 2`:                                "true or false",
		`subject > 4`:                          "no matching overload",
		`nosuch(subject)`:                      "Functions: glob",
		strings.Repeat("(", 100) + "true":      "recursion",
		strings.Repeat("x", 10_000):            "at most",
		`subject.matches("(")`:                 "matches argument",
		`subject.matches("(a{1,100}){1,100}")`: "matches argument",
		`[1].all(a, [1].all(b, [1].all(c, a == b && b == c)))`: "nesting",
	} {
		_, err := query.Compile(expr)
		if !errors.Is(err, query.ErrQuery) || !strings.Contains(err.Error(), say) {
			t.Errorf("%.60s: %v; want it to say %q", expr, err, say)
		}
	}
}

func TestCostLimit(t *testing.T) {
	list := "[" + strings.Repeat("1,", 300) + "1]"
	f, err := query.Compile(list + ".all(a, " + list + ".all(b, a == b))")
	if err != nil {
		t.Fatal(err)
	}
	s := sign(t, alice, []string{"x:y"}, "text="+strings.Repeat("a", 4000))
	if _, cost, err := f.Match(s, 50); !errors.Is(err, query.ErrCost) {
		t.Errorf("cost %d, %v", cost, err)
	}
	if f, err = query.Compile(`glob(attributes.text, "` + strings.Repeat("*a", 500) + `b")`); err != nil {
		t.Fatal(err)
	}
	if _, cost, err := f.Match(s, 50); !errors.Is(err, query.ErrCost) {
		t.Errorf("glob: cost %d, %v", cost, err)
	}
}

func TestPlan(t *testing.T) {
	a, n := statement.IssuerKey(statement.KeyOf(alice)), statement.SubjectKey("peer:"+node)
	issuer := `issuer == "` + statement.KeyOf(alice).String() + `"`
	for expr, want := range map[string][]string{
		``:     nil,
		issuer: {a},
		`"` + statement.KeyOf(alice).String() + `" == issuer`:   {a},
		`subject == "` + node + `"`:                             {n},
		`"` + node + `" in subjects && attributes.x > 1`:        {n},
		`attributes.x > 1 && ` + issuer:                         {a},
		issuer + ` || subject == "` + node + `"`:                {a, n},
		issuer + ` || height > 1`:                               nil,
		`!(` + issuer + `)`:                                     nil,
		`attributes.a.b >= 4`:                                   {"a/a.b"},
		`has(attributes.a)`:                                     {"a/a"},
		`has(attributes.a) == false`:                            nil,
		`attributes.a["b"] == 1`:                                {"a/a.b"},
		`attributes.a.startsWith("x")`:                          {"a/a"},
		`subjects.exists(s, s == "` + node + `" && height > 1)`: {n},
		`subjects.all(s, s == "` + node + `")`:                  nil,
		`subjects.exists(s, s == "` + node + `" || height > 1)`: nil,
		`subject in ["x:1", "x:2"]`:                             {"s/x:1", "s/x:2"},
		`glob(attributes.a, "x*")`:                              {"a/a"},
		`attributes.a == attributes.b`:                          {"a/a"},
	} {
		f, err := query.Compile(expr)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		if got := f.Keys(); !slices.Equal(got, want) {
			t.Errorf("%s: planned as %q, want %q", expr, got, want)
		}
	}
}

// atoms are conditions of every kind that the planner knows, and some that it does not.
func atoms() []string {
	return []string{
		`issuer == "` + statement.KeyOf(alice).String() + `"`, `issuer != "` + statement.KeyOf(bob).String() + `"`,
		`subject == "` + node + `"`, `"x:1" in subjects`, `subject in ["x:1", "x:2"]`, `subjects.exists(s, s == "x:2")`, `subjects.all(s, s != "x:1")`,
		`has(attributes.a)`, `has(attributes.a) == false`, `has(attributes.a.b) != true`, `attributes.a.b > 2`, `attributes["a"].b == 3`, `attributes.f`,
		`attributes.f == true`, `attributes.f != true`, `attributes.t.startsWith("t")`, `glob(attributes.t, "*1")`, `attributes.a.b in [1, 2]`,
		`height > 5`, `attributes.a == {"b": 1}`, `(attributes.a.b > 2) == false`, `size(attributes) == 0`, `subject.glob("x:*")`, `1 in [attributes.a.b]`,
	}
}

// Whatever the expression, the planned search finds what a look at every statement finds, page by page, and the answer
// survives its encoding and the asker's checks.
func TestPlannedSearchFindsAll(t *testing.T) {
	var all []*statement.Statement
	set := statement.NewSet(statement.DefaultLimits)
	for i := range 60 {
		var attrs []string
		if i%3 == 0 {
			attrs = append(attrs, fmt.Sprintf("a.b=%d", i%5))
		}
		if i%4 == 0 {
			attrs = append(attrs, fmt.Sprintf("f=%v", i%8 == 0))
		}
		if i%5 == 0 {
			attrs = append(attrs, fmt.Sprintf("t=t%d", i))
		}
		attrs = append(attrs, fmt.Sprintf("n%d=1", i))
		if i%20 == 19 {
			attrs = nil
		}
		s := sign(t, [][32]byte{alice, bob}[i%2], [][]string{{node}, {"x:1"}, {"x:2", "x:1"}, {"x:3"}}[i%4], attrs...)
		if _, err := set.Add(s, 50); err != nil && !errors.Is(err, statement.ErrKnown) {
			t.Fatal(err)
		} else if err == nil {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *statement.Statement) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	var draw func(t *rapid.T, depth int) string
	draw = func(t *rapid.T, depth int) string {
		if depth == 0 || rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
			return rapid.SampledFrom(atoms()).Draw(t, "atom")
		}
		switch rapid.SampledFrom([]string{"&&", "||", "!"}).Draw(t, "op") {
		case "!":
			return "!(" + draw(t, depth-1) + ")"
		case "&&":
			return "(" + draw(t, depth-1) + " && " + draw(t, depth-1) + ")"
		}
		return "(" + draw(t, depth-1) + " || " + draw(t, depth-1) + ")"
	}
	rapid.Check(t, func(t *rapid.T) {
		expr := draw(t, 3)
		f, err := query.Compile(expr)
		if err != nil {
			t.Fatal(err)
		}
		var want, got []statement.ID
		for _, s := range all {
			if match, _, err := f.Match(s, 50); err != nil {
				t.Fatal(err)
			} else if match {
				want = append(want, s.ID)
			}
		}
		r := query.Request{Expression: expr, Limit: uint32(rapid.IntRange(0, 30).Draw(t, "limit"))}
		for range 100 {
			a, err := query.Run(set, r, 50)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := a.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if a, err = query.DecodeAnswer(raw); err != nil {
				t.Fatal(err)
			}
			found, err := a.Open(r)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range found {
				got = append(got, s.ID)
			}
			if !a.More {
				break
			}
			r.After = a.Next
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s (%q): found %d, want %d", expr, f.Keys(), len(got), len(want))
		}
	})
}

func TestAnswerIsChecked(t *testing.T) {
	s1, s2 := sign(t, alice, []string{"x:1"}, "a=1"), sign(t, bob, []string{"x:1"}, "a=2")
	if bytes.Compare(s1.ID[:], s2.ID[:]) > 0 {
		s1, s2 = s2, s1
	}
	r := query.Request{Expression: `"x:1" in subjects`}
	forged := bytes.Clone(s1.Bytes())
	forged[len(forged)-1] ^= 1
	if got, err := (query.Answer{Height: 50, Statements: [][]byte{s1.Bytes(), s2.Bytes()}}).Open(r); err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	for name, a := range map[string]query.Answer{
		"order":    {Height: 50, Statements: [][]byte{s2.Bytes(), s1.Bytes()}},
		"twice":    {Height: 50, Statements: [][]byte{s1.Bytes(), s1.Bytes()}},
		"forged":   {Height: 50, Statements: [][]byte{forged}},
		"no match": {Height: 50, Statements: [][]byte{sign(t, alice, []string{"x:2"}).Bytes()}},
		"expired":  {Height: 101, Statements: [][]byte{s1.Bytes()}},
	} {
		if _, err := a.Open(r); !errors.Is(err, query.ErrAnswer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fail := query.Failure(errors.New(strings.Repeat("x", 5000)), 7)
	raw, err := fail.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if a, err := query.DecodeAnswer(raw); err != nil {
		t.Error(err)
	} else if _, err := a.Open(r); !errors.Is(err, query.ErrQuery) {
		t.Errorf("peer's error: %v", err)
	}
	if _, err := query.Run(statement.NewSet(statement.DefaultLimits), query.Request{Expression: "1"}, 1); !errors.Is(err, query.ErrQuery) {
		t.Errorf("bad expression: %v", err)
	}
	for _, r := range []query.Request{{Limit: query.MaxResults + 1}, {Expression: strings.Repeat("x", query.MaxExpression+1)}} {
		raw, _ := r.Encode()
		if _, err := query.DecodeRequest(raw); !errors.Is(err, query.ErrQuery) {
			t.Errorf("%+.40v: %v", r, err)
		}
	}
}

func TestBloom(t *testing.T) {
	b := query.NewBloom(500)
	for i := range 500 {
		b.Add(fmt.Sprint(i))
	}
	c, err := query.ParseBloom(b.String())
	if err != nil {
		t.Fatal(err)
	}
	wrong := 0
	for i := range 500 {
		if !c.Has(fmt.Sprint(i)) {
			t.Fatalf("%d was added and is not there", i)
		}
		if c.Has(fmt.Sprint("other", i)) {
			wrong++
		}
	}
	if wrong > 25 {
		t.Errorf("%d of 500 false hits", wrong)
	}
	for _, bad := range []string{"", "AA", "AAAA", "_wAA", "!", "BwA="} {
		if _, err := query.ParseBloom(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		text, pattern string
		want          bool
	}{{"", "", true}, {"", "*", true}, {"", "?", false}, {"abc", "a*c", true}, {"abc", "a?c", true}, {"abc", "a*d", false}, {"abcabc", "*abc", true},
		{"aab", "*ab", true}, {"abc", "abc*", true}, {"abc", "ab", false}, {"a*c", "a*c", true}, {"mississippi", "m*iss*ip*i", true}, {"x", "**?**", true}} {
		if query.Glob(c.text, c.pattern) != c.want {
			t.Errorf("glob(%q, %q) is not %v", c.text, c.pattern, c.want)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, a := range atoms() {
		f.Add(a)
	}
	s := sign(f, alice, []string{node, "x:1"}, "a.b=3", "f=true", "t=text")
	set := statement.NewSet(statement.DefaultLimits)
	if _, err := set.Add(s, 50); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		q, err := query.Compile(expr)
		if err != nil {
			return
		}
		match, _, err := q.Match(s, 50)
		if err != nil {
			return
		}
		if a, err := query.Run(set, query.Request{Expression: expr}, 50); err != nil || (len(a.Statements) == 1) != match {
			t.Fatalf("match %v, planned search finds %d (%v)", match, len(a.Statements), err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	r, _ := query.Request{Expression: "paid", Limit: 5, After: statement.ID{1}}.Encode()
	a, _ := query.Answer{Height: 3, Statements: [][]byte{sign(f, alice, []string{"x:1"}).Bytes()}, More: true, Next: statement.ID{2}}.Encode()
	f.Add(r)
	f.Add(a)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := query.DecodeRequest(b); err == nil {
			if out, err := r.Encode(); err != nil || !bytes.Equal(out, b) {
				t.Fatalf("request encodes to %x", out)
			}
		}
		if a, err := query.DecodeAnswer(b); err == nil {
			if out, err := a.Encode(); err != nil || !bytes.Equal(out, b) {
				t.Fatalf("answer encodes to %x", out)
			}
			_, _ = a.Open(query.Request{})
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	s := sign(b, alice, []string{node}, "rating.quality=5")
	f, err := query.Compile(`attributes.rating.quality >= 4 && subject == "` + node + `"`)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if ok, _, err := f.Match(s, 50); !ok || err != nil {
			b.Fatal(err)
		}
	}
}
