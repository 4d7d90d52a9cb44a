package chand

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"testing"

	"github.com/eschaton-network/chand/chand/library"
	"github.com/eschaton-network/chand/chand/stamper"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/market"
	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/store/memstore"
	"github.com/eschaton-network/chand/timestamp"
	"github.com/eschaton-network/chand/types"
)

func TestStatementsSpreadAndAreFound(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "dave"}, func(w *world) {
		alice, bob, dave := w.nodes["alice"], w.nodes["bob"], w.nodes["dave"]
		w.blocks(2)
		q := library.Draft{Subjects: []string{"peer:" + alice.ID().String()}, Attributes: map[string]any{"rating": map[string]any{"quality": int64(9)}}, IdempotencyKey: "r"}
		s, err := bob.PublishStatement(w.ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := bob.PublishStatement(w.ctx, q); err != nil || again.ID != s.ID {
			t.Errorf("the same key: %v, %v", again, err)
		}
		q.Attributes = map[string]any{"rating": int64(1)}
		_, err = bob.PublishStatement(w.ctx, q)
		wantCode(t, "another statement under the key", err, CodeConflict)
		ask := StatementQuery{Expression: "attributes.rating.quality >= 9"}
		found := func(p library.Page, err error) bool {
			return err == nil && len(p.Statements) == 1 && p.Statements[0].ID == s.ID
		}
		w.until("dave has it", func() bool { _, err := dave.Statement(s.ID); return err == nil })
		dave.crash()
		dave.start()
		at := ask
		at.From = bob.ID()
		if p, err := dave.QueryStatements(w.ctx, at); !found(p, err) || p.From != bob.ID() {
			t.Errorf("at bob: %v, %v", p, err)
		}
		if p, err := dave.QueryStatements(w.ctx, ask); !found(p, err) || p.From != dave.ID() {
			t.Errorf("after a restart: %v, %v", p, err)
		}
		if err := dave.Connect(w.ctx, bob.ID(), "memory"); err != nil { // bob's link statement was gossiped before dave was there
			t.Fatal(err)
		}
		w.until("dave knows bob's key and the block", func() bool {
			v, err := dave.Statement(s.ID)
			return err == nil && v.Node == bob.ID() && v.InForce && v.NotBefore != nil && v.NotBefore.Time != 0
		})
		for _, from := range []types.NodeID{{}, bob.ID()} {
			_, err := dave.QueryStatements(w.ctx, StatementQuery{Expression: "attributes.rating >", From: from})
			wantCode(t, "no condition", err, CodeInvalid)
		}
		_, err = dave.QueryStatements(w.ctx, StatementQuery{Expression: ask.Expression, Token: "x"})
		wantCode(t, "no token", err, CodeInvalid)
		_, err = dave.Statement(statement.ID{1})
		wantCode(t, "unknown", err, CodeNotFound)
		bob.stop()
		_, err = dave.QueryStatements(w.ctx, at)
		wantCode(t, "bob is gone", err, CodePeerOffline)
	})
}

// TestLateJoinerFindsStatements: gossip is over before the asker begins; it gets them from who connects, and before that by asking
// whom the directory names.
func TestLateJoinerFindsStatements(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "dave"}, func(w *world) {
		bob, dave := w.nodes["bob"], w.nodes["dave"]
		w.blocks(2)
		dave.stop()
		s, err := bob.PublishStatement(w.ctx, library.Draft{Subjects: []string{"bafy:x"}, Attributes: map[string]any{"rating": int64(7)}})
		if err != nil {
			t.Fatal(err)
		}
		w.blocks(5)
		dave.start()
		if _, err := dave.Statement(s.ID); err == nil {
			t.Fatal("dave has it already: nothing is shown")
		}
		p, err := dave.QueryStatements(w.ctx, StatementQuery{Expression: "attributes.rating == 7"})
		if err != nil || len(p.Statements) != 1 || p.Statements[0].ID != s.ID || p.From != bob.ID() {
			t.Errorf("by the directory: %+v, %v", p, err)
		}
		dave.stop()
		second, err := bob.PublishStatement(w.ctx, library.Draft{Subjects: []string{"bafy:x"}, Attributes: map[string]any{"rating": int64(8)}})
		if err != nil {
			t.Fatal(err)
		}
		w.blocks(5)
		dave.start()
		if err := dave.Connect(w.ctx, bob.ID(), "memory"); err != nil {
			t.Fatal(err)
		}
		w.until("dave is told by bob", func() bool { _, err := dave.Statement(second.ID); return err == nil })
	})
}

