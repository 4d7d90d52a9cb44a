package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/pflag"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Config is everything that a user can set. Each field is one setting with one name in three spellings: `ledger.join`
// in HOME/chand.toml, CHAND_LEDGER_JOIN in the environment, --ledger-join on the command line. Flags win over the
// environment, the environment over the file.
type Config struct {
	Home string

	LogLevel, LogFormat string

	RPCListen, PeerListen, GatewayListen string
	PeerDial                             bool

	LedgerJoin, LedgerOffice, LedgerP2P, LedgerRPC string
	LedgerGenesis                                  string
	LedgerPeers                                    []string
	LedgerBlockTime                                time.Duration
	LedgerOpenAccounts                             bool
	LedgerKeepBlocks                               uint32
	LedgerNodeKey, LedgerAccountKey                string

	Timing          types.Timing
	Rules           wire.Rules
	MaxContribution types.Amount
	BaseFee         types.Amount
	FeeMillionths   uint32
	Reserve         uint32
	BackupFile      string
	TowerServe      bool
	TowerPrice      types.Amount
	TowerEvery      uint32
	WarnBlocks      uint32
	TimestampRound  time.Duration
	HistoryPayments uint32
	HistoryAge      time.Duration
	DebugListen     string
}

// setting is one field of Config as text.
type setting struct {
	key, value, doc string
	set             func(string) error
	// port marks listen addresses: the first run looks for a free port, starting with the default one.
	port bool
	// form is what stands for the value in the help: "" text, or the unit.
	form string
}

