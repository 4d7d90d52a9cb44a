// Package devnet runs real daemons as processes of their own on this machine, for the demo, the end-to-end tests and the
// benchmarks. Everything listens on loopback. Only processes started here are ever signalled, each through its own handle.
package devnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/eschaton-network/chand/rpc"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

// Net is a set of daemons under one folder.
type Net struct {
	// Dir holds one home for each daemon: Dir/NAME.
	Dir string
	// Binary is the chand executable.
	Binary string
	// Args are given to every daemon on each start.
	Args []string

	mu    sync.Mutex
	nodes []*Node // guarded by mu
}

// Node is one daemon's process and the client that talks to it.
type Node struct {
	Name, Home string
	*rpc.Client

	net  *Net
	args []string
	// cmd and done belong to the caller of Start, Stop and Kill, who must not call them from two goroutines at once.
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of the process; read after done
}

// startTimeout is far above the two seconds that a daemon takes to be ready, for machines that are busy.
const startTimeout = 60 * time.Second

// stopTimeout is how long a daemon may take to stop after SIGTERM before that is an error.
const stopTimeout = 20 * time.Second

// Build compiles chand (and chancli) into dir and returns chand's path.
func Build(ctx context.Context, dir string) (string, error) {
	for _, name := range []string{"chand", "chancli"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, name), "github.com/eschaton-network/chand/cmd/"+name)
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build %s: %w\n%s", name, err, out)
		}
	}
	return filepath.Join(dir, "chand"), nil
}

// Start starts a daemon, new or stopped, and waits until it is ready. The home is Dir/name.
func (n *Net) Start(ctx context.Context, name string, args ...string) (*Node, error) {
	d := &Node{Name: name, Home: filepath.Join(n.Dir, name), net: n, args: args}
	n.mu.Lock()
	n.nodes = append(n.nodes, d)
	n.mu.Unlock()
	return d, d.Restart(ctx)
}

// Restart starts the process again after Stop or Kill, with the same arguments.
func (d *Node) Restart(ctx context.Context) error {
	args := append([]string{"--home", d.Home}, d.args...)
	if _, err := os.Stat(filepath.Join(d.Home, "chand.toml")); errors.Is(err, os.ErrNotExist) {
		ports, err := FreePorts(5)
		if err != nil {
			return err
		}
		for i, flag := range []string{"rpc-listen", "peer-listen", "gateway-listen", "ledger-office", "ledger-p2p"} {
			args = append(args, "--"+flag, "127.0.0.1:"+strconv.Itoa(ports[i]))
		}
	}
	args = append(args, d.net.Args...)
	if err := os.MkdirAll(d.Home, 0o700); err != nil {
		return err
	}
	logFile, err := os.OpenFile(filepath.Join(d.Home, "log.txt"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close() // the process has its own handle
	d.cmd = exec.Command(d.net.Binary, args...)
	d.cmd.Stdout, d.cmd.Stderr = logFile, logFile
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches the caller, which stops the daemons in order
	_ = os.Remove(filepath.Join(d.Home, "run.json"))
	if err := d.cmd.Start(); err != nil {
		return err
	}
	d.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { d.err = cmd.Wait(); close(done) }(d.cmd, d.done)
	return d.waitReady(ctx)
}

func (d *Node) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		c, err := rpc.Dial(d.Home)
		if err == nil {
			if _, err = c.Status.Get(ctx, &chandv1.GetStatusRequest{}); err == nil {
				d.Client = c
				return nil
			}
			c.Close()
		}
		select {
		case <-d.done:
			return fmt.Errorf("%s stopped while starting (%v); the end of %s/log.txt:\n%s", d.Name, d.err, d.Home, d.LogTail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready (%v); the end of %s/log.txt:\n%s", d.Name, err, d.Home, d.LogTail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop sends SIGTERM and wants a clean exit.
func (d *Node) Stop() error { return d.signal(syscall.SIGTERM) }

// Kill sends SIGKILL and waits until the process is gone.
func (d *Node) Kill() error { return d.signal(syscall.SIGKILL) }

func (d *Node) signal(s syscall.Signal) error {
	if !d.Running() {
		return nil
	}
	if d.Client != nil {
		d.Client.Close()
	}
	if err := d.cmd.Process.Signal(s); err != nil {
		return err
	}
	select {
	case <-d.done:
	case <-time.After(stopTimeout):
		_ = d.cmd.Process.Kill()
		<-d.done
		return fmt.Errorf("%s did not stop within %s of %s", d.Name, stopTimeout, s)
	}
	if s == syscall.SIGTERM && d.err != nil {
		return fmt.Errorf("%s stopped with %w; the end of its log:\n%s", d.Name, d.err, d.LogTail())
	}
	return nil
}

// Running tells whether the process lives.
func (d *Node) Running() bool {
	if d.cmd == nil || d.done == nil {
		return false
	}
	select {
	case <-d.done:
		return false
	default:
		return true
	}
}

// LogTail returns the last lines of the daemon's log.
func (d *Node) LogTail() string {
	b, err := os.ReadFile(filepath.Join(d.Home, "log.txt"))
	if err != nil {
		return err.Error()
	}
	if len(b) > 4000 {
		b = b[len(b)-4000:]
	}
	return string(bytes.TrimSpace(b))
}

// Close stops every daemon that still runs, in the reverse order of their start.
func (n *Net) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for i := len(n.nodes) - 1; i >= 0; i-- {
		errs = append(errs, n.nodes[i].Stop())
	}
	return errors.Join(errs...)
}

// Release forgets the daemons, so that they go on when this process ends.
func (n *Net) Release() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, d := range n.nodes {
		if d.Client != nil {
			d.Client.Close()
		}
	}
	n.nodes = nil
}

// Ports are drawn below the range that the system gives to outgoing connections (Linux: from 32768), so that none of those takes
// one before its daemon listens.
const firstPort, portsEnd = 10000, 32000

// FreePorts returns loopback ports that nothing listens on now, all different.
func FreePorts(count int) ([]int, error) {
	var ports []int
	for range 100 * count {
		port := firstPort + rand.IntN(portsEnd-firstPort)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		defer l.Close()
		if ports = append(ports, port); len(ports) == count {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("no %d free ports between %d and %d", count, firstPort, portsEnd)
}

// CopyHome copies a stopped daemon's home, as a backup would.
func CopyHome(from, to string) error {
	return filepath.Walk(from, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if info.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		src, err := os.Open(path)
		if err != nil {
			return err
		}
		defer src.Close()
		dst, err := os.OpenFile(target, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, info.Mode())
		if err != nil {
			return err
		}
		_, err = io.Copy(dst, src)
		return errors.Join(err, dst.Close())
	})
}
