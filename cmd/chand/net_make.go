package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/eschaton-network/chand/internal/devnet"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// netGenesis is the genesis document's name in the network's folder. It is written last, so that a folder with it is complete.
const netGenesis = "genesis.json"

// maxNetValidators bounds a network on one machine: each takes some 100 MB and a connection with each other one.
const maxNetValidators = 64

// netOptions are the flags of `chand net up`.
type netOptions struct {
	validators int
	genesis    string
	blockTime  time.Duration
	settings   []string
	given      func(flag string) bool
}

// checkAgain refuses, for a network that exists, flags that say something else than what it was made with.
func (o netOptions) checkAgain(dir string) error {
	names, err := nodeNames(dir)
	if err != nil {
		return err
	}
	switch {
	case o.given("validators") && o.validators != len(names):
		return fmt.Errorf("%s holds a network of %d validators, asked for were %d: leave --validators out, or make a new network in another --dir", dir, len(names), o.validators)
	case o.given("genesis") || o.given("block-time"):
		return fmt.Errorf("%s holds a network with a genesis document, which can't be changed: leave --genesis and --block-time out, or make a new network in another --dir", dir)
	case len(o.settings) > 0:
		return fmt.Errorf("the settings of the network in %s are in its homes: change them in %s, or make a new network in another --dir", dir, filepath.Join(dir, "node*", configName))
	}
	return nil
}

// makeNetwork makes homes, keys, settings and the genesis document. A folder where it was interrupted is completed.
func makeNetwork(dir string, o netOptions) error {
	if o.validators < 1 || o.validators > maxNetValidators {
		return fmt.Errorf("--validators %d: want 1 to %d", o.validators, maxNetValidators)
	}
	if err := checkSettings(o.settings); err != nil {
		return err
	}
	var nodes []ledger.GenesisNode
	for i := 1; i <= o.validators; i++ {
		home := filepath.Join(dir, nodeName(i))
		if _, err := os.Stat(filepath.Join(home, "ledger")); err == nil {
			return fmt.Errorf("%s is in use, but %s is missing: put it back, or make the network in another --dir", home, filepath.Join(dir, netGenesis))
		}
		if err := os.MkdirAll(home, 0o700); err != nil {
			return err
		}
		seed, _, err := loadSeed(home)
		if err != nil {
			return err
		}
		nodes = append(nodes, ledger.GenesisNode{PublicKey: ledger.PublicKey(seed.LedgerNodeSecret()), Account0: ledger.PublicKey(seed.AccountSecret())})
	}
	g, err := netDocument(o, nodes)
	if err != nil {
		return err
	}
	raw, err := g.Bytes()
	if err != nil {
		return err
	}
	if err := writeNetSettings(dir, o); err != nil {
		return err
	}
	return writeSynced(filepath.Join(dir, netGenesis), append(raw, '\n'))
}

// netDocument makes the genesis document, from the operator's if there is one: what it leaves out is filled in.
func netDocument(o netOptions, nodes []ledger.GenesisNode) (ledger.Genesis, error) {
	var g ledger.Genesis
	if o.genesis != "" {
		raw, err := os.ReadFile(o.genesis)
		if err != nil {
			return g, err
		}
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields()
		if err := d.Decode(&g); err != nil {
			return g, fmt.Errorf("%s: %w", o.genesis, err)
		}
		if _, err := d.Token(); err != io.EOF {
			return g, fmt.Errorf("%s: something follows the document", o.genesis)
		}
	}
	if g.ChainID == "" {
		var unique [8]byte
		rand.Read(unique[:])
		g.ChainID = "chand-" + hex.EncodeToString(unique[:])
	}
	if g.Time == 0 {
		g.Time = types.Time(time.Now().Unix())
	}
	if g.BlockMillis == 0 {
		ms := o.blockTime.Milliseconds()
		if ms < 50 || ms > math.MaxUint32 {
			return g, fmt.Errorf("--block-time %s: want 50ms or more", o.blockTime)
		}
		g.BlockMillis = uint32(ms)
	}
	if len(g.Nodes) == 0 {
		g.Nodes = nodes
	}
	own := map[types.Hash]bool{}
	for _, n := range nodes {
		own[n.PublicKey] = true
	}
	for i, n := range g.Nodes {
		if !own[n.PublicKey] {
			return g, fmt.Errorf("%s: node %d is none of the homes made here: leave \"nodes\" out, and the homes' keys are filled in", o.genesis, i+1)
		}
	}
	if len(g.Nodes) != len(nodes) {
		return g, fmt.Errorf("%s has %d nodes, --validators says %d", o.genesis, len(g.Nodes), len(nodes))
	}
	return g, nil
}

// netOwnSettings are chosen by `chand net`, each home's its own: given for all they would be lost or wrong.
var netOwnSettings = []string{"rpc-listen", "peer-listen", "gateway-listen", "ledger-office", "ledger-p2p", "ledger-genesis", "ledger-peers",
	"ledger-join", "ledger-block-time", "ledger-rpc", "debug-listen"}

// netListens are those of them that are ports, in the order in which they are handed out; netOffice is the office's place.
var netListens, netOffice = netOwnSettings[:5], 3

// checkSettings reads what stands behind "--".
func checkSettings(args []string) error {
	flags := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	addFlags(flags)
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("settings behind \"--\": %w", err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("settings behind \"--\": %q is no flag of chand", flags.Arg(0))
	}
	for _, own := range netOwnSettings {
		if flags.Changed(own) {
			return fmt.Errorf("settings behind \"--\": --%s is not for all nodes alike: chand net chooses it (the block time: --block-time before the \"--\")", own)
		}
	}
	return nil
}

// writeNetSettings gives each home its chand.toml, with ports that are free now.
func writeNetSettings(dir string, o netOptions) error {
	ports, err := devnet.FreePorts(len(netListens) * o.validators)
	if err != nil {
		return err
	}
	address := func(node, i int) string { return "127.0.0.1:" + strconv.Itoa(ports[node*len(netListens)+i]) }
	offices := make([]string, o.validators)
	for i := range offices {
		offices[i] = address(i, netOffice)
	}
	for i := range o.validators {
		home := filepath.Join(dir, nodeName(i+1))
		if err := os.Remove(filepath.Join(home, configName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		flags := pflag.NewFlagSet("settings", pflag.ContinueOnError)
		addFlags(flags)
		args := append([]string{}, o.settings...)
		for k, l := range netListens {
			args = append(args, "--"+l, address(i, k))
		}
		others := append(append([]string{}, offices[:i]...), offices[i+1:]...)
		args = append(args, "--ledger-genesis", filepath.Join(dir, netGenesis), "--ledger-peers", strings.Join(others, ","))
		if err := flags.Parse(args); err != nil {
			return err
		}
		_, _, claims, err := loadConfig(home, nil, flags)
		if err != nil {
			return err
		}
		claims.release()
	}
	return nil
}
