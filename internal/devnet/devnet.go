// Package devnet runs real daemons as processes of their own on this machine, for `chand net`, the demo, the end-to-end tests and
// the benchmarks. Everything listens on loopback. A process is signalled through a handle on it only: it was started here, or
// the kernel names it as the one that has the lock of the daemon's home.
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

	"github.com/eschaton-network/chand/internal/homelock"
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
	// process and done belong to the caller of Start, Stop and Kill, who must not call them from two goroutines at once.
	process *os.Process
	done    chan struct{}
	err     error // of the process; read after done
}

// LogFile is where a daemon's output goes, within its home.
const LogFile = "log"

// pollEvery is how often a process that somebody else started, or a daemon that is not ready yet, is looked at.
const pollEvery = 20 * time.Millisecond

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

// Attach finds a daemon that somebody else started and waits until it is ready; nil when none runs. Close does not stop it.
func (n *Net) Attach(ctx context.Context, name string) (*Node, error) {
	d, err := n.Find(name)
	if d == nil || err != nil {
		return nil, err
	}
	return d, d.waitReady(ctx)
}

// Find is Attach without a wait: the node has no client, and is good for Stop and Kill.
func (n *Net) Find(name string) (*Node, error) {
	d := &Node{Name: name, Home: filepath.Join(n.Dir, name), net: n, done: make(chan struct{})}
	p, err := homelock.Process(d.Home)
	if p == nil || err != nil {
		return nil, err
	}
	d.process = p
	go d.watch(p.Pid, d.done)
	return d, nil
}

// watch does for a process that somebody else started what Wait does for our own: only a parent is told when it ends.
func (d *Node) watch(pid int, done chan struct{}) {
	defer close(done)
	for {
		if holder, err := homelock.Holder(d.Home); err != nil || holder != pid {
			break
		}
		time.Sleep(pollEvery)
	}
	if _, err := os.Stat(filepath.Join(d.Home, rpc.RunFile)); err == nil {
		d.err = errors.New("an unclean end: its " + rpc.RunFile + " is still there")
	}
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
	logFile, err := os.OpenFile(filepath.Join(d.Home, LogFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close() // the process has its own handle
	cmd := exec.Command(d.net.Binary, args...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	// A session of its own: Ctrl-C reaches the caller, which stops the daemons in order, and those that are to outlive it do.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	_ = os.Remove(filepath.Join(d.Home, rpc.RunFile))
	if err := cmd.Start(); err != nil {
		return err
	}
	d.process, d.done, d.err = cmd.Process, make(chan struct{}), nil
	go func(done chan struct{}) { d.err = cmd.Wait(); close(done) }(d.done)
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
			return fmt.Errorf("%s stopped while starting (%v); the end of %s/%s:\n%s", d.Name, d.err, d.Home, LogFile, d.LogTail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready (%v); the end of %s/%s:\n%s", d.Name, err, d.Home, LogFile, d.LogTail())
		case <-time.After(pollEvery):
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
	if err := d.process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.done:
	case <-time.After(stopTimeout):
		_ = d.process.Kill()
		<-d.done
		return fmt.Errorf("%s did not stop within %s of %s", d.Name, stopTimeout, s)
	}
	if s == syscall.SIGTERM && d.err != nil {
		return fmt.Errorf("%s stopped with %w; the end of its log:\n%s", d.Name, d.err, d.LogTail())
	}
	return nil
}

// PID is the process's number, or that of the last one.
func (d *Node) PID() int {
	if d.process == nil {
		return 0
	}
	return d.process.Pid
}

// Running tells whether the process lives.
func (d *Node) Running() bool {
	if d.process == nil {
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
	b, err := os.ReadFile(filepath.Join(d.Home, LogFile))
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
