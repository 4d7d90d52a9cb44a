package esc

import (
	"reflect"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// The seed's files, blanks and all.
func TestSettings(t *testing.T) {
	s := DefaultSettings()
	err := s.Read([]byte("port=9091\nhost=\naddress=0001-00000001-8B4E \nsecret= 5BF11F5D0130EC994F04B6C5321566A853B7393C33F12E162A6D765ADCCCB45C \n"))
	if err != nil {
		t.Fatal(err)
	}
	secret := ledger.BrainKey("user-0-1")
	want := Settings{Host: "127.0.0.1", Port: 9091, Account: types.AccountID{Node: 1, User: 1}, HasAccount: true, Secret: &secret, Nice: true, Olog: true, Wait: true, WorkDir: "."}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v\nwant %+v", s, want)
	}
	s = DefaultSettings()
	err = s.Read([]byte("# an account by numbers\r\nbank = 1\r\nuser=2\n\nsecret=user-0-1\nnice=0\nolog=false\ndry-run=1\nmsid=7\nhash=" + hex32Text + "\nmlin=1\nhost=::1"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Account != (types.AccountID{Node: 1, User: 2}) || *s.Secret != secret || s.Nice || s.Olog || !s.DryRun || *s.Msid != 7 || Hex(s.Hash[:]) != hex32Text || s.Host != "::1" {
		t.Errorf("%+v", s)
	}
	if err := s.Set("address", "0002-00000000-XXXX"); err != nil || s.Account != (types.AccountID{Node: 2}) { // a flag wins
		t.Errorf("%+v %v", s, err)
	}
	if err := s.Set("secret", "-"); err != nil || s.Secret != nil || !s.Ask {
		t.Errorf("%+v %v", s, err)
	}
}

func TestSettingsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"prot=9091":                   `line 1: unknown setting "prot"`,
		"port=9091\nport=9092":        `line 2: "port" is there twice`,
		"port=65536":                  "whole number",
		"port":                        "line 1: want NAME=VALUE",
		"address=0001-00000001-8B4F":  "wrong checksum",
		"bank=0x1":                    "whole number",
		"hash=00":                     "64 hex digits",
		"nice=perhaps":                "want 1 or 0",
		"work-dir=/tmp":               "give it as a flag",
		strings.Repeat("#", 64<<10+1): "at most 65536",
	} {
		s := DefaultSettings()
		if err := s.Read([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

// Every setting has a name, a letter and a text of its own.
func TestOptions(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range Options {
		if o.Name == "" || len(o.Short) > 1 || o.Doc == "" || o.Form == "" || seen[o.Name] || o.Short != "" && seen[o.Short] {
			t.Errorf("%+v", o)
		}
		seen[o.Name], seen[o.Short] = true, true
	}
}

func FuzzSettings(f *testing.F) {
	f.Add([]byte("port=9091\nhost=\naddress=0001-00000001-8B4E \nsecret= 5BF11F5D0130EC994F04B6C5321566A853B7393C33F12E162A6D765ADCCCB45C \n"))
	f.Add([]byte("# x\nbank=1\nuser=2\nmsid=3\nhash=" + hex32Text + "\nnice=0\nolog=1\ndry-run=1\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		s := DefaultSettings()
		if s.Read(file) == nil && (s.Host == "" || s.WorkDir != "." || s.Ask && s.Secret != nil) {
			t.Fatalf("%+v", s)
		}
	})
}

func TestLines(t *testing.T) {
	for input, want := range map[string][]string{
		"{\"run\":\"get_me\"}\n\n  {\"run\":\"create_node\"}  \n":                                         {`{"run":"get_me"}`, `{"run":"create_node"}`},
		"{\"run\":\"change_account_key\",\n\"pkey\":\"x\",\n\"signature\":\n\"y\"}\n{\"run\":\"get_me\"}": {"{\"run\":\"change_account_key\",\n\"pkey\":\"x\",\n\"signature\":\n\"y\"}", `{"run":"get_me"}`},
		"{\"run\":\"send_many\",\"wires\":\n{\"a\":\"}{\\\"\"}}":                                          {"{\"run\":\"send_many\",\"wires\":\n{\"a\":\"}{\\\"\"}}"},
		"{\"run\":\"broken\"\n{\"run\":\"get_me\"}":                                                       {`{"run":"broken"`, `{"run":"get_me"}`}, // one broken line costs one command
		"{\"run\":\"open\n{\"run\":\"get_me\"}":                                                           {`{"run":"open`, `{"run":"get_me"}`},
		"nonsense\n}\n{\"run\":\"get_me\"}\n{\"run\":":                                                    {"nonsense", "}", `{"run":"get_me"}`, `{"run":`},
	} {
		var l Lines
		var got []string
		for line := range strings.Lines(input) {
			for _, c := range l.Add([]byte(line)) {
				got = append(got, string(c))
			}
		}
		if last := l.End(); last != nil {
			got = append(got, string(last))
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q:\n got %q\nwant %q", input, got, want)
		}
	}
	var l Lines
	for i := range MaxCommand + 2 {
		if out := l.Add([]byte("[")); i > 0 && len(out) > 0 {
			if len(out[0]) > MaxCommand+2 {
				t.Fatalf("a command of %d bytes", len(out[0]))
			}
			break
		}
		if len(l.text) > 2*MaxCommand {
			t.Fatal("an endless command is kept whole")
		}
	}
}

func FuzzLines(f *testing.F) {
	f.Add("{\"run\":\"change_account_key\",\n\"pkey\":\"x\"}\n{\"run\":\"get_me\"}")
	f.Add("{\"a\n}{[\n]\\\"")
	f.Fuzz(func(t *testing.T, input string) {
		var l Lines
		var got strings.Builder
		for line := range strings.Lines(input) {
			for _, c := range l.Add([]byte(line)) {
				got.Write(c)
			}
		}
		got.Write(l.End())
		blanks := strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "")
		if a, b := blanks.Replace(got.String()), blanks.Replace(input); len(input) < MaxCommand && a != b {
			t.Fatalf("nothing is lost and nothing added: %q became %q", b, a)
		}
	})
}