// settings lists every key with its default. The order is the order of the written file.
func (c *Config) settings() []setting {
	return []setting{
		{"log.level", "info", "debug, info, warn or error", oneOf(&c.LogLevel, "debug", "info", "warn", "error"), false, "NAME"},
		{"log.format", "text", "text or json", oneOf(&c.LogFormat, "text", "json"), false, "NAME"},
		{"rpc.listen", "127.0.0.1:9741", "gRPC, gRPC-Web and JSON over TLS, for chancli and programs", listenAddress(&c.RPCListen, false), true, "HOST:PORT"},
		{"peer.listen", "127.0.0.1:9742", "libp2p: other daemons connect here", listenAddress(&c.PeerListen, false), true, "HOST:PORT"},
		{"peer.dial", "true", "connect to the peers of our channels by ourselves, and again when a link breaks", boolean(&c.PeerDial), false, "BOOL"},
		{"gateway.listen", "127.0.0.1:9743", "HTTP 402 proxy in front of the services that this daemon sells", listenAddress(&c.GatewayListen, false), true, "HOST:PORT"},
		{"ledger.join", "", "HOST:PORT[/GENESIS] of another daemon's ledger.office; empty, and no ledger.genesis: run a ledger of our own with one validator", text(&c.LedgerJoin), false, "ADDR"},
		{"ledger.genesis", "", "genesis document of the ledger to be part of, read at the first start; the node whose key it names is a validator", text(&c.LedgerGenesis), false, "FILE"},
		{"ledger.peers", "", "other nodes of the ledger to stay connected with, between commas: HOST:PORT of their ledger.office, or ID@HOST:PORT of their ledger.p2p", peerList(&c.LedgerPeers), false, "LIST"},
		{"ledger.office", "127.0.0.1:9744", "HTTP where joining daemons fetch the genesis and get an account", listenAddress(&c.LedgerOffice, false), true, "HOST:PORT"},
		{"ledger.p2p", "127.0.0.1:9745", "CometBFT's peer-to-peer port", listenAddress(&c.LedgerP2P, false), true, "HOST:PORT"},
		{"ledger.rpc", "", "CometBFT's own RPC; empty: off", listenAddress(&c.LedgerRPC, true), false, "HOST:PORT"},
		{"ledger.block-time", "1s", "time between blocks of our own ledger, fixed at its first start: 50ms to 10m", duration(&c.LedgerBlockTime, 50*time.Millisecond, 10*time.Minute), false, "TIME"},
		{"ledger.open-accounts", "true", "open accounts for daemons that join our ledger, at our cost (at most a few a second)", boolean(&c.LedgerOpenAccounts), false, "BOOL"},
		{"ledger.keep-blocks", fmt.Sprint(escd.DefaultKeepBlocks), "blocks of the ledger to keep; 0: all, as an archive node does that others can ask for old ones", keepBlocks(&c.LedgerKeepBlocks), false, "BLOCKS"},
		{"ledger.node-key", "", "file with the secret key of our ledger node, 64 hex digits; empty: derived from the seed phrase", keyFile(&c.LedgerNodeKey), false, "FILE"},
		{"ledger.account-key", "", "file with the secret key of our ledger account, 64 hex digits; empty: derived from the seed phrase", keyFile(&c.LedgerAccountKey), false, "FILE"},
		{"channel.inclusion", fmt.Sprint(types.DefaultTiming.Inclusion), "worst time to get a transaction into a block, in blocks", number(&c.Timing.Inclusion), false, "BLOCKS"},
		{"channel.downtime", fmt.Sprint(types.DefaultTiming.Downtime), "longest time that this daemon may be down and still answer a cheater, in blocks", number(&c.Timing.Downtime), false, "BLOCKS"},
		{"channel.window", fmt.Sprint(types.DefaultTiming.Window), "dispute window of channels that we open, in blocks: at least downtime + inclusion + 2", number(&c.Timing.Window), false, "BLOCKS"},
		{"channel.dust", "0.00001", "no output of a refund may be smaller, in coins", amount(&c.Rules.Dust), false, "COINS"},
		{"channel.max-payment", "1000000", "largest single payment or lock, in coins", amount(&c.Rules.MaxPayment), false, "COINS"},
		{"channel.max-in-flight", "1000000", "largest sum of open locks that a peer funds in one channel, in coins", amount(&c.Rules.MaxInFlight), false, "COINS"},
		{"channel.max-locks", "483", "most open locks that a peer funds in one channel: 1 to 483", func(s string) error {
			var n uint32
			if err := number(&n)(s); err != nil {
				return err
			}
			if n == 0 || n > wire.MaxLocks/2 {
				return fmt.Errorf("want 1 to %d", wire.MaxLocks/2)
			}
			c.Rules.MaxLocks = uint16(n)
			return nil
		}, false, "N"},
		{"channel.min-lock", "0", "smallest lock that a peer funds, in coins", amount(&c.Rules.MinLock), false, "COINS"},
		{"channel.max-ops", "483", "most operations in one update of a peer: 1 to 483", func(s string) error {
			var n uint32
			if err := number(&n)(s); err != nil {
				return err
			}
			if n == 0 || n > wire.MaxOps {
				return fmt.Errorf("want 1 to %d", wire.MaxOps)
			}
			c.Rules.MaxOps = uint16(n)
			return nil
		}, false, "N"},
		{"channel.deposit", "0", "risk deposit: floor under the peer's balance, in coins", amount(&c.Rules.Deposit), false, "COINS"},
		{"channel.max-contribution", "1000000", "the most that we put into a channel that a peer proposes, in coins", amount(&c.MaxContribution), false, "COINS"},
		{"route.base-fee", "0.000001", "fee for forwarding a payment, in coins", amount(&c.BaseFee), false, "COINS"},
		{"route.fee-millionths", "100", "fee for forwarding, in millionths of the amount", number(&c.FeeMillionths), false, "N"},
		{"route.reserve", "30", "reservation fee for keeping a forwarded lock open, paid whatever becomes of it, in millionths of a millionth of the amount a block: 30 are 0.1 percent of a fee of 100 millionths an hour", number(&c.Reserve), false, "N"},
		{"deadline.warn", "0", "how many blocks before this daemon acts on an open lock by itself it says so (event deadline.near); 0: channel.downtime", number(&c.WarnBlocks), false, "BLOCKS"},
		{"backup.file", "", "file that follows every commit of the store, sealed with a key of the seed phrase: on another disk, or where it is carried away from; empty: none", text(&c.BackupFile), false, "FILE"},
		{"tower.serve", "false", "be a watchtower for others: keep the newest version of their channels and publish it when an older one appears", boolean(&c.TowerServe), false, "BOOL"},
		{"tower.price", "0.0001", "what a watchtower of ours asks for watching one channel for a thousand blocks, in coins; 0: nothing", amount(&c.TowerPrice), false, "COINS"},
		{"tower.every", "100", "after so many updates of a channel the watchtowers that we use get its newest version at once, not with the next block; 0: with each block only", number(&c.TowerEvery), false, "N"},
		{"timestamp.round", "1s", "how long timestamp requests are collected before they are sealed: 100ms to 1h", duration(&c.TimestampRound, 100*time.Millisecond, time.Hour), false, "TIME"},
		{"history.payments", fmt.Sprint(chand.DefaultPayments), "how many payments that are over are remembered, forwarded ones and paid invoices with them; 0: this default", number(&c.HistoryPayments), false, "N"},
		{"history.age", chand.DefaultAge.String(), "how long expired invoices, ended escrows, closed channels and confirmed transactions are remembered, with their idempotency keys: 1h to 876000h", duration(&c.HistoryAge, time.Hour, 876000*time.Hour), false, "TIME"},
		{"debug.listen", "", "Go's profiler (/debug/pprof/) and the store's counters (/debug/store) over HTTP, without any access control; empty: off", loopbackAddress(&c.DebugListen), false, "HOST:PORT"},
	}
}

