package escd

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// officeLoad is presigned load: lists of batches, one a connection. The order within a list matters, that between them does not.
type officeLoad [][][][]byte

// presign signs total transactions of n's planted accounts, in turns, and spreads the accounts over connections.
func presign(b *testing.B, n *Node, accounts, total, connections, batch int, body func(i int) ledger.Body) officeLoad {
	type chain struct {
		key  [32]byte
		msid uint32
		hash types.Hash
	}
	head, _ := n.app.wait()
	load := make(officeLoad, connections)
	var wg sync.WaitGroup
	for c := range connections {
		wg.Go(func() {
			chains := map[int]*chain{}
			var txs [][]byte
			for i := c; i < total; i += connections {
				user := i % accounts
				id := types.AccountID{Node: 1, User: uint32(user + 1)}
				h := chains[user]
				if h == nil {
					a, err := n.Account(id)
					if err != nil {
						b.Error(err)
						return
					}
					h = &chain{accountSecret(user), a.Msid, a.Hash}
					chains[user] = h
				}
				raw, next, err := ledger.Sign(h.key, h.hash, ledger.Head{From: id, Msid: h.msid, Time: head.Time}, body(i))
				if err != nil {
					b.Error(err)
					return
				}
				h.msid, h.hash = h.msid+1, next
				if txs = append(txs, raw); len(txs) == batch {
					load[c], txs = append(load[c], txs), nil
				}
			}
			if len(txs) > 0 {
				load[c] = append(load[c], txs)
			}
		})
	}
	wg.Wait()
	return load
}

// send posts the load over keep-alive connections; what finds no room is posted again after the next block.
func (l officeLoad) send(b *testing.B, n *Node) {
	var wg sync.WaitGroup
	for _, batches := range l {
		wg.Go(func() {
			c := NewClient(n.OfficeAddr())
			defer c.Close()
			for _, txs := range batches {
				for len(txs) > 0 {
					_, next := n.app.wait()
					res, err := c.SubmitMany(b.Context(), txs)
					if err != nil {
						b.Error(err)
						return
					}
					var again [][]byte
					for _, r := range res.Refused {
						if r.LedgerCode != ledger.CodeBusy {
							b.Errorf("%+v", r)
							return
						}
						again = append(again, txs[r.Index])
					}
					if txs = again; len(txs) > 0 {
						<-next
					}
				}
			}
		})
	}
	wg.Wait()
}

func benchOffice(b *testing.B, accounts, connections, batch int, body func(i int) ledger.Body) (perSecond float64) {
	conf := testConfig(b, b.TempDir(), "bench")
	s, err := ledger.NewState(ledger.Genesis{ChainID: "bench", Time: types.Time(time.Now().Unix() - 60), BlockMillis: 500,
		Nodes: []ledger.GenesisNode{{PublicKey: ledger.PublicKey(conf.LedgerNodeSecret), Account0: ledger.PublicKey(conf.AccountSecret)}}})
	if err != nil {
		b.Fatal(err)
	}
	s.Apply(1, s.Time(), nil)
	if err := s.Populate(20_000, 10*types.Coin, func(i int) [32]byte { return ledger.PublicKey(accountSecret(i)) }, parallel); err != nil {
		b.Fatal(err)
	}
	if err := Plant(conf, s); err != nil {
		b.Fatal(err)
	}
	n := start(b, conf)
	awaitFresh(b, n)
	load := presign(b, n, accounts, b.N, connections, batch, body)
	from, _ := n.Head()
	b.ResetTimer()
	load.send(b, n)
	executed := 0
	for executed < b.N && !b.Failed() {
		head, next := n.app.wait()
		counts, err := n.Counts(from.Height+1, head.Height)
		if err != nil {
			b.Fatal(err)
		}
		executed = 0
		for _, k := range counts {
			if executed += int(k.Executed); k.Refused > 0 {
				b.Fatalf("%+v", k)
			}
		}
		if executed < b.N {
			<-next
		}
	}
	b.StopTimer()
	return float64(executed) / b.Elapsed().Seconds()
}

// BenchmarkOffice sends presigned send_one from 16,000 accounts, in batches over 8 connections, until all are in blocks. The load
// runs on the same cores.
func BenchmarkOffice(b *testing.B) {
	rnd := rand.New(rand.NewPCG(1, 1))
	to := make([]types.AccountID, 1<<12)
	for i := range to {
		to[i] = types.AccountID{Node: 1, User: uint32(1 + rnd.IntN(20_000-1))}
	}
	rate := benchOffice(b, 16_000, 8, 1000, func(i int) ledger.Body { return ledger.SendOne{To: to[i%len(to)], Amount: 1} })
	b.ReportMetric(rate, "tx/s")
}

// BenchmarkOfficeMany sends send_many with 1,000 targets each.
func BenchmarkOfficeMany(b *testing.B) {
	rate := benchOffice(b, 16_000, 4, 64, func(i int) ledger.Body {
		s := ledger.SendMany{Wires: make([]ledger.Wire, 1000)}
		for k := range s.Wires {
			s.Wires[k] = ledger.Wire{To: types.AccountID{Node: 1, User: uint32(1 + (i*7+k)%19_000)}, Amount: 1}
		}
		return s
	})
	b.ReportMetric(1000*rate, "transfers/s")
}
