package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"

	"github.com/eschaton-network/chand/store"
)

// loopbackAddress is a listen address that other machines can't reach, or empty.
func loopbackAddress(p *string) func(string) error {
	listen := listenAddress(p, true)
	return func(s string) error {
		if err := listen(s); err != nil || s == "" {
			return err
		}
		if host, _, _ := net.SplitHostPort(s); !net.ParseIP(host).IsLoopback() {
			return errors.New("want a loopback address, like 127.0.0.1:6060: the profiler asks nobody for a password")
		}
		return nil
	}
}

// serveDebug serves Go's profiler, and what the store has done so far, as long as ctx, unless the address is empty.
func serveDebug(ctx context.Context, addr string, stats func() store.Stats) error {
	if addr == "" {
		return nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("debug.listen %s: %w: choose another port", addr, err)
	}
	mux := http.NewServeMux() // not the default one, on which anybody may register
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/store", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(stats()) // the reader is gone
	})
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(l) }() // it ends with the listener
	context.AfterFunc(ctx, func() { server.Close() })
	return nil
}
