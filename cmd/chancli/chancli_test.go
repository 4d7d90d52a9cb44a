package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/eschaton-network/chand/rpc"
	"github.com/eschaton-network/chand/store"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"chancli": main, "chancli-tty": func() {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr, true))
	}})
}

// Every script runs the real program, against a server of the real interface with handlers that keep books. chancli prints
// JSON, because its output is a pipe; chancli-tty prints what it prints on a terminal.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", Setup: func(env *testscript.Env) error {
		home := filepath.Join(env.WorkDir, "home")
		if err := os.Mkdir(home, 0o700); err != nil {
			return err
		}
		var s *rpc.Server
		f := newFake(func() { _ = rpc.RemoveRun(home) })
		s, err := rpc.NewServer(rpc.Config{Home: home, Listen: "127.0.0.1:0", RootKey: [32]byte{1}}, f.handlers())
		if err != nil {
			return err
		}
		done := make(chan error, 1)
		go func() { done <- s.Serve() }()
		shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			switch r.URL.Path {
			case "/missing":
				w.WriteHeader(404)
			case "/broken":
				w.Header().Set("Content-Length", "1000")
			}
			fmt.Fprintf(w, "%s %s %s %s\n", r.Method, r.URL.Path, r.Header.Get("X-Test"), b)
		}))
		env.Defer(func() {
			shop.Close()
			_ = s.Shutdown(context.Background())
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		env.Setenv("CHAND_HOME", home)
		env.Setenv("SHOP", shop.URL)
		env.Setenv("TZ", "UTC")
		return rpc.WriteRun(home, rpc.RunInfo{PID: os.Getpid(), RPC: s.Addr()})
	}, Cmds: map[string]func(*testscript.TestScript, bool, []string){
		// code N COMMAND… wants exactly this exit code.
		"code": func(ts *testscript.TestScript, _ bool, args []string) {
			err := ts.Exec(args[1], args[2:]...)
			got := "0"
			if err != nil {
				got = strings.TrimPrefix(err.Error(), "exit status ")
			}
			if got != args[0] {
				ts.Fatalf("exit code %s, want %s", got, args[0])
			}
		},
		// mkstore FILE makes an empty store.
		"mkstore": func(ts *testscript.TestScript, _ bool, args []string) {
			st, err := store.Open(ts.MkAbs(args[0]), store.Options{})
			ts.Check(err)
			ts.Check(st.Close())
		},
		// field NAME KEY keeps "KEY":"value" of the last standard output in the environment.
		"field": func(ts *testscript.TestScript, _ bool, args []string) {
			_, rest, ok := strings.Cut(ts.ReadFile("stdout"), `"`+args[1]+`":"`)
			value, _, end := strings.Cut(rest, `"`)
			if !ok || !end {
				ts.Fatalf("no %s in the output", args[1])
			}
			ts.Setenv(args[0], value)
		},
	}})
}

func TestParseAttributes(t *testing.T) {
	got, err := parseAttributes([]string{"a.b=5", "a.c=-7", "d=true", "e=4.5", `f="6"`, "g=007", "h=", "i=x=y", "j=9007199254740991"})
	want := "map[a:map[b:5 c:-7] d:true e:4.5 f:6 g:007 h: i:x=y j:9.007199254740991e+15]"
	if err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v, %v", got, err)
	}
	if _, isText := got["f"].(string); !isText {
		t.Error("a quoted number is not text")
	}
	for _, bad := range [][]string{{"a"}, {"=1"}, {"a..b=1"}, {".=1"}, {"a=1", "a=2"}, {"a=1", "a.b=2"}, {"a.b=1", "a=2"}, {`a="x`}, {"a=9007199254740992"}, {strings.Repeat("a.", 20) + "b=1"}} {
		if got, err := parseAttributes(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}
