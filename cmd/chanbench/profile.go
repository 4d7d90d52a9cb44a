package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/eschaton-network/chand/internal/devnet"
)

// profileAddr is where a daemon is to serve profiles of itself; empty when none are wanted.
func (b *bench) profileAddr() (string, error) {
	if b.profiles == "" {
		return "", nil
	}
	return debugAddr()
}

// debugAddr is a free address for a daemon's profiler and counters.
func debugAddr() (string, error) {
	ports, err := devnet.FreePorts(1)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0]), nil
}

// profile saves where a daemon spends its processor time in the next seconds, if that is wanted, as NAME.pprof in the folder for
// profiles. The function that it returns waits for it.
func (b *bench) profile(ctx context.Context, addr, name string, seconds float64) (wait func() error) {
	if addr == "" || name == "" || b.profiles == "" {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() { done <- saveProfile(ctx, addr, filepath.Join(b.profiles, name+".pprof"), seconds) }()
	return func() error { return <-done }
}

func saveProfile(ctx context.Context, addr, path string, seconds float64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%.0f", addr, max(seconds, 1)), nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	if err != nil {
		return fmt.Errorf("profile of the daemon: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// profileAll profiles every daemon that a load goes through, as FIGURE.NAME.pprof; the function that it returns waits for all.
func (b *bench) profileAll(ctx context.Context, figure string, nodes []*devnet.Node, window time.Duration) (wait func() error) {
	var waits []func() error
	for _, n := range nodes {
		waits = append(waits, b.profile(ctx, b.debugOf(n.Name), figure+"."+n.Name, window.Seconds()))
	}
	return func() error {
		var errs []error
		for _, w := range waits {
			errs = append(errs, w())
		}
		return errors.Join(errs...)
	}
}

// noteDebug keeps where a daemon serves its profiles.
func (b *bench) noteDebug(name, addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.debug == nil {
		b.debug = make(map[string]string)
	}
	b.debug[name] = addr
}

func (b *bench) debugOf(name string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.debug[name]
}

// stored is what the stores of daemons have done since their starts.
type stored struct{ Written, Syncs uint64 }

// storedBy adds up what daemons say of their stores.
func (b *bench) storedBy(ctx context.Context, nodes []*devnet.Node) (all stored, err error) {
	for _, n := range nodes {
		var one stored
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.debugOf(n.Name)+"/debug/store", nil)
		if err != nil {
			return all, err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return all, err
		}
		err = json.NewDecoder(res.Body).Decode(&one)
		res.Body.Close()
		if err != nil {
			return all, fmt.Errorf("the store of %s: %w", n.Name, err)
		}
		all.Written, all.Syncs = all.Written+one.Written, all.Syncs+one.Syncs
	}
	return all, nil
}
