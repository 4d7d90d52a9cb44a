package esc

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

const (
	// SettingsName is the file in the working directory from which the client reads its settings.
	SettingsName = "settings.cfg"
	// MaxSettings bounds that file; a dozen short lines is usual.
	MaxSettings = 64 << 10
	// DefaultHost and DefaultPort are the office of a daemon on this machine.
	DefaultHost = "127.0.0.1"
	DefaultPort = 9744
	// AskSecret as secret means: it is the first line of the input.
	AskSecret = "-"
)

// Settings are those of the original client, from settings.cfg and then from flags.
type Settings struct {
	Host string
	Port uint16
	// Account is the sender; HasAccount tells whether it was given.
	Account    types.AccountID
	HasAccount bool
	// Msid and Hash are the number and hash of the next transaction; nil: the office is asked.
	Msid *uint32
	Hash *types.Hash
	// Secret is the ed25519 seed; nil when there is none. Ask: it comes as the first line of the input.
	Secret *[32]byte
	Ask    bool
	// Nice indents the answers, Olog keeps a file of what was sent, DryRun sends nothing, Wait ends only when what was sent is in blocks.
	Nice, Olog, DryRun, Wait bool
	// WorkDir is where settings.cfg and out/ are.
	WorkDir string
}

// DefaultSettings are those of an empty file.
func DefaultSettings() Settings {
	return Settings{Host: DefaultHost, Port: DefaultPort, Nice: true, Olog: true, Wait: true, WorkDir: "."}
}

// Option is one setting: a line NAME=VALUE of the file, --NAME or -SHORT (where it has one) on the command line.
type Option struct {
	Name, Short string
	// Form is what stands for the value in the help; "BOOL" for those that take 0 or 1.
	Form, Doc string
	set       func(*Settings, string) error
}

// Options lists all settings.
var Options = []Option{
	{"port", "P", "PORT", "port of the office (the setting ledger.office of the running node)", func(s *Settings, v string) error {
		n, err := unsigned(v, 16)
		s.Port = uint16(n)
		return err
	}},
	{"host", "H", "HOST", "host of the office; empty: this machine", func(s *Settings, v string) error {
		s.Host = v
		if v == "" {
			s.Host = DefaultHost
		}
		return nil
	}},
	{"address", "A", "ADDRESS", "account that signs: NNNN-UUUUUUUU-CCCC, or XXXX for the checksum", func(s *Settings, v string) (err error) {
		s.HasAccount = true
		s.Account, err = types.ParseAccountID(v)
		return err
	}},
	{"bank", "b", "NODE", "node of the account, decimal (instead of address)", func(s *Settings, v string) error {
		n, err := unsigned(v, 16)
		s.Account.Node, s.HasAccount = uint16(n), true
		return err
	}},
	{"user", "u", "ID", "number of the account, decimal (instead of address)", func(s *Settings, v string) error {
		n, err := unsigned(v, 32)
		s.Account.User, s.HasAccount = uint32(n), true
		return err
	}},
	{"msid", "i", "N", "number of the next transaction (default: the office is asked)", func(s *Settings, v string) error {
		n, err := unsigned(v, 32)
		msid := uint32(n)
		s.Msid = &msid
		return err
	}},
	{"hash", "x", "HEX", "the account's hash before the next transaction (default: the office is asked)", func(s *Settings, v string) error {
		h, err := types.ParseHash(v)
		s.Hash = &h
		return err
	}},
	{"secret", "s", "SECRET", "64 hex digits, or any other text as a brain key; - reads it from the first line of the input", setSecret},
	{"nice", "n", "BOOL", "indent the answers", boolean(func(s *Settings) *bool { return &s.Nice })},
	{"olog", "o", "BOOL", "append what is sent to out/NNNN_UUUUUUUU.json in the working directory", boolean(func(s *Settings) *bool { return &s.Olog })},
	{"dry-run", "d", "BOOL", "show the transaction and send nothing", boolean(func(s *Settings) *bool { return &s.DryRun })},
	{"wait", "", "BOOL", "end only when what was sent is in a block, and say what was refused there (not in the original)", boolean(func(s *Settings) *bool { return &s.Wait })},
	{"mlin", "m", "BOOL", "commands may go over several lines; they always may here", boolean(func(*Settings) *bool { return new(bool) })},
	{"work-dir", "w", "DIR", "directory of settings.cfg and out/", func(s *Settings, v string) error { s.WorkDir = v; return nil }},
}

// Set changes one setting by its name. Blanks around the value are no part of it.
func (s *Settings) Set(name, v string) error {
	i := slices.IndexFunc(Options, func(o Option) bool { return o.Name == name })
	if i < 0 {
		return fmt.Errorf("unknown setting %.40q", name)
	}
	if err := Options[i].set(s, strings.TrimSpace(v)); err != nil {
		if name == "secret" || name == "hash" { // what stands there may be a secret in the wrong place
			return fmt.Errorf("%s: %w", name, err)
		}
		return fmt.Errorf("%s = %.60q: %w", name, v, err)
	}
	return nil
}

// Read takes the settings of a file: one NAME=VALUE a line, blank lines, and comments from # on at a line's start.
func (s *Settings) Read(file []byte) error {
	if len(file) > MaxSettings {
		return fmt.Errorf("%d bytes: at most %d", len(file), MaxSettings)
	}
	seen := map[string]bool{}
	number := 0
	for line := range strings.Lines(string(file)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, v, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(name)
		if !ok {
			return fmt.Errorf("line %d: want NAME=VALUE", number)
		}
		if name == "work-dir" {
			return fmt.Errorf("line %d: work-dir says where this file is: give it as a flag", number)
		}
		if seen[name] {
			return fmt.Errorf("line %d: %.40q is there twice", number, name)
		}
		seen[name] = true
		if err := s.Set(name, v); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	return nil
}

func setSecret(s *Settings, v string) error {
	s.Secret, s.Ask = nil, v == AskSecret
	if v != "" && !s.Ask {
		k := Secret(v)
		s.Secret = &k
	}
	return nil
}

// Secret reads 64 hex digits as a secret, and any other text as a brain key.
func Secret(text string) [32]byte {
	if b, err := hex.DecodeString(text); err == nil && len(b) == 32 {
		return [32]byte(b)
	}
	return ledger.BrainKey(text)
}

func unsigned(v string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(v, 10, bits)
	if err != nil {
		return 0, fmt.Errorf("want a whole number below 2^%d", bits)
	}
	return n, nil
}

func boolean(to func(*Settings) *bool) func(*Settings, string) error {
	return func(s *Settings, v string) error {
		switch strings.ToLower(v) {
		case "1", "true", "yes", "on", "":
			*to(s) = true
		case "0", "false", "no", "off":
			*to(s) = false
		default:
			return fmt.Errorf("want 1 or 0")
		}
		return nil
	}
}
