package main

import (
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	a, b := "abcd1"+strings.Repeat("0", 59), "abcd2"+strings.Repeat("0", 56)+"fff"
	asked := 0
	list := func() ([]string, error) { asked++; return []string{a, b, ""}, nil }
	for text, want := range map[string]string{a: a, "abcd1": a, "abcd2": b, short(a): a, "abcd…fff": b, "abc": "abc", "": ""} {
		if got, err := resolve(text, list); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	if asked != 4 {
		t.Errorf("asked for the list %d times; whole ids and short words need none", asked)
	}
	for _, text := range []string{"abcd", "beef", "abcd…eee"} {
		if got, err := resolve(text, list); err == nil {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestState(t *testing.T) {
	for _, c := range [][3]string{{"open", "open", "open"}, {"held", "held: the payer releases it", "held: the payer releases it"}, {"failed", "not paid", "failed: not paid"},
		{"open", "", "open"}, {"closed", "closed by them", "closed: closed by them"}} {
		if got := state(c[0], c[1]); got != c[2] {
			t.Errorf("%q %q: %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

func TestLines(t *testing.T) {
	if got := lines("a\n\x1b[31mb\n"); got != "a\n    ?[31mb" {
		t.Errorf("%q", got)
	}
}
