package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func load(t *testing.T, home string, env []string, args ...string) (*Config, error) {
	t.Helper()
	flags := pflag.NewFlagSet("chand", pflag.ContinueOnError)
	addFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	c, _, ports, err := loadConfig(home, env, flags)
	t.Cleanup(ports.release)
	return c, err
}

// Homes that are new at the same moment choose different ports, though none of them listens yet.
func TestFirstRunsTogetherChooseDifferentPorts(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	used := map[string]bool{}
	for range 4 {
		c, err := load(t, t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{c.RPCListen, c.PeerListen, c.GatewayListen, c.LedgerOffice, c.LedgerP2P} {
			if used[p] {
				t.Errorf("%s was chosen twice", p)
			}
			used[p] = true
		}
	}
}

func TestSettings(t *testing.T) {
	home := t.TempDir()
	c, err := load(t, home, []string{"CHAND_LEDGER_JOIN=env", "CHAND_LOG_LEVEL=warn", "CHAND_HOME=x", "HOME=y"}, "--ledger-join=flag", "--peer-dial=false")
	if err != nil || c.LedgerJoin != "flag" || c.LogLevel != "warn" || c.PeerDial {
		t.Fatalf("%+v, %v", c, err)
	}
	again, err := load(t, home, []string{"CHAND_LOG_LEVEL=error"}, "--peer-dial")
	if err != nil || again.LedgerJoin != "flag" || again.LogLevel != "error" || !again.PeerDial || again.RPCListen != c.RPCListen {
		t.Errorf("the file holds the first choices, environment and flags win: %+v, %v", again, err)
	}
}

func TestSettingsRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		file, env, flag, want string
	}{
		{flag: "--rpc-listen=nonsense", want: "want an IP address and a port"},
		{flag: "--peer-listen=localhost:1", want: "want an IP address and a port"},
		{flag: "--gateway-listen=127.0.0.1:99999", want: "want an IP address and a port"},
		{flag: "--ledger-p2p=" + l.Addr().String(), want: "stop the program that has the port"},
		{flag: "--ledger-peers=127.0.0.1:1,nonsense", want: "want HOST:PORT of its office"},
		{flag: "--ledger-peers=00@127.0.0.1:1", want: "want HOST:PORT of its office"},
		{flag: "--debug-listen=0.0.0.0:1", want: "want a loopback address"},
		{flag: "--ledger-node-key=key/key.txt", want: "want an absolute path"},
		{flag: "--channel-window=abc", want: "want a whole number"},
		{flag: "--channel-window=5", want: "too short"},
		{flag: "--log-level=loud", want: "want one of debug"},
		{flag: "--timestamp-round=soon", want: "want 100ms to 1h"},
		{env: "CHAND_FOO=1", want: "unknown variable CHAND_FOO"},
		{env: "CHAND_PEER_DIAL=yes", want: "want true or false"},
		{file: "[ledger]\njion = \"x\"\n", want: `unknown key "ledger.jion"`},
		{file: "not toml", want: configName},
	} {
		home := t.TempDir()
		if c.file != "" {
			if err := os.WriteFile(filepath.Join(home, configName), []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var env, args []string
		if c.env != "" {
			env = []string{c.env}
		}
		if c.flag != "" {
			args = []string{c.flag}
		}
		if _, err := load(t, home, env, args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
		if _, err := os.Stat(filepath.Join(home, configName)); c.file == "" && err == nil {
			t.Errorf("%+v: refused settings were kept", c)
		}
	}
}
