package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

func TestMain(m *testing.M) {
	probeTime = 50 * time.Millisecond
	os.Exit(m.Run())
}

func TestLimits(t *testing.T) {
	l, err := measureLimits(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", l)
	// Orders of magnitude that any machine keeps; a probe that measures nothing falls out of them.
	if l.signVerify < 100 || l.signVerify > 1e7 || l.batchVerify < 100 || l.batchVerify > 1e8 {
		t.Errorf("signatures: %.0f, in batches %.0f a second", l.signVerify, l.batchVerify)
	}
	if l.signOnce < time.Microsecond || l.signOnce > 100*time.Millisecond || l.roundTrip < time.Microsecond || l.roundTrip > time.Second {
		t.Errorf("one signature %s, one round trip %s", l.signOnce, l.roundTrip)
	}
	if l.sync <= 0 || l.sync > 10*time.Second || l.bandwidth < 1e4 || l.trips < 10 {
		t.Errorf("flush %s, %.0f B/s, %.0f trips/s", l.sync, l.bandwidth, l.trips)
	}
}

func TestLimitsEndWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := measureLimits(ctx, t.TempDir()); err == nil {
		t.Error("no error from a cancelled run: its figures mean nothing")
	}
}

func TestRows(t *testing.T) {
	b := &bench{}
	b.rate("x.per_s", 50, least(limit{400, "loose"}, limit{200, "tight"}))
	b.cost("x.p50_ms", 4, "ms", limit{1, "one flush"})
	var out bytes.Buffer
	if err := writeJSON(&out, b.rows); err != nil {
		t.Fatal(err)
	}
	want := `{"name":"x.per_s","value":50,"unit":"1/s","limit":200,"ratio":0.25}
{"name":"x.p50_ms","value":4,"unit":"ms","limit":1,"ratio":0.25}
`
	if out.String() != want {
		t.Errorf("JSON:\n%swant\n%s", out.String(), want)
	}
	out.Reset()
	if err := writeTable(&out, b.rows); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], "ratio") || !strings.Contains(lines[1], "tight") || !strings.Contains(lines[2], "0.25") {
		t.Errorf("table:\n%s", out.String())
	}
	for in, want := range map[float64]float64{0: 0, 123456: 123500, 0.00012346: 0.0001235} {
		if got := round(in); got < want*0.99999 || got > want*1.00001 {
			t.Errorf("round(%v) = %v", in, got)
		}
	}
	empty := &bench{}
	empty.rate("none", 1, limit{})
	if _, err := json.Marshal(empty.rows[0]); err != nil {
		t.Errorf("a limit of 0: %v", err) // infinities are not JSON
	}
}

// An office that is busy now and then, for all or for some accounts, gets everything in each sender's order and nothing twice.
func TestSendWhenBusy(t *testing.T) {
	senders := make([]*sender, 10)
	for i := range senders {
		secret := types.SHA256([]byte{byte(i)})
		senders[i] = &sender{key: privateKey(secret), id: types.AccountID{Node: 1, User: uint32(i)}, msid: 1}
	}
	txs, err := signRounds(senders, 50, 0, payOne(1, 9))
	if err != nil {
		t.Fatal(err)
	}
	next := map[uint32]uint32{}
	calls := 0
	office := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		w.Header().Set("Content-Type", "application/json")
		if calls == 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			json.NewEncoder(w).Encode(escd.Problem{Code: "busy", Message: "m", Next: "n"})
			return
		}
		body, _ := io.ReadAll(r.Body)
		answer := escd.SubmitAnswer{Refused: []escd.Refused{}, Promises: []escd.Promise{{}}}
		for i := 0; len(body) > 0; i++ {
			n := binary.BigEndian.Uint32(body)
			tx, err := ledger.DecodeTx(body[4 : 4+n])
			body = body[4+n:]
			switch {
			case err != nil:
				t.Error(err)
			case calls == 3 && tx.From.User%2 == 1:
				answer.Refused = append(answer.Refused, escd.Refused{Index: i, LedgerCode: ledger.CodeBusy, Message: "full"})
				continue
			case tx.Msid != next[tx.From.User]+1:
				t.Errorf("request %d: number %d of %s after %d", calls, tx.Msid, tx.From, next[tx.From.User])
			}
			next[tx.From.User]++
			answer.Accepted++
			answer.Promises[0].Count++
		}
		json.NewEncoder(w).Encode(answer)
	}))
	defer office.Close()
	l := lane{office: escd.NewClient(strings.TrimPrefix(office.URL, "http://")), txs: txs}
	defer l.office.Close()
	if err := l.send(t.Context(), time.Now(), time.Now().Add(time.Hour), 60, 0); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, row := range l.taken {
		total += len(row.txs)
	}
	for _, s := range senders {
		if s.msid != 51 || next[s.id.User] != 50 {
			t.Errorf("%s stands at %d, its office at %d", s.id, s.msid, next[s.id.User])
		}
	}
	if total != len(txs) {
		t.Errorf("%d of %d accepted", total, len(txs))
	}
}

