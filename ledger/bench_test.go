package ledger

import (
	"fmt"
	"testing"
	"time"

	"github.com/eschaton-network/chand/types"
)

// benchWorld is a node with so many accounts, the first `rich` of which (after the admin) have money and known keys.
func benchWorld(b *testing.B, rich, accounts int) *world {
	b.Helper()
	w := newWorld(b, 1)
	w.s.SetWorkers(allCores())
	add := func(n int, each types.Amount, key func(i int) [32]byte) {
		if err := w.s.Populate(n, each, key, w.s.workers); err != nil {
			b.Fatal(err)
		}
	}
	add(rich, 10_000*coin, func(i int) [32]byte {
		secret := secretOf(fmt.Sprint("user ", i))
		w.secrets[types.AccountID{Node: 1, User: uint32(1 + i)}] = secret
		return PublicKey(secret)
	})
	add(accounts-rich-1, 0, func(i int) [32]byte { return [32]byte{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24), 1} })
	w.s.Root()
	return w
}

// transfers are n signed send_one by the rich accounts in turn, to accounts all over the node.
func (w *world) transfers(n, rich, accounts int) [][]byte {
	raws := make([][]byte, n)
	for i := range raws {
		from := types.AccountID{Node: 1, User: uint32(1 + i%rich)}
		to := types.AccountID{Node: 1, User: uint32(uint64(i+1) * 2654435761 % uint64(accounts))}
		raws[i] = w.sign(from, SendOne{To: to, Amount: 1})
	}
	return raws
}

// stopwatch adds up the CPU time of the stages of a benchmark.
type stopwatch struct {
	last time.Duration
	sums map[string]time.Duration
	keys []string
}

func newStopwatch() *stopwatch { return &stopwatch{sums: map[string]time.Duration{}} }

func (s *stopwatch) start() { s.last = cpuTime() }

func (s *stopwatch) lap(stage string) {
	now := cpuTime()
	if _, ok := s.sums[stage]; !ok {
		s.keys = append(s.keys, stage)
	}
	s.sums[stage] += now - s.last
	s.last = now
}

func (s *stopwatch) report(b *testing.B, n int, what string) {
	var total time.Duration
	for _, k := range s.keys {
		total += s.sums[k]
		b.ReportMetric(float64(s.sums[k].Nanoseconds())/1000/float64(b.N*n), k+"-us")
	}
	b.ReportMetric(float64(total.Nanoseconds())/1000/float64(b.N*n), "cpu-us/"+what)
	b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), what+"/s")
}

// through passes transactions through a pool, messages and a block, and wants all of them executed.
func through(b *testing.B, w *world, p *Pool, raws [][]byte, size int, watch *stopwatch) {
	watch.start()
	for at := 0; at < len(raws); at += size {
		batch := DecodeBatch(raws[at:min(at+size, len(raws))], w.s.workers)
		watch.lap("decode")
		p.Prepare(batch)
		watch.lap("prepare")
		batch.Verify(w.s.workers)
		watch.lap("verify")
		p.Admit(batch)
		watch.lap("admit")
	}
	var block [][]byte
	for {
		sent, err := p.Cut(nodeSecret(1), w.s.Time())
		if err != nil {
			b.Fatal(err)
		}
		if sent == nil {
			break
		}
		block = append(block, sent.Raw)
	}
	watch.lap("cut")
	out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, block)
	watch.lap("apply")
	w.s.Root()
	watch.lap("root")
	if err := p.Applied(); err != nil {
		b.Fatal(err)
	}
	watch.lap("rebase")
	if len(out.Results) != len(raws) {
		b.Fatalf("%d of %d executed", len(out.Results), len(raws))
	}
	for i := range out.Results {
		if d := &out.Results[i]; d.Code != CodeOK {
			b.Fatal(d.Text)
		}
	}
}

