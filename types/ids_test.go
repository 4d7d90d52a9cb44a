package types

import (
	"errors"
	"strings"
	"testing"
)

// TestAddresses uses the addresses of the original ledger's published sessions.
func TestAddresses(t *testing.T) {
	for text, want := range map[string]AccountID{
		"0001-00000000-9B6F": {1, 0}, "0001-00000001-8B4E": {1, 1}, "0002-00000000-75BD": {2, 0}, "0000-00000000-313E": {},
		"0001-00000005-CBCA": {1, 5}, "0002-00000001-659C": {2, 1}, "0001-000000F1-6451": {1, 0xF1},
	} {
		got, err := ParseAccountID(text)
		if err != nil || got != want || want.String() != text {
			t.Errorf("%s = %v, %v; want %v", text, got, err, want)
		}
	}
	if got, err := ParseAccountID("0001-00000001-XXXX"); err != nil || got != (AccountID{1, 1}) {
		t.Errorf("XXXX skips the check: %v, %v", got, err)
	}
	for _, text := range []string{"", "0001-00000001-8B4F", "0001-00000001", "1-1-8B4E", "0001-00000001-8B4E ", "000g-00000001-8B4E", strings.Repeat("0", 1000)} {
		if _, err := ParseAccountID(text); !errors.Is(err, ErrAddress) {
			t.Errorf("ParseAccountID(%q): %v, want ErrAddress", text, err)
		}
	}
}

// TestNodeID checks the text form by round trips.
func TestNodeID(t *testing.T) {
	id := Seed{}.NodeID()
	got, err := ParseNodeID(id.String())
	if err != nil || got != id || !strings.HasPrefix(id.String(), "16Uiu2HA") {
		t.Errorf("%s is read as %s, %v", id, got, err)
	}
	if got, err := ParseNodeID(id.PubKey().String()); err != nil || got != id {
		t.Errorf("hex is read as %s, %v", got, err)
	}
	for _, text := range []string{"", "16Uiu2HA", strings.Repeat("00", 33), strings.Repeat("1", 5000), "12D3KooWGRUVh7tJNbJzTbZzDyV2h8yJ9RrXSX4bZ1Q1XH1mVg3j"} {
		if got, err := ParseNodeID(text); err == nil {
			t.Errorf("ParseNodeID(%.20q) = %s", text, got)
		}
	}
}

// TestKeysAreIndependent: no two purposes share a key.
func TestKeysAreIndependent(t *testing.T) {
	s := Seed{1}
	seen := map[[32]byte]string{}
	for name, k := range map[string][32]byte{
		"node": [32]byte(s.NodeKey().Serialize()), "account": s.AccountSecret(), "ledger node": s.LedgerNodeSecret(), "statement": s.StatementSecret(),
		"fund 0": [32]byte(s.ChannelKey("fund", 0).Serialize()), "fund 1": [32]byte(s.ChannelKey("fund", 1).Serialize()),
		"close 0": [32]byte(s.ChannelKey("close", 0).Serialize()), "secret node": s.Secret("node"),
	} {
		if other, ok := seen[k]; ok {
			t.Errorf("%s and %s are one key", name, other)
		}
		seen[k] = name
	}
	if (Seed{2}).NodeID() == s.NodeID() {
		t.Error("two seeds give one node")
	}
}

func TestTiming(t *testing.T) {
	for _, tm := range []Timing{DefaultTiming, DemoTiming} {
		if err := tm.Check(); err != nil {
			t.Error(err)
		}
		if tm.Window--; tm.Window < tm.Downtime+tm.Inclusion+2 && tm.Check() == nil {
			t.Errorf("%+v is too short and accepted", tm)
		}
	}
	tm := Timing{Inclusion: 2, Downtime: 3, Window: 7}
	if got := tm.ForwardDelta(); got != 7+6+6+1 {
		t.Errorf("ForwardDelta = %d", got)
	}
	if got := tm.MinExpiry(100); got != 100+7+4+3+1 {
		t.Errorf("MinExpiry = %d", got)
	}
	if got, want := tm.ClaimBy(100), Height(100-7-4-3); got != want {
		t.Errorf("ClaimBy = %d, want %d", got, want)
	}
	if got, want := tm.CloseBy(100), Height(100-7-2-3); got != want {
		t.Errorf("CloseBy = %d, want %d", got, want)
	}
	if got := tm.ClaimBy(3); got != 0 {
		t.Errorf("ClaimBy(3) = %d, want 0", got)
	}
}
