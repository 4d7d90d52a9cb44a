package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/ledger"
)

func TestLoadKey(t *testing.T) {
	derived := ledger.BrainKey("derived")
	if got, err := loadKey("", derived); err != nil || got != derived {
		t.Errorf("%x %v", got, err)
	}
	path := filepath.Join(t.TempDir(), "key.txt")
	const secret = "14B183205CA661F589AD83809952A692DFA48F5D490B10FD120DA7BF10F2F4A0"
	for text, want := range map[string]string{
		secret + "\n":                          "",
		"# the node's key\n\n " + secret + " ": "",
		"":                                     "0 secrets",
		secret + "\n" + secret:                 "2 secrets",
		secret[1:]:                             "want one line",
		"user-0-0":                             "want one line",
		secret + strings.Repeat("\n", 5000):    "1 secrets in",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := loadKey(path, derived)
		switch {
		case want == "" && (err != nil || fmt.Sprintf("%X", got) != secret):
			t.Errorf("%q: %x %v", text, got, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%.20q: %v, want %q", text, err, want)
		case err != nil && strings.Contains(err.Error(), "user-0-0"):
			t.Errorf("the error repeats what may be a secret: %v", err)
		}
	}
}
