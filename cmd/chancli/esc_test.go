package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runEsc runs chancli esc in a directory of its own.
func runEsc(t *testing.T, settings, input string, args ...string) (code int, out, errs string) {
	t.Helper()
	dir := t.TempDir()
	if settings != "" {
		if err := os.WriteFile(filepath.Join(dir, "settings.cfg"), []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var o, e bytes.Buffer
	code = run(t.Context(), append([]string{"esc", "--work-dir", dir}, args...), strings.NewReader(input), &o, &e, false)
	return code, o.String(), e.String()
}

const escOffline = "address=0001-00000000-XXXX\nsecret=14B183205CA661F589AD83809952A692DFA48F5D490B10FD120DA7BF10F2F4A0\nmsid=128\n" +
	"hash=CA119B55354CD4BF0726C96325A04DD896E20D306E3DE02A1FB7BF0FE8C34E1F\nnice=0\nport=1\n"

// The original's golden transaction, made offline by a dry run; the next one goes on from it.
func TestEscDryRun(t *testing.T) {
	const pay = `{"run":"send_one","address":"0001-00000040-XXXX","amount":100000.0,"message":"000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F","time":1795229799}`
	code, out, errs := runEsc(t, escOffline, pay+"\n"+pay+"\n", "-d")
	if code != exitOK || errs != "" {
		t.Fatal(code, errs)
	}
	d := json.NewDecoder(strings.NewReader(out))
	for _, want := range [][2]string{{"128", "D1A31F75D37016BED1BABFCFAA07FA3D707F140CD3B5C954B4FCFCE7F5217BF4"}, {"129", ""}} {
		var a struct {
			Tx struct {
				Data    string
				Msid    string `json:"account_msid"`
				HashOut string `json:"account_hashout"`
			}
		}
		if err := d.Decode(&a); err != nil || a.Tx.Msid != want[0] || want[1] != "" && a.Tx.HashOut != want[1] {
			t.Errorf("%+v %v, want %v", a, err, want)
		}
	}
}

// What goes wrong is in the answer, on stderr and in the exit code; the commands after it are executed.
func TestEscRefusals(t *testing.T) {
	code, out, errs := runEsc(t, escOffline, "{\"run\":\"get_mee\"}\n{\"rum\":1\n{\"run\":\"get_fields\",\"type\":\"send_one\"}\n")
	if code != exitFailed || strings.Count(out, `"error_code":"50"`) != 2 || !strings.Contains(out, `"fields":["address"`) || !strings.Contains(errs, "2 of 3 commands failed") {
		t.Errorf("%d\n%s\n%s", code, out, errs)
	}
	code, out, _ = runEsc(t, escOffline, `{"run":"get_me"}`)
	if code != exitFailed || !strings.Contains(out, `"error_code":"28"`) || !strings.Contains(out, `"data":"10010000000000`) {
		t.Errorf("nobody listens: %d %s", code, out)
	}
	code, out, _ = runEsc(t, "port=1\nnice=0\n", `{"run":"create_node"}`)
	if code != exitFailed || !strings.Contains(out, `"error_code":"2"`) {
		t.Errorf("no account: %d %s", code, out)
	}
	code, out, _ = runEsc(t, strings.Replace(escOffline, "secret", "#", 1), `{"run":"create_node"}`)
	if code != exitFailed || !strings.Contains(out, `"error_code":"26"`) {
		t.Errorf("no secret: %d %s", code, out)
	}
	for _, args := range [][]string{{"--port=x"}, {"--nonsense"}, {"key"}, {"key", "a", "b"}, {"sign", "a", "b", "c"}, {"kye", "x"}} {
		if code, _, _ := runEsc(t, "", "", args...); code != exitUsage {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
	if code, _, errs := runEsc(t, "prot=1\n", ""); code != exitUsage || !strings.Contains(errs, "unknown setting") {
		t.Errorf("%d %s", code, errs)
	}
}

// The secret comes as the first line of the input when it is asked for so.
func TestEscSecretFromInput(t *testing.T) {
	settings := strings.Replace(escOffline, "secret=14B183205CA661F589AD83809952A692DFA48F5D490B10FD120DA7BF10F2F4A0", "secret=-", 1)
	_, want, _ := runEsc(t, escOffline, `{"run":"create_node","time":5}`, "-d")
	code, got, errs := runEsc(t, settings, "14B183205CA661F589AD83809952A692DFA48F5D490B10FD120DA7BF10F2F4A0\n"+`{"run":"create_node","time":5}`, "-d")
	if code != exitOK || got != want || got == "" {
		t.Errorf("%d %s %s", code, got, errs)
	}
	if code, _, _ := runEsc(t, settings, ""); code != exitUsage {
		t.Errorf("no secret in the input: %d", code)
	}
}

// When nobody can tell whether a transaction was taken, nothing more is signed.
func TestEscUnknownOutcome(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer s.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	settings := strings.Replace(escOffline, "port=1", "port="+port, 1)
	code, out, errs := runEsc(t, settings, "{\"run\":\"create_node\"}\n{\"run\":\"create_node\"}\n")
	if code != exitFailed || asked != 1 || strings.Count(out, `"data"`) != 1 || !strings.Contains(errs, "send_again") {
		t.Errorf("%d, asked %d times\n%s\n%s", code, asked, out, errs)
	}
}