func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code || e.Text == "" || e.Next == "" || e.Money == "" {
		t.Errorf("%s: %#v, want %s", what, err, code)
	}
}

func TestServicesAreOffered(t *testing.T) {
	inWorld(t, []string{"carol", "alice"}, func(w *world) {
		carol, alice := w.nodes["carol"], w.nodes["alice"]
		w.blocks(2)
		price, err := market.ParsePrice("0.25/request")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := carol.Sell(w.ctx, "quotes", "http://127.0.0.1:8080", price, "quotes", "http://127.0.0.1:9743/quotes"); err != nil {
			t.Fatal(err)
		}
		heard := func(n int) {
			w.until("offers heard", func() bool { list, err := alice.Offers(w.ctx); return err == nil && len(list) == n })
		}
		heard(1)
		dearer, _ := market.ParsePrice("0.5/request")
		if _, err := carol.Sell(w.ctx, "quotes", "http://127.0.0.1:8080", dearer, "quotes", "http://127.0.0.1:9743/quotes"); err != nil {
			t.Fatal(err)
		}
		w.until("the new price", func() bool {
			list, err := alice.Offers(w.ctx)
			return err == nil && len(list) == 1 && list[0].Price == dearer
		})
		carol.crash()
		carol.start()
		if list := carol.Services(); len(list) != 1 || list[0].Price() != dearer {
			t.Errorf("after a restart: %+v", list)
		}
		if err := carol.RemoveService(w.ctx, "quotes"); err != nil {
			t.Fatal(err)
		}
		heard(0)
	})
}

// oneTxBlocks stands for a ledger whose blocks hold one transaction each.
type oneTxBlocks struct{ height types.Height }

func (p oneTxBlocks) TxProof(context.Context, types.Hash) (types.Height, ledger.TxProof, []byte, error) {
	return p.height, ledger.TxProof{}, []byte("bundle"), nil
}

func TestStampSurvivesACrash(t *testing.T) {
	inWorld(t, []string{"alice"}, func(w *world) {
		alice := w.nodes["alice"]
		alice.stop()
		alice.wrap = func(d *Deps) { d.Proofs = oneTxBlocks{7} }
		alice.start()
		w.chain.Halt(true) // no block comes between the rounds and the crash
		const n = 300
		files := make([][]byte, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				digest := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
				var err error
				if files[i], _, err = alice.Stamp(w.ctx, digest, "http://127.0.0.1/calendar"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if u, err := alice.Upgrade(files[0]); err != nil || u.Changed || u.Complete || u.Expected == 0 {
			t.Errorf("before a block: %+v, %v", u, err)
		}
		alice.crash() // saved, perhaps submitted, not in a block
		alice.start()
		w.chain.Halt(false)
		w.until("anchored", func() bool { u, err := alice.Upgrade(files[0]); return err == nil && u.Complete })
		before := alice.balance()
		var anchor types.Hash
		for i, file := range files {
			u, err := alice.Upgrade(file)
			if err != nil || !u.Complete || u.Height != 7 || string(u.Bundle) != "bundle" {
				t.Fatalf("proof %d: %+v, %v", i, u, err)
			}
			proof, err := timestamp.DecodeDetached(u.OTS)
			if err != nil {
				t.Fatal(err)
			}
			proof.Stamp.Walk(func(msg []byte, a timestamp.Attestation) {
				if _, ok := a.(timestamp.Ledger); ok && i == 0 {
					anchor = types.Hash(msg)
				} else if ok && anchor != types.Hash(msg) {
					t.Errorf("proof %d leads to another transaction than the first", i)
				}
			})
		}
		w.blocks(5)
		if alice.balance() != before {
			t.Error("the round was anchored again")
		}
		_, err := alice.Upgrade([]byte("no proof"))
		wantCode(t, "no proof", err, CodeInvalid)
		_, _, err = alice.Stamp(w.ctx, types.Hash{1}, "not an address")
		wantCode(t, "no calendar", err, CodeInvalid)
	})
}

// TestCheckCoversServices: damage of what library and stamper store is found.
func TestCheckCoversServices(t *testing.T) {
	for _, bucket := range []string{"statement", "statementkey", stamper.Bucket} {
		key := "x"
		if bucket == stamper.Bucket {
			key = "state"
		}
		s := memstore.New()
		if err := s.Commit(t.Context(), types.Write{Bucket: bucket, Key: key, Value: []byte("damaged")}); err != nil {
			t.Fatal(err)
		}
		if err := Check(s); !errors.Is(err, ErrCheck) {
			t.Errorf("%s: %v", bucket, err)
		}
	}
}
