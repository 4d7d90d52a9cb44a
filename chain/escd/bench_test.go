package escd

import (
	"fmt"
	"testing"

	"github.com/eschaton-network/chand/types"
)

// BenchmarkOffice sends presigned send_one from 50 accounts over the office's batch request until all are in blocks.
func BenchmarkOffice(b *testing.B) {
	conf := testConfig(b, b.TempDir(), "bench")
	conf.BlockMillis = 200
	n := start(b, conf)
	c := NewClient(n.OfficeAddr())
	defer c.Close()
	const accounts, batch = 50, 1000
	batches := make([][][]byte, 0, b.N/batch+accounts)
	each := b.N/accounts + 1
	for i := range accounts {
		name := fmt.Sprint("user ", i)
		id := openAccount(b, n, name)
		result(b, n, submit(b, n, sendOne(b, n, admin, conf.AccountSecret, id, types.Coin)))
		a, err := n.Account(id)
		if err != nil {
			b.Fatal(err)
		}
		var txs [][]byte
		for k, prev := uint32(0), a.Hash; int(k) < each; k++ {
			var raw []byte
			raw, prev = signSend(b, secret("account "+name), a.Msid+k, prev, id, admin, 1)
			txs = append(txs, raw)
			if len(txs) == batch || int(k) == each-1 {
				batches, txs = append(batches, txs), nil
			}
		}
	}
	from, _ := n.Head()
	b.ResetTimer()
	for _, txs := range batches {
		for len(txs) > 0 {
			res, err := c.SubmitMany(bounded(b), txs)
			if err != nil {
				b.Fatal(err)
			}
			if txs = txs[res.Accepted:]; len(txs) > 0 { // refused for being busy: after the next block
				_, next := n.app.wait()
				<-next
			}
		}
	}
	done := uint32(0)
	await(b, n, "all", func() bool {
		head, _ := n.Head()
		counts, err := n.Counts(from.Height+1, head.Height)
		if err != nil {
			b.Fatal(err)
		}
		done = 0
		for _, k := range counts {
			if done += k.Executed; k.Refused > 0 {
				b.Fatalf("%+v", k)
			}
		}
		return int(done) >= accounts*each
	})
	b.ReportMetric(float64(done)/b.Elapsed().Seconds(), "tx/s")
}