const configName = "chand.toml"

// loadConfig reads file, environment and flags, in this order. On the first run it writes the file, with listen ports that are
// free now and stay claimed. created tells whether it did.
func loadConfig(home string, env []string, flags *pflag.FlagSet) (c *Config, created bool, ports claims, err error) {
	defer func() {
		if err != nil {
			ports.release()
		}
	}()
	c = &Config{Home: home}
	all := c.settings()
	path := filepath.Join(home, configName)
	values := map[string]string{}
	raw, err := os.ReadFile(path)
	switch {
	case err == nil:
		if values, err = parseConfig(raw); err != nil {
			return nil, false, ports, fmt.Errorf("%s: %w", path, err)
		}
	case !errors.Is(err, os.ErrNotExist):
		return nil, false, ports, err
	default:
		created = true
		if ports, err = freePorts(all); err != nil {
			return nil, false, ports, err
		}
	}
	overrides := map[string]string{}
	if err := readEnvironment(all, env, overrides); err != nil {
		return nil, false, ports, err
	}
	flags.Visit(func(f *pflag.Flag) {
		for _, s := range all {
			if flagName(s.key) == f.Name {
				overrides[s.key] = f.Value.String()
			}
		}
	})
	known, used := map[string]bool{}, map[string]string{}
	for i, s := range all {
		known[s.key] = true
		from, v := path, s.value
		if fileValue, ok := values[s.key]; ok {
			v = fileValue
		}
		if created {
			if o, ok := overrides[s.key]; ok { // the first run's choices are kept
				v = o
			}
			all[i].value = v
		}
		if o, ok := overrides[s.key]; ok {
			from, v = "--"+flagName(s.key)+" or "+envName(s.key), o
		}
		used[s.key] = v
		if err := s.set(v); err != nil {
			return nil, false, ports, fmt.Errorf("%s: %s = %q: %w", from, s.key, v, err)
		}
	}
	for k := range values {
		if !known[k] {
			return nil, false, ports, fmt.Errorf("%s: unknown key %q%s: remove it or correct it", path, k, suggest(k, known))
		}
	}
	if err := c.Timing.Check(); err != nil {
		return nil, false, ports, fmt.Errorf("channel.*: %w", err)
	}
	if err := checkPorts(all, used); err != nil {
		return nil, false, ports, err
	}
	if created {
		err = writeConfig(path, all)
	}
	return c, created, ports, err
}

// parseConfig flattens TOML tables into dotted keys.
func parseConfig(raw []byte) (map[string]string, error) {
	var tree map[string]any
	if err := toml.Unmarshal(raw, &tree); err != nil {
		return nil, err
	}
	values := map[string]string{}
	var walk func(prefix string, m map[string]any)
	walk = func(prefix string, m map[string]any) {
		for k, v := range m {
			if sub, ok := v.(map[string]any); ok {
				walk(prefix+k+".", sub)
			} else {
				values[prefix+k] = fmt.Sprint(v)
			}
		}
	}
	walk("", tree)
	return values, nil
}

