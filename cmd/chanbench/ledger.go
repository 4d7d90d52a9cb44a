package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// sizes are how large the ledgers of the figures are. The smoke test has smaller ones; the figures' names say the real ones.
type sizes struct {
	// senders pay at once; town is how many accounts there are besides the admin, all of which are paid.
	senders, town int
	// wires is how many accounts one send_many pays.
	wires int
	// million and tenMillion are the accounts of the figures with 1m and 10m in their names.
	million, tenMillion int
	// curve are the ledgers of block_cost.
	curve []int
}

// realSizes: as many senders as a busy node has in a few seconds, so that hardly two signatures of a batch are by one key.
var realSizes = sizes{senders: 4096, town: 100_000, wires: 1000, million: 1_000_000, tenMillion: 10_000_000,
	curve: []int{10_000, 100_000, 1_000_000, 10_000_000}}

// ledgerFigure is one figure, or several that come from one measurement.
type ledgerFigure struct {
	names   []string
	measure func(context.Context, *ledgerBench) error
}

// ledgerBench is a run of `chanbench ledger`.
type ledgerBench struct {
	*bench
	// wanted are the names that were asked for.
	wanted map[string]bool
	// town is the ledger of one validator under load, nil before it is needed. oneToOne is its rate, 0 before it was measured.
	town     *town
	oneToOne float64
}

// ledgerFigures is the order in which figures are measured and printed: what fills the machine's memory comes last.
func ledgerFigures(s sizes) []ledgerFigure {
	var curve []string
	for _, n := range s.curve {
		curve = append(curve, fmt.Sprintf("block_cost.%d.us", n))
	}
	return []ledgerFigure{
		{[]string{"one_to_one.per_s", "verify_limit.per_s"}, oneToOne},
		{[]string{"one_to_many.per_s"}, oneToMany},
		{[]string{"commit.p99_blocks"}, commitLatency},
		{[]string{"four_validators.per_s"}, fourValidators},
		{[]string{"restart_1m.s", "fresh_node_1m.s"}, million},
		{[]string{"rss_10m.gib"}, residentSet},
		{curve, blockCost},
	}
}

// loads are the figures for which a load runs for a share of --seconds.
const loads = 4

// ledgerRun measures the figures that were asked for.
func ledgerRun(ctx context.Context, b *bench) error {
	figures := ledgerFigures(b.sizes)
	l := &ledgerBench{bench: b, wanted: map[string]bool{}}
	var names []string
	for _, f := range figures {
		names = append(names, f.names...)
	}
	for _, name := range b.only {
		if !slices.Contains(names, name) {
			return fmt.Errorf("--only %q: the figures are %s", name, strings.Join(names, ", "))
		}
		l.wanted[name] = true
	}
	for _, name := range names {
		if len(b.only) == 0 {
			l.wanted[name] = true
		}
	}
	for _, f := range figures {
		if !slices.ContainsFunc(f.names, func(n string) bool { return l.wanted[n] }) {
			continue
		}
		b.say("%s (load average %s)", strings.Join(f.names, ", "), loadAverage())
		if err := f.measure(ctx, l); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(f.names, ", "), err)
		}
		runtime.GC() // the next figure is not charged for what this one leaves behind
	}
	b.rows = slices.DeleteFunc(b.rows, func(r row) bool { return !l.wanted[r.Name] })
	return nil
}

// loadAverage is how many processes wanted a core in the last minute: figures of a machine that does something else are low.
func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(b), " ")
	return one
}

// seconds is a duration as a figure.
func seconds(d time.Duration) float64 { return float64(d) / float64(time.Second) }
