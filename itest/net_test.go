package itest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/internal/devnet"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

// validators is a ledger that `chand net` runs, as its user sees it.
type validators struct {
	*network
	names []string
	// compared is the height up to which the nodes have been found to agree.
	compared types.Height
}

// nodeStatus is what is used of an entry of `chand net status --json`.
type nodeStatus struct {
	Name, Home, Office string
	PID                int
	Height             types.Height
	Fresh              bool
}

func newValidators(t *testing.T) *validators {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out the tests with real processes")
	}
	v := &validators{network: &network{Net: &devnet.Net{Dir: filepath.Join(t.TempDir(), "net"), Binary: program}, t: t}}
	t.Cleanup(func() {
		v.command("down")
		for _, s := range v.status() {
			if s.PID != 0 {
				t.Errorf("%s runs on after down", s.Name)
			}
		}
		v.wantNoPanic()
		if t.Failed() {
			v.keepLogs()
		}
	})
	v.command("up", "--validators", "4", "--block-time", "250ms", "--", "--log-level", "debug")
	for _, s := range v.status() {
		v.names = append(v.names, s.Name)
	}
	if want := []string{"node1", "node2", "node3", "node4"}; !slices.Equal(v.names, want) {
		t.Fatalf("nodes %q, want %q", v.names, want)
	}
	return v
}

// command runs `chand net` and wants it to succeed.
func (v *validators) command(args ...string) string {
	v.t.Helper()
	began := time.Now()
	out, err := v.try(args...)
	if args[0] != "status" {
		v.t.Logf("chand net %s: %s", strings.Join(args, " "), time.Since(began).Round(time.Millisecond))
	}
	if err != nil {
		v.t.Fatalf("chand net %q: %v\n%s", args, err, out)
	}
	return out
}

func (v *validators) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	args = slices.Insert(append([]string{"net"}, args...), 2, "--dir", v.Dir)
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	return string(out), err
}

func (v *validators) status() (all []nodeStatus) {
	v.t.Helper()
	out := v.command("status", "--json")
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		v.t.Fatalf("%v in %s", err, out)
	}
	return all
}

// heights are those of the nodes that run.
func (v *validators) heights() map[string]types.Height {
	h := map[string]types.Height{}
	for _, s := range v.status() {
		if s.PID != 0 {
			h[s.Name] = s.Height
		}
	}
	return h
}

// grows waits until every one of the nodes has some blocks more than the highest had before.
func (v *validators) grows(blocks types.Height, names ...string) {
	v.t.Helper()
	var top types.Height
	for _, h := range v.heights() {
		top = max(top, h)
	}
	began := time.Now()
	defer func() { v.t.Logf("%d blocks beyond %d: %s", blocks, top, time.Since(began).Round(time.Millisecond)) }()
	v.until(fmt.Sprintf("%q are %d blocks beyond %d", names, blocks, top), func() bool {
		now := v.heights()
		return !slices.ContainsFunc(names, func(n string) bool { return now[n] < top+blocks })
	})
}

// agree fetches each block's signed header from every node that runs, and wants the same hash and the same state root everywhere.
func (v *validators) agree() {
	v.t.Helper()
	trust := v.trust()
	all := v.status()
	common := types.Height(1 << 30)
	for _, s := range all {
		if s.PID != 0 {
			common = min(common, s.Height)
		}
	}
	var first string
	headers := map[types.Height]light.Header{}
	for _, s := range all {
		if s.PID == 0 {
			continue
		}
		for h := v.compared + 1; h <= common; h++ {
			got, err := header(s.Office, trust, h)
			if err != nil {
				v.t.Fatalf("%s, block %d: %v", s.Name, h, err)
			}
			if was, ok := headers[h]; !ok {
				headers[h], first = got, s.Name
			} else if got.Hash != was.Hash || got.AppHash != was.AppHash {
				v.t.Fatalf("FORK at block %d: %s has %s with state root %s, %s has %s with %s", h, first, was.Hash, was.AppHash, s.Name, got.Hash, got.AppHash)
			}
		}
	}
	v.compared = common
}

func (v *validators) trust() light.Trust {
	v.t.Helper()
	return must(light.ParseGenesis(must(os.ReadFile(filepath.Join(v.Dir, "genesis.json")))))
}