// BenchmarkOffice takes signed send_one from their bytes to the state root after their block: admitted in batches, signed into messages,
// applied, hashed.
func BenchmarkOffice(b *testing.B) {
	const txs, accounts = 32_768, 100_000
	for _, rich := range []int{16, 1000, 8192} {
		b.Run(fmt.Sprintf("senders=%d", rich), func(b *testing.B) {
			w := benchWorld(b, rich, accounts)
			p, err := NewPool(w.s, 1)
			if err != nil {
				b.Fatal(err)
			}
			watch := newStopwatch()
			for b.Loop() {
				b.StopTimer()
				raws := w.transfers(txs, rich, accounts)
				b.StartTimer()
				through(b, w, p, raws, 8192, watch)
			}
			watch.report(b, txs, "tx")
		})
	}
}

// BenchmarkReplay applies blocks of messages that were not seen before, as when a node catches up.
func BenchmarkReplay(b *testing.B) {
	const txs, rich, accounts = 32_768, 1000, 100_000
	w := benchWorld(b, rich, accounts)
	watch := newStopwatch()
	for b.Loop() {
		b.StopTimer()
		raws := w.transfers(txs, rich, accounts)
		n := w.s.node(1)
		msid, root := n.Msid, n.MessageHash
		var block [][]byte
		for at := 0; at < txs; at += 8192 {
			m := NodeMessage{Node: 1, Msid: msid + 1, Time: w.s.Time(), Txs: raws[at : at+8192]}
			m.Sign(nodeSecret(1), root)
			raw, err := m.Encode()
			if err != nil {
				b.Fatal(err)
			}
			block, msid, root = append(block, raw), m.Msid, m.Root()
		}
		b.StartTimer()
		watch.start()
		out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, block)
		watch.lap("apply")
		w.s.Root()
		watch.lap("root")
		for i := range out.Results {
			if d := &out.Results[i]; d.Code != CodeOK {
				b.Fatal(d.Text)
			}
		}
	}
	watch.report(b, txs, "tx")
}

// BenchmarkMany takes send_many of 1,000 transfers each from their bytes to the state root.
func BenchmarkMany(b *testing.B) {
	const txs, wires, rich, accounts = 256, 1000, 16, 100_000
	w := benchWorld(b, rich, accounts)
	p, err := NewPool(w.s, 1)
	if err != nil {
		b.Fatal(err)
	}
	watch := newStopwatch()
	at := uint64(0)
	for b.Loop() {
		b.StopTimer()
		raws := make([][]byte, txs)
		for i := range raws {
			many := SendMany{make([]Wire, wires)}
			for k := range many.Wires {
				at++
				many.Wires[k] = Wire{To: types.AccountID{Node: 1, User: uint32(at * 7919 % accounts)}, Amount: 1}
			}
			raws[i] = w.sign(types.AccountID{Node: 1, User: uint32(1 + i%rich)}, many)
		}
		b.StartTimer()
		through(b, w, p, raws, 64, watch)
	}
	watch.report(b, txs*wires, "transfer")
}

// BenchmarkAccounts applies blocks of 10,000 transfers on ledgers of very different size: the cost of a block must not depend on it.
func BenchmarkAccounts(b *testing.B) {
	const txs, rich = 10_000, 100
	for _, accounts := range []int{10_000, 100_000, 1_000_000, 10_000_000} {
		if testing.Short() && accounts > 1_000_000 {
			continue
		}
		b.Run(fmt.Sprint(accounts), func(b *testing.B) {
			w := benchWorld(b, rich, accounts)
			p, err := NewPool(w.s, 1)
			if err != nil {
				b.Fatal(err)
			}
			watch := newStopwatch()
			for b.Loop() {
				b.StopTimer()
				raws := w.transfers(txs, rich, accounts)
				b.StartTimer()
				through(b, w, p, raws, 10_000, watch)
			}
			watch.report(b, txs, "tx")
		})
	}
}

// BenchmarkVerify is one signature, alone.
func BenchmarkVerify(b *testing.B) {
	secret := secretOf("x")
	c := sigCheck{PublicKey(secret), make([]byte, 93), signBytes(secret, make([]byte, 93))}
	for b.Loop() {
		if !c.verify() {
			b.Fatal("does not hold")
		}
	}
}
