// Package archtest holds the import rules of docs/architecture.md as a test.
package archtest

import (
	"encoding/json"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/eschaton-network/chand/"

// order lists rings 0 and 1; a package may import the ones before it (sub-packages count as their parent).
var order = []string{"types", "merkle", "wire", "htlc", "ledger", "esc", "channel", "route", "statement", "oracle", "market", "timestamp"}

// shells are ring 3: rings 0 and 1 and the libraries each wraps, listed by prefix. nil: the standard library alone.
var shells = map[string][]string{
	"store":      {"github.com/cockroachdb/pebble/v2"},
	"peer":       {"github.com/libp2p/", "github.com/multiformats/", "github.com/btcsuite/"},
	"dht":        {"github.com/libp2p/", "github.com/multiformats/", "github.com/ipfs/", "github.com/btcsuite/"},
	"pubsub":     {"github.com/libp2p/", "github.com/multiformats/"},
	"chain/escd": {"github.com/cometbft/", "github.com/cosmos/gogoproto", "github.com/oasisprotocol/", "github.com/syndtr/goleveldb", "golang.org/x/time"},
	"chain/sim":  nil,
	"rpc":        {"connectrpc.com/", "google.golang.org/", "gopkg.in/macaroon.v2"},
	"gateway":    {"gopkg.in/macaroon.v2", "golang.org/x/time"},
}

// impure are the packages that rules must not import: anything that reads the world, waits, or shares memory.
var impure = []string{"os", "net", "time", "context", "log", "sync", "math/rand", "crypto/rand", "io/fs", "path/filepath",
	"runtime", "syscall", "database", "testing", "plugin", "embed"}

// timeAllowed: types shows clock times and may name time.Time; that it never reads the clock is checked in source_test.go.
var timeAllowed = []string{"types"}

// ruleLibraries are the third-party modules that rings 0 and 1 may use: curves, Bitcoin's codecs, encodings, the query language.
var ruleLibraries = []string{"github.com/btcsuite/btcd/", "github.com/oasisprotocol/curve25519-voi/",
	"github.com/fxamacker/cbor/", "github.com/ipfs/go-cid", "github.com/multiformats/go-multihash", "cel.dev/cel-go/", "golang.org/x/crypto/"}

// attacker must be linked into no program.
const attacker = "itest/mallory"

type pkg struct {
	ImportPath string
	Imports    []string
}

func load(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string]pkg{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(p.ImportPath, module)] = p
	}
	if len(all) < 10 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

// home returns the name in list that path is, or lies under.
func home(path string, list []string) string {
	best := ""
	for _, l := range list {
		if (path == l || strings.HasPrefix(path, l+"/")) && len(l) > len(best) {
			best = l
		}
	}
	return best
}

func hasPrefix(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return path == p || strings.HasPrefix(path, p) })
}

func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// verdict says why from must not import path, or "".
func verdict(from, path string) string {
	own, isOwn := strings.CutPrefix(path, module)
	shellNames := make([]string, 0, len(shells))
	for s := range shells {
		shellNames = append(shellNames, s)
	}
	rule, shell := home(from, order), home(from, shellNames)
	switch {
	case rule != "":
		if isOwn {
			to := home(own, order)
			if to == "" || slices.Index(order, to) > slices.Index(order, rule) {
				return "a rule package imports only rings 0-1 that stand before it"
			}
			return ""
		}
		if standard(path) {
			if path == "time" && slices.Contains(timeAllowed, rule) {
				return ""
			}
			if home(path, impure) != "" {
				return "a rule package reads no clock, disk, network or randomness, and starts nothing"
			}
			return ""
		}
		if !hasPrefix(path, ruleLibraries) {
			return "a rule package uses only the listed codec and curve libraries"
		}
	case home(from, []string{"chand"}) != "":
		if isOwn && home(own, order) == "" && home(own, []string{"chand"}) == "" {
			return "the daemon imports rings 0-1; shells come in through deps.go"
		}
		if !isOwn && !standard(path) && !hasPrefix(path, ruleLibraries) {
			return "the daemon knows no library"
		}
	case shell != "":
		if isOwn && home(own, order) == "" && home(own, shellNames) != shell {
			return "a shell imports neither the daemon nor another shell"
		}
		if !isOwn && !standard(path) && !hasPrefix(path, append(shells[shell], ruleLibraries...)) {
			return "a shell imports only the library that it wraps"
		}
	case home(own, []string{attacker}) != "" && home(from, []string{"itest"}) == "":
		return "the peer that breaks the protocol is for end-to-end tests alone"
	case home(from, []string{"cmd", "itest", "internal"}) != "":
	default:
		return "the package stands in no ring: give it a place in archtest and docs/architecture.md"
	}
	return ""
}

// TestImportsGoInward checks the direct imports of every package. That covers the transitive ones: whatever a package
// reaches inside this module is itself checked by its own line of the table.
func TestImportsGoInward(t *testing.T) {
	for from, p := range load(t) {
		for _, path := range p.Imports {
			if why := verdict(from, path); why != "" {
				t.Errorf("%s imports %s: %s", from, path, why)
			}
		}
	}
}

// TestVerdicts makes sure that the test above can fail.
func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		from, path string
		allowed    bool
	}{
		{"channel", module + "types", true},
		{"channel", module + "route", false},
		{"types", module + "wire", false},
		{"channel", "time", false},
		{"types", "time", true},
		{"ledger", "os", false},
		{"ledger", "net/http", false},
		{"ledger", "github.com/cometbft/cometbft/types", false},
		{"statement/query", "cel.dev/cel-go/cel", true},
		{"chand", "time", true},
		{"chand", module + "channel", true},
		{"chand", module + "store", false},
		{"chand", "github.com/cockroachdb/pebble/v2", false},
		{"store", "github.com/cockroachdb/pebble/v2/vfs", true},
		{"store", module + "chand", false},
		{"peer", module + "dht", false},
		{"store/memstore", module + "store/storetest", true},
		{"cmd/chand", module + "store", true},
		{"cmd/chand", module + "itest/mallory", false},
		{"internal/devnet", module + "itest/mallory", false},
		{"newfolder", "fmt", false},
	} {
		if got := verdict(c.from, c.path) == ""; got != c.allowed {
			t.Errorf("%s imports %s: allowed %v, want %v", c.from, c.path, got, c.allowed)
		}
	}
}
