package ledger

import (
	"fmt"
	"testing"

	"github.com/eschaton-network/chand/types"
)

// BenchmarkBlock executes blocks of 2,000 send_one by 16 accounts on a ledger of 20,000, rehashing included. The metric
// that limits it is one signature verification a transaction.
func BenchmarkBlock(b *testing.B) {
	const txs = 2000
	w := newWorld(b, 1)
	for i := range 16 {
		w.user(fmt.Sprint("user ", i), 1, 10_000*coin)
	}
	for range 20_000 {
		id := types.AccountID{Node: 1, User: uint32(w.s.Accounts(1))}
		w.s.addAccount(id, [32]byte{}, 0)
	}
	for _, checked := range []bool{false, true} {
		name := "unseen"
		if checked {
			name = "checked before"
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				var block [][]byte
				for i := range txs {
					from := types.AccountID{Node: 1, User: uint32(1 + i%16)}
					to := types.AccountID{Node: 1, User: uint32(20 + i*7%19_000)}
					block = append(block, w.sign(from, SendOne{To: to, Amount: 1}))
				}
				for _, raw := range block {
					if checked {
						if err := w.s.Check(raw); err != nil {
							b.Fatal(err)
						}
					}
				}
				b.StartTimer()
				out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, direct(block))
				w.s.Root()
				b.StopTimer()
				clear(w.ahead)
				for _, d := range out.Results {
					if d.Code != CodeOK {
						b.Fatal(d.Text)
					}
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(txs)*float64(b.N)/b.Elapsed().Seconds(), "tx/s")
		})
	}
}

// BenchmarkVerify is the limit of BenchmarkBlock: one signature, alone.
func BenchmarkVerify(b *testing.B) {
	secret := secretOf("x")
	c := sigCheck{PublicKey(secret), make([]byte, 93), signBytes(secret, make([]byte, 93))}
	for b.Loop() {
		if !c.verify() {
			b.Fatal("does not hold")
		}
	}
}