func header(office string, trust light.Trust, h types.Height) (light.Header, error) {
	res, err := http.Get(fmt.Sprintf("http://%s/v1/blocks/%d/bundle", office, h))
	if err != nil {
		return light.Header{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return light.Header{}, fmt.Errorf("%s: %.300s, %v", res.Status, b, err)
	}
	got, err := trust.Verify(light.Chain{b})
	if err == nil && got.Height != h {
		err = fmt.Errorf("it is of block %d", got.Height)
	}
	return got, err
}

func (v *validators) wantNoPanic() {
	v.t.Helper()
	for _, name := range v.names {
		b := must(os.ReadFile(filepath.Join(v.Dir, name, devnet.LogFile)))
		for _, bad := range []string{"panic", "CONSENSUS FAILURE", "fatal error"} {
			if i := bytes.Index(b, []byte(bad)); i >= 0 {
				v.t.Errorf("%s's log: %s", name, b[max(0, i-300):min(len(b), i+1500)])
			}
		}
	}
}

// traffic has every node's account send to the next node's, one payment after the other, until stop. A node that is down
// is asked again.
func (v *validators) traffic() (confirmed *atomic.Int64, stop func()) {
	ctx, cancel := context.WithCancel(v.t.Context())
	confirmed = new(atomic.Int64)
	var wg sync.WaitGroup
	for i := range v.names {
		wg.Go(func() {
			to := types.AccountID{Node: uint16((i+1)%len(v.names) + 1)}.String()
			for k := 0; ctx.Err() == nil; k++ {
				for ctx.Err() == nil && !v.send(ctx, v.names[i], to, fmt.Sprint("payment ", k)) {
					select {
					case <-ctx.Done():
					case <-time.After(100 * time.Millisecond): // a pause between tries, not a synchronisation
					}
				}
				if ctx.Err() == nil {
					confirmed.Add(1)
				}
			}
		})
	}
	return confirmed, func() { cancel(); wg.Wait() }
}

func (v *validators) send(ctx context.Context, from, to, key string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	d, err := v.Attach(ctx, from)
	if d == nil || err != nil {
		return false
	}
	defer d.Client.Close()
	r, err := d.Account.Send(ctx, &chandv1.SendRequest{To: to, Amount: "0.5", IdempotencyKey: key})
	return err == nil && r.State == "confirmed"
}

// more waits until some more payments are confirmed.
func (v *validators) more(confirmed *atomic.Int64, payments int64) {
	v.t.Helper()
	began := time.Now()
	defer func() { v.t.Logf("%d payments more: %s", payments, time.Since(began).Round(time.Millisecond)) }()
	want := confirmed.Load() + payments
	v.until(fmt.Sprintf("%d more payments are confirmed", payments), func() bool { return confirmed.Load() >= want })
}

// TestValidators: four validators agree on every block while payments flow. One of them may be down; with two down no block
// is made, and when they are back the ledger goes on where it was, without a fork.
func TestValidators(t *testing.T) {
	v := newValidators(t)
	confirmed, stop := v.traffic()
	defer stop()
	v.more(confirmed, 8)
	v.agree()

	v.command("stop", "node2")
	v.more(confirmed, 3)
	v.grows(6, "node1", "node3", "node4") // each of the three has proposed since
	v.agree()

	v.command("kill", "node3")
	v.halted("node1", "node4")
	if out, err := v.try("start", "node2", "node9"); err == nil || !strings.Contains(out, `no node "node9"`) {
		t.Errorf("a node that is not there: %v, %s", err, out)
	}
	v.command("start", "node2", "node3")
	v.grows(4, v.names...)
	v.more(confirmed, 8)
	v.agree()
	stop()
	v.supply()
}

// halted waits until the nodes say themselves that they have no fresh view, which takes several block times without a block, and
// wants that no block came while they were asked.
func (v *validators) halted(names ...string) {
	v.t.Helper()
	var at types.Height
	v.until(fmt.Sprintf("%q have halted", names), func() bool {
		stale, top := true, types.Height(0)
		for _, s := range v.status() {
			if slices.Contains(names, s.Name) {
				stale, top = stale && !s.Fresh, max(top, s.Height)
			}
		}
		same := top == at
		at = top
		return stale && same
	})
}

// supply wants that what the accounts hold and the pool make up all the money there is, on each node alike, to the unit.
func (v *validators) supply() {
	v.t.Helper()
	v.grows(2, v.names...) // what was under way is in a block
	v.until("all nodes have the same balances", func() bool {
		var first string
		for _, name := range v.names {
			d := must(v.Attach(v.ctx(), name))
			defer d.Client.Close()
			var sum types.Amount
			text := ""
			for i := range v.names {
				a := must(d.Account.Get(v.ctx(), &chandv1.GetAccountRequest{Address: types.AccountID{Node: uint16(i + 1)}.String()}))
				sum += coins(a.Balance)
				text += a.Balance + " "
			}
			pool := coins(must(d.Status.Get(v.ctx(), &chandv1.GetStatusRequest{})).Ledger.FeePool)
			if first == "" {
				first = text
			}
			if text != first || sum+pool != types.MaxAmount { // a block may lie between two answers
				return false
			}
		}
		return true
	})
}

// TestValidatorsAreKilled kills and restarts validators at random while payments flow, also several at a time, and stops some
// cleanly as their own parent, which sees how they end.
func TestValidatorsAreKilled(t *testing.T) {
	v := newValidators(t)
	confirmed, stop := v.traffic()
	defer stop()
	random := rand.New(rand.NewPCG(4, 2))
	for range 5 {
		v.more(confirmed, 3)
		down := random.Perm(len(v.names))[:1+random.IntN(3)]
		var args []string
		for _, i := range down {
			args = append(args, v.names[i])
		}
		v.command(append([]string{"kill"}, args...)...)
		v.command(append([]string{"start"}, args...)...)
		v.grows(1, v.names...)
		v.agree()
	}
	// Now as children of this process: each must end with code 0 though its peers are there and busy, which Close and Stop want.
	v.command("stop", v.names[0], v.names[1])
	var children []*devnet.Node
	for _, name := range v.names[:2] {
		d, err := v.Start(v.ctx(), name)
		if err != nil {
			t.Fatal(err)
		}
		children = append(children, d)
	}
	for range 2 {
		v.more(confirmed, 2)
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		var g errgroup.Group
		for _, d := range children {
			g.Go(func() error { return d.Restart(v.ctx()) })
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	v.grows(2, v.names...)
	v.agree()
	stop()
	v.supply()
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}
