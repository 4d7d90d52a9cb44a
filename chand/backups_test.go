package chand

import (
	"bytes"
	"testing"

	"github.com/eschaton-network/chand/chand/backup"
	"github.com/eschaton-network/chand/store/memstore"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// restoreFrom replaces a stopped node's store by what a peer keeps for it: all that is left are the seed phrase and that peer.
func (n *node) restoreFrom(peer *node) {
	n.w.t.Helper()
	dir := n.w.dht.Node(n.seed.NodeID())
	defer dir.Close()
	a, err := backup.Ask(n.w.ctx, dir.Ask, peer.ID(), wire.StorageRequest{})
	if err != nil || len(a.Blob) == 0 {
		n.w.t.Fatalf("%s keeps %d bytes: %v", peer.name, len(a.Blob), err)
	}
	n.store = memstore.New()
	_, err = backup.Read(bytes.NewReader(a.Blob), n.seed.Secret(BackupSecret), func(w []types.Write) error { return n.store.Commit(n.w.ctx, w...) })
	if err == nil {
		err = PrepareRestored(n.w.ctx, n.store)
	}
	if err != nil {
		n.w.t.Fatal(err)
	}
	n.check()
}

// kept waits until a peer has a blob of the node's channels as they are.
func (n *node) kept(peer *node) {
	n.w.t.Helper()
	n.w.until(peer.name+" keeps "+n.name+"'s backup", func() bool {
		list, omitted := n.Keepers()
		for _, k := range list {
			if k.Node == peer.ID() && k.At != 0 && k.Problem == "" && omitted == 0 {
				return true
			}
		}
		return false
	})
}

// Bob loses his disk. With the seed phrase and one peer he has all his channels again, with what was paid since the backup, and they go on.
func TestRestoreFromOnePeer(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol"}, func(w *world) {
		alice, bob, carol := w.nodes["alice"], w.nodes["bob"], w.nodes["carol"]
		ab := w.open("alice", "bob", 100*types.Coin, 50*types.Coin)
		bc := w.open("bob", "carol", 100*types.Coin, 50*types.Coin)
		alice.known(2)
		bob.kept(carol)
		alice.pay(bob.invoice(7*types.Coin), PaymentSucceeded) // after the backup
		bob.pay(carol.invoice(3*types.Coin), PaymentSucceeded)
		e, err := alice.OpenEscrow(w.ctx, EscrowRequest{To: carol.ID(), Amount: 10 * types.Coin, Lifetime: 250})
		if err != nil {
			t.Fatal(err)
		}
		w.until("held", func() bool { h, err := carol.Escrow(e.ID, rolePayee); return err == nil && h.State == EscrowHeld })
		bob.crash()
		bob.restoreFrom(carol)
		bob.start()
		for _, n := range []*node{alice, carol} {
			if err := bob.Connect(w.ctx, n.ID(), "memory"); err != nil {
				t.Fatal(err)
			}
		}
		w.until("ready", func() bool { return bob.ready(ab) && bob.ready(bc) && alice.ready(ab) && carol.ready(bc) })
		if a, c := bob.mine(ab), bob.mine(bc); a < 57*types.Coin || c > 97*types.Coin {
			t.Errorf("bob has %s and %s, before the loss 57 and more, and 97 less the lock", a, c)
		}
		if _, err := alice.ReleaseEscrow(w.ctx, e.ID); err != nil {
			t.Fatal(err)
		}
		w.until("carol is paid", func() bool { return carol.mine(bc) == 63*types.Coin })
		w.until("bob has his share of the escrow", func() bool { return bob.mine(ab)+bob.mine(bc) >= 154*types.Coin })
		alice.pay(carol.invoice(types.Coin), PaymentSucceeded)
		w.until("the mark is gone", func() bool {
			_, marked, err := load[bool](bob.store, bucketMeta, metaRestored)
			return err == nil && !marked
		})
	})
}

// Peers keep backups for those who have a channel with them, and nobody else's.
func TestStorageIsForPartners(t *testing.T) {
	inWorld(t, []string{"alice", "bob", "carol"}, func(w *world) {
		alice, bob, carol := w.nodes["alice"], w.nodes["bob"], w.nodes["carol"]
		w.open("alice", "bob", 10*types.Coin, 0)
		alice.kept(bob)
		put := func(n *node, blob []byte) wire.StorageAnswer {
			return must(backup.Ask(w.ctx, n.dir.Ask, bob.ID(), wire.StorageRequest{Blob: blob}))
		}
		if a := put(carol, []byte("stranger")); a.Refused == "" {
			t.Error("a stranger's blob was taken")
		}
		if a := put(carol, nil); len(a.Blob) != 0 {
			t.Error("a stranger got a blob")
		}
		w.blocks(5)
		if a := put(alice, []byte("one")); a.Refused != "" {
			t.Errorf("refused: %s", a.Refused)
		}
		if a := put(alice, []byte("two")); a.Refused == "" {
			t.Error("two blobs in a moment were taken")
		}
		if a := put(alice, nil); string(a.Blob) != "one" {
			t.Errorf("kept is %q", a.Blob)
		}
		if err := bob.storage.Prune(w.ctx); err != nil {
			t.Error(err)
		}
		if a := put(alice, nil); len(a.Blob) == 0 {
			t.Error("a partner's blob was forgotten")
		}
	})
}