// Latency and rate of a load of which everything is known: 100 transactions are due each tenth of a second, and blocks come every second.
func TestCount(t *testing.T) {
	start := time.Unix(1000, 0)
	f := &traffic{start: start, took: 4 * time.Second}
	var l lane
	for i := range 40 {
		due := start.Add(time.Duration(i) * 100 * time.Millisecond)
		l.taken = append(l.taken, taken{due: due, Promise: escd.Promise{Count: 100, Place: ledger.Place{Node: 1, Msid: uint32(i/10 + 1), Position: uint32(i%10*100 + 1)}}})
		f.total += 100
	}
	slices.Reverse(l.taken)
	f.lanes = []lane{l}
	for i := range 5 {
		b := seenBlock{escd.BlockCount{Height: types.Height(i)}, start.Add(time.Duration(i)*time.Second - time.Millisecond)}
		if i > 0 {
			b.Executed = 1000
		}
		f.blocks = append(f.blocks, b)
	}
	if err := f.count(); err != nil || f.rate != 1000 {
		t.Errorf("%v a second, %v", f.rate, err)
	}
	for share, want := range map[float64]time.Duration{0: 99 * time.Millisecond, 0.5: 599 * time.Millisecond, 0.99: 999 * time.Millisecond, 1: 999 * time.Millisecond} {
		if got, err := f.latency(share); err != nil || got != want {
			t.Errorf("%v of all within %s, %v; want %s", share, got, err, want)
		}
	}
	f.blocks = f.blocks[:3]
	if _, err := f.latency(1); err == nil {
		t.Error("transactions in no block have a latency")
	}
}

// Every figure of the ledger from real daemons, on ledgers that are small.
func TestLedgerFigures(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a dozen daemons")
	}
	var out, progress bytes.Buffer
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	cmd.SetOut(&out)
	cmd.SetErr(&progress)
	o := options{seconds: 2, json: true, dir: t.TempDir(), blockTime: 200 * time.Millisecond, profiles: t.TempDir(),
		sizes: sizes{senders: 64, town: 2000, wires: 100, million: 3000, tenMillion: 4000, curve: []int{1000, 5000}}}
	if err := run(cmd, o, ledgerRun); err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	t.Log(out.String())
	got := map[string]row{}
	for d := json.NewDecoder(&out); d.More(); {
		var r row
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		got[r.Name] = r
		if r.Value <= 0 || r.Limit <= 0 || r.Ratio <= 0 {
			t.Errorf("%+v", r)
		}
	}
	for _, f := range ledgerFigures(o.sizes) {
		for _, name := range f.names {
			if _, ok := got[name]; !ok {
				t.Errorf("%s is missing", name)
			}
		}
	}
	for _, name := range []string{"one_to_one.pprof", "one_to_many.pprof"} {
		if info, err := os.Stat(filepath.Join(o.profiles, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A figure that does not exist is refused before anything is started.
func TestOnly(t *testing.T) {
	b := &bench{options: options{only: []string{"one_to_none.per_s"}, sizes: realSizes}}
	if err := ledgerRun(t.Context(), b); err == nil || !strings.Contains(err.Error(), "block_cost.10000000.us") {
		t.Errorf("%v", err)
	}
}

// Path finding is measured on a network that is the same at every run, in which most payments find a way.
func TestRoutes(t *testing.T) {
	b := &bench{options: options{seconds: 1}, say: t.Logf}
	if err := routes(t.Context(), b, 300, 1200); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range b.rows {
		if names = append(names, r.Name); r.Value <= 0 || r.Limit <= 0 {
			t.Errorf("%+v", r)
		}
	}
	if want := "route.p50_ms route.p99_ms route.flow_p50_ms route.flow_p99_ms route.channel_bytes"; strings.Join(names, " ") != want {
		t.Errorf("figures %v, want %s", names, want)
	}
	one, err := madeNetwork(50, 200)
	if err != nil {
		t.Fatal(err)
	}
	two, _ := madeNetwork(50, 200)
	for i, m := range one.graph.Channels(types.ChannelID{}, 1000) {
		if !bytes.Equal(m.Encode(), two.graph.Channels(types.ChannelID{}, 1000)[i].Encode()) {
			t.Fatal("two networks differ")
		}
	}
}

// Every figure of payments and of openings from real daemons, with profiles of those on the way.
func TestPaymentFigures(t *testing.T) {
	if testing.Short() {
		t.Skip("starts seven daemons")
	}
	profiles := t.TempDir()
	got := map[string]row{}
	for _, measure := range []func(context.Context, *bench) error{payments, openings} {
		var out, progress bytes.Buffer
		cmd := &cobra.Command{}
		cmd.SetContext(t.Context())
		cmd.SetOut(&out)
		cmd.SetErr(&progress)
		o := options{seconds: 7, json: true, dir: t.TempDir(), blockTime: 200 * time.Millisecond, profiles: profiles}
		if err := run(cmd, o, measure); err != nil {
			t.Fatalf("%v\n%s", err, progress.String())
		}
		t.Log(out.String())
		for d := json.NewDecoder(&out); d.More(); {
			var r row
			if err := d.Decode(&r); err != nil {
				t.Fatal(err)
			}
			got[r.Name] = r
		}
	}
	for _, name := range []string{"direct.seq.p50_ms", "direct.seq.cpu_us", "direct.c50.per_s", "direct.c50.cpu_us", "direct.unary.c50.per_s", "direct.unary.c50.cpu_us",
		"sender.bytes_per_payment", "sender.syncs_per_payment", "hop.seq.p50_ms", "hop.seq.cpu_us", "hop.c50.per_s", "hop.c50.cpu_us", "hop.unary.c50.per_s",
		"hop.unary.c50.cpu_us", "stream.per_s", "stream.cpu_us", "open.seq.p50_ms", "open.c10.per_s"} {
		if r, ok := got[name]; !ok || r.Value <= 0 || r.Limit <= 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for _, name := range []string{"direct.seq.alice", "hop.c50.carol", "stream.bob"} {
		if info, err := os.Stat(filepath.Join(profiles, name+".pprof")); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
