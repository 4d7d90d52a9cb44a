package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/ledger"
)

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
	b.millis("x.p50_ms", 4, limit{1, "one flush"})
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

// A ledger that is busy now and then gets everything in order and nothing twice.
func TestSubmitWhenBusy(t *testing.T) {
	var got []byte
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
		answer := escd.SubmitAnswer{Refused: []escd.Refused{}}
		for len(body) > 0 {
			n := binary.BigEndian.Uint32(body)
			answer.Tried++
			if answer.Accepted == 700 {
				answer.Refused = append(answer.Refused, escd.Refused{Index: 700, LedgerCode: ledger.CodeBusy, Message: "full"})
				break
			}
			got = append(got, body[4:4+n]...)
			answer.Accepted++
			body = body[4+n:]
		}
		json.NewEncoder(w).Encode(answer)
	}))
	defer office.Close()
	town := &town{office: escd.NewClient(strings.TrimPrefix(office.URL, "http://"))}
	defer town.office.Close()
	var txs [][]byte
	var want []byte
	for i := range 2500 {
		tx := binary.BigEndian.AppendUint32(nil, uint32(i))
		txs, want = append(txs, tx), append(want, tx...)
	}
	n, err := town.submit(t.Context(), txs, time.Time{})
	if err != nil || n != len(txs) || !bytes.Equal(got, want) {
		t.Errorf("%d accepted of %d, %v; in order: %v", n, len(txs), err, bytes.Equal(got, want))
	}
}
