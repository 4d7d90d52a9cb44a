package chand

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/types"
)

// A restored old backup loses nothing: both sides agree on the newest state in a new epoch, and the channel goes on.
func TestRestoredBackup(t *testing.T) {
	inWorld(t, []string{"alice", "bob"}, func(w *world) {
		alice, bob := w.nodes["alice"], w.nodes["bob"]
		id := w.open("alice", "bob", 100*types.Coin, 50*types.Coin)
		alice.pay(bob.invoice(5*types.Coin), PaymentSucceeded)
		alice.stop()
		backup := map[string]map[string][]byte{}
		for _, bucket := range []string{bucketChannel, bucketChanInfo, bucketOutbox, bucketReceipt, bucketOutgoing, bucketIncoming} {
			backup[bucket] = map[string][]byte{}
			err := alice.store.Scan(bucket, "", func(k string, v []byte) error { backup[bucket][k] = append([]byte(nil), v...); return nil })
			if err != nil {
				t.Fatal(err)
			}
		}
		alice.start()
		w.until("ready", func() bool { return alice.ready(id) && bob.ready(id) })
		alice.pay(bob.invoice(7*types.Coin), PaymentSucceeded)
		bob.pay(alice.invoice(2*types.Coin), PaymentSucceeded)
		alice.stop()
		for bucket, values := range backup {
			var writes []types.Write
			if err := alice.store.Scan(bucket, "", func(k string, _ []byte) error { writes = append(writes, del(bucket, k)); return nil }); err != nil {
				t.Fatal(err)
			}
			for k, v := range values {
				writes = append(writes, types.Write{Bucket: bucket, Key: k, Value: v})
			}
			if err := alice.store.Commit(w.ctx, writes...); err != nil {
				t.Fatal(err)
			}
		}
		alice.cfg.Restored = true
		alice.start()
		w.until("agreed anew", func() bool { return alice.ready(id) && bob.ready(id) })
		if a, b := alice.mine(id), bob.mine(id); a != 90*types.Coin || b != 60*types.Coin {
			t.Errorf("after the restore alice holds %s, bob %s, want 90 and 60", a, b)
		}
		alice.pay(bob.invoice(types.Coin), PaymentSucceeded)
		bob.pay(alice.invoice(types.Coin), PaymentSucceeded)
	})
}

// TestRandomTrouble plays random histories of payments, broken links and kills on a line of three.
func TestRandomTrouble(t *testing.T) {
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		steps := rapid.SliceOfN(rapid.IntRange(0, 9), 3, 12).Draw(rt, "steps")
		ok := t.Run(fmt.Sprint(run), func(t *testing.T) { randomTrouble(t, steps) })
		if !ok {
			rt.Fatalf("steps %v", steps)
		}
	})
}

func randomTrouble(t *testing.T, steps []int) {
	line := []string{"alice", "bob", "carol"}
	inWorld(t, line, func(w *world) {
		ids := []types.ChannelID{w.open("alice", "bob", 100*types.Coin, 50*types.Coin), w.open("bob", "carol", 100*types.Coin, 50*types.Coin)}
		for _, n := range line {
			w.nodes[n].known(2)
		}
		type try struct {
			payer, payee *node
			inv          Invoice
		}
		var tries []try
		for i, s := range steps {
			switch {
			case s < 5: // a payment that nobody waits for
				payer, payee := w.nodes[line[s%3]], w.nodes[line[(s+1+i%2)%3]]
				inv, err := payee.CreateInvoice(w.ctx, InvoiceRequest{Amount: types.Coin * types.Amount(1+i)})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(w.ctx)
				cancel()
				if _, err := payer.Pay(ctx, PayRequest{Invoice: inv.Text}); err != nil {
					t.Fatal(err)
				}
				tries = append(tries, try{payer, payee, inv})
			case s < 7:
				w.pipes.Break(w.nodes[line[s-5]].ID(), w.nodes[line[s-4]].ID())
			default:
				n := w.nodes[line[s-7]]
				n.crash()
				n.start()
			}
			<-time.After(time.Duration(i%4) * 100 * time.Millisecond)
		}
		w.settled(line, ids)
		var want [3]types.Amount
		for _, x := range tries {
			w.until("an outcome", func() bool { p, err := x.payer.Payment(x.inv.Hash, ""); return err != nil || p.State != PaymentPending })
			p, _ := x.payer.Payment(x.inv.Hash, "")
			paid, err := x.payee.Invoice(x.inv.Hash)
			if err != nil || (p.State == PaymentSucceeded) != (paid.State == InvoicePaid) {
				t.Errorf("the payer says %q, the invoice is %q, %v", p.State, paid.State, err)
			}
			for i, name := range line { // paid whatever became of it
				if w.nodes[name] == x.payer {
					want[i] -= p.Reserve
				} else if w.nodes[name] != x.payee {
					want[i] += p.Reserve
				}
			}
			if p.State != PaymentSucceeded {
				continue
			}
			for i, name := range line {
				if w.nodes[name] == x.payer {
					want[i] -= p.Amount + p.Fee
				} else if w.nodes[name] == x.payee {
					want[i] += p.Amount
				} else {
					want[i] += p.Fee
				}
			}
		}
		w.settled(line, ids)
		a, b1 := w.nodes["alice"].mine(ids[0]), w.nodes["bob"].mine(ids[0])
		b2, c := w.nodes["bob"].mine(ids[1]), w.nodes["carol"].mine(ids[1])
		if a != 100*types.Coin+want[0] || b1+b2 != 150*types.Coin+want[1] || c != 50*types.Coin+want[2] {
			t.Errorf("alice %s, bob %s, carol %s; by their payments %v", a, b1+b2, c, want)
		}
	})
}