func readEnvironment(all []setting, env []string, overrides map[string]string) error {
	for _, e := range env {
		name, v, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "CHAND_") || name == "CHAND_HOME" {
			continue
		}
		i := slices.IndexFunc(all, func(s setting) bool { return envName(s.key) == name })
		if i < 0 {
			return fmt.Errorf("environment: unknown variable %s: `chand --help` lists the settings", name)
		}
		overrides[all[i].key] = v
	}
	return nil
}

func writeConfig(path string, all []setting) error {
	var b strings.Builder
	b.WriteString("# Settings of this daemon. Unknown keys are errors. The same names work as flags (--ledger-join)\n# and in the environment (CHAND_LEDGER_JOIN); flags win over the environment, the environment over this file.\n")
	section := ""
	for _, s := range all {
		table, name, _ := strings.Cut(s.key, ".")
		if table != section {
			section = table
			fmt.Fprintf(&b, "\n[%s]\n", table)
		}
		value := strconv.Quote(s.value)
		if s.form == "BOOL" || s.form == "BLOCKS" || s.form == "N" {
			value = s.value
		}
		fmt.Fprintf(&b, "# %s\n%s = %s\n", s.doc, name, value)
	}
	return os.WriteFile(path, []byte(b.String()), 0o600)
}

func addFlags(flags *pflag.FlagSet) {
	for _, s := range new(Config).settings() {
		if s.form == "BOOL" {
			flags.Bool(flagName(s.key), s.value == "true", s.doc)
			continue
		}
		flags.Var(&flagText{s.value, s.form}, flagName(s.key), s.doc)
	}
}

// flagText is a flag whose value is checked later, with those of the file and the environment; form names it in the help.
type flagText struct{ value, form string }

func (f *flagText) String() string     { return f.value }
func (f *flagText) Set(s string) error { f.value = s; return nil }
func (f *flagText) Type() string       { return f.form }

func flagName(key string) string { return strings.ReplaceAll(key, ".", "-") }

func envName(key string) string {
	return "CHAND_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
}

// suggest names a known key that shares the last part or the first three letters.
func suggest(key string, known map[string]bool) string {
	last := key[strings.LastIndex(key, ".")+1:]
	var near []string
	for k := range known {
		if strings.HasSuffix(k, "."+last) || len(key) > 3 && strings.HasPrefix(k, key[:3]) {
			near = append(near, k)
		}
	}
	sort.Strings(near)
	if len(near) == 0 {
		return ""
	}
	return " (did you mean " + strings.Join(near, " or ") + "?)"
}

func text(p *string) func(string) error { return func(s string) error { *p = s; return nil } }

func oneOf(p *string, allowed ...string) func(string) error {
	return func(s string) error {
		if !slices.Contains(allowed, s) {
			return fmt.Errorf("want one of %s", strings.Join(allowed, ", "))
		}
		*p = s
		return nil
	}
}

// peerList takes addresses between commas.
func peerList(p *[]string) func(string) error {
	return func(s string) error {
		*p = nil
		for _, one := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }) {
			if err := escd.CheckPeer(one); err != nil {
				return err
			}
			*p = append(*p, one)
		}
		return nil
	}
}

func boolean(p *bool) func(string) error {
	return func(s string) error {
		if s != "true" && s != "false" {
			return errors.New("want true or false")
		}
		*p = s == "true"
		return nil
	}
}

func number(p *uint32) func(string) error {
	return func(s string) error {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return fmt.Errorf("want a whole number from 0 to %d", uint32(math.MaxUint32))
		}
		*p = uint32(n)
		return nil
	}
}

func keepBlocks(p *uint32) func(string) error {
	return func(s string) error {
		if err := number(p)(s); err != nil {
			return err
		}
		if *p != 0 && *p < escd.MinKeepBlocks {
			return fmt.Errorf("want 0, or %d and more", escd.MinKeepBlocks)
		}
		return nil
	}
}

func amount(p *types.Amount) func(string) error {
	return func(s string) (err error) { *p, err = types.ParseAmount(s); return err }
}

func duration(p *time.Duration, least, most time.Duration) func(string) error {
	return func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d < least || d > most {
			return fmt.Errorf("want %s to %s", least, most)
		}
		*p = d
		return nil
	}
}
