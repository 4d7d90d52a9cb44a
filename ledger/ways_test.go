package ledger

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/types"
)

// wild is the body of a transaction that may or may not be acceptable.
func wild(t *rapid.T, ids []types.AccountID) Body {
	to := rapid.SampledFrom(append([]types.AccountID{{Node: 9}, {Node: 1, User: 99}}, ids...))
	amount := rapid.SampledFrom([]types.Amount{0, 1, coin, 1000 * coin, math.MinInt64, -1, Supply, Supply - 1, Supply / 2})
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0:
		var many SendMany
		for _, id := range ids[:rapid.IntRange(1, len(ids)).Draw(t, "wires")] {
			many.Wires = append(many.Wires, Wire{To: id, Amount: types.Amount(rapid.IntRange(1, 1000).Draw(t, "units"))})
		}
		return many
	case 1:
		secret := secretOf("new")
		return CreateAccount{Node: uint16(rapid.IntRange(1, 2).Draw(t, "node")), PublicKey: PublicKey(secret), Proof: KeyProof(secret)}
	case 2:
		return Anchor{make([]types.Hash, 1)}
	default:
		return SendOne{To: to.Draw(t, "to"), Amount: amount.Draw(t, "amount")}
	}
}

// accountsOf is what ledgers that went different ways must agree on.
func accountsOf(s *State) string {
	var b bytes.Buffer
	kept := s.Pool()
	for node := uint16(1); node <= 2; node++ {
		for user := range s.Accounts(node) {
			r, err := s.Record(types.AccountID{Node: node, User: uint32(user)})
			if user == 0 { // nodes have a part of the fees of what they carry
				kept += r.Balance
				r.Balance = 0
			}
			fmt.Fprintln(&b, r, err)
		}
	}
	fmt.Fprintln(&b, kept, s.Accounts(1), s.Accounts(2))
	return b.String()
}

// One history through pools and messages, with many workers, with none, from raw blocks by a ledger that has seen nothing, through checked
// messages, and as direct transactions: all give the same accounts, and the same root where the blocks are the same.
func TestWays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, 2)
		ids := []types.AccountID{admin(1), admin(2)}
		for i := range 4 {
			ids = append(ids, w.user(fmt.Sprint("u", i), uint16(1+i%2), 50*coin))
		}
		start := snapshot(t, w.s)
		same := func(workers Workers) *State {
			s := restore(t, start)
			s.SetWorkers(workers)
			return s
		}
		pooled, replayed, checked, directs := same(testWorkers(3)), same(nil), same(testWorkers(2)), same(nil)
		pools := map[uint16]*Pool{}
		for node := uint16(1); node <= 2; node++ {
			p, err := NewPool(pooled, node)
			if err != nil {
				t.Fatal(err)
			}
			pools[node] = p
		}
		refused := 0
		for range rapid.IntRange(1, 4).Draw(t, "blocks") {
			var block, plain [][]byte
			for node := uint16(1); node <= 2; node++ {
				txs := w.batchFor(t, pools[node], ids, node)
				for len(txs) > 0 { // several messages
					n := rapid.IntRange(1, len(txs)).Draw(t, "size")
					for i, r := range admit(pools[node], pooled.workers, txs[:n]...) {
						if r != nil {
							refused++
							continue
						}
						plain = append(plain, txs[i])
					}
					txs = txs[n:]
					sent, err := pools[node].Cut(nodeSecret(node), pooled.Time())
					if err != nil {
						t.Fatal(err)
					}
					if sent != nil {
						block = append(block, sent.Raw)
					}
				}
			}
			at := pooled.Time() + 5
			for _, raw := range block {
				if err := checked.CheckMessage(raw); err != nil {
					t.Fatal(err)
				}
			}
			ordered := checked.OrderMessages(block, 1<<30)
			if len(ordered) != len(block) {
				t.Fatalf("%d messages of %d are proposed", len(ordered), len(block))
			}
			a := pooled.Apply(pooled.Height()+1, at, ordered)
			b := replayed.Apply(replayed.Height()+1, at, ordered)
			c := checked.Apply(checked.Height()+1, at, ordered)
			directs.Apply(directs.Height()+1, at, direct(plain))
			if pooled.Root() != replayed.Root() || pooled.Root() != checked.Root() {
				t.Fatal("the roots differ")
			}
			if fmt.Sprint(a) != fmt.Sprint(b) || fmt.Sprint(a) != fmt.Sprint(c) {
				t.Fatalf("the outcomes differ:\n%v\n%v\n%v", a, b, c)
			}
			if accountsOf(pooled) != accountsOf(directs) {
				t.Fatalf("as direct transactions it went another way:\n%s\n%s", accountsOf(pooled), accountsOf(directs))
			}
			for _, p := range pools {
				if err := p.Applied(); err != nil {
					t.Fatal(err)
				}
			}
			for _, s := range []*State{pooled, replayed, checked, directs} {
				if err := s.Verify(); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// batchFor are signed transactions of a node's accounts, some of them damaged, each signed as the next one after what the pool has.
func (w *world) batchFor(t *rapid.T, p *Pool, ids []types.AccountID, node uint16) (txs [][]byte) {
	clear(w.ahead)
	for range rapid.IntRange(0, 12).Draw(t, "txs") {
		from := rapid.SampledFrom(ids).Draw(t, "from")
		if from.Node != node {
			continue
		}
		if _, known := w.ahead[from]; !known {
			a, err := p.Account(from)
			if err != nil {
				t.Fatal(err)
			}
			w.ahead[from] = a
		}
		h, prev := w.head(from)
		raw, next, err := Sign(w.secrets[from], prev, h, wild(t, ids))
		if err != nil { // a body that can never be accepted
			continue
		}
		if rapid.IntRange(0, 9).Draw(t, "damage") == 0 {
			raw[rapid.IntRange(0, len(raw)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		} else {
			w.ahead[from] = Account{ID: from, Msid: h.Msid + 1, Hash: next}
		}
		txs = append(txs, raw)
	}
	return txs
}

// Amounts at the edges of int64, in every place where a transaction has one.
func TestEdgesOfAmounts(t *testing.T) {
	w := newWorld(t, 1)
	a := w.user("a", 1, 100*coin)
	p, err := NewPool(w.s, 1)
	if err != nil {
		t.Fatal(err)
	}
	raw := func(b Body) []byte { // Sign refuses some of these
		h, prev := w.head(a)
		out := b.signed(h.marshal(b.kind()))
		sig := signBytes(w.secrets[a], append(prev[:], out...))
		return b.tail(append(out, sig[:]...))
	}
	for _, c := range []struct {
		body Body
		code uint32
	}{
		{SendOne{To: a, Amount: math.MaxInt64}, CodeBalance},
		{SendOne{To: a, Amount: Supply}, CodeBalance},
		{SendOne{To: a, Amount: Supply + 1}, CodeBalance},
		{SendOne{To: a, Amount: math.MinInt64}, CodeOK}, // counts as zero, as in the original
		{SendOne{To: a, Amount: -1}, CodeOK},
		{SendMany{[]Wire{{admin(1), math.MaxInt64}, {a, math.MaxInt64}}}, CodeBalance},
		{SendMany{[]Wire{{admin(1), Supply}, {a, 1}}}, CodeBalance},
		{SendMany{[]Wire{{admin(1), Supply - 1}, {a, 1}}}, CodeBalance},
		{SendMany{[]Wire{{admin(1), 1}, {a, math.MinInt64}}}, CodeNotPositive},
		{SendMany{[]Wire{{admin(1), -1}, {a, 2}}}, CodeNotPositive},
		{SendMany{[]Wire{{admin(1), 0}}}, CodeNotPositive},
		{SendMany{[]Wire{{a, 1}, {admin(1), 1}, {a, 1}}}, CodeDuplicate},
	} {
		clear(w.ahead)
		tx := raw(c.body)
		r := admit(p, nil, tx)[0]
		if c.code == CodeOK && r != nil || c.code != CodeOK && (r == nil || r.Code != c.code) {
			t.Errorf("%+v: the pool says %v, want code %d", c.body, r, c.code)
		}
		if c.code != CodeOK {
			clear(w.ahead)
			out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{w.message(1, tx)})
			if len(out.Results) != 1 || out.Results[0].Code != c.code {
				t.Errorf("%+v: Apply says %+v, want code %d", c.body, out, c.code)
			}
			if p, err = NewPool(w.s, 1); err != nil {
				t.Fatal(err)
			}
		} else {
			sent, err := p.Cut(nodeSecret(1), w.s.Time())
			if err != nil {
				t.Fatal(err)
			}
			if out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{sent.Raw}); len(out.Results) != 1 || out.Results[0].Code != CodeOK {
				t.Errorf("%+v: Apply says %+v", c.body, out)
			}
			if err := p.Applied(); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.s.Verify(); err != nil {
			t.Fatalf("after %+v: %v", c.body, err)
		}
	}
}

// Messages of a dishonest office: damaged, repeated and reordered transactions, the same one twice, transactions of others. A ledger that
// checked them, one that sees them first in the block, with workers or without, and one that executes each transaction by itself agree.
func TestHostileMessages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, 2)
		ids := []types.AccountID{admin(1), admin(2), w.user("a", 1, 50*coin), w.user("b", 1, 2*coin), w.user("c", 2, 50*coin)}
		start := snapshot(t, w.s)
		states := []*State{restore(t, start), restore(t, start), restore(t, start), restore(t, start)}
		states[1].SetWorkers(testWorkers(3))
		states[2].SetWorkers(testWorkers(2))
		p, err := NewPool(w.s, 1) // for the view that transactions are signed with
		if err != nil {
			t.Fatal(err)
		}
		msid, root := w.s.node(1).Msid, w.s.node(1).MessageHash
		var block, single [][]byte
		for range rapid.IntRange(1, 3).Draw(t, "messages") {
			m := NodeMessage{Node: 1, Msid: msid + 1, Time: w.s.Time(), Txs: w.batchFor(t, p, ids, 1)}
			m.Txs = append(m.Txs, w.batchFor(t, p, ids, 2)...)
			if n := len(m.Txs); n > 1 {
				i, k := rapid.IntRange(0, n-1).Draw(t, "i"), rapid.IntRange(0, n-1).Draw(t, "k")
				m.Txs[i], m.Txs[k] = m.Txs[k], m.Txs[i]
				m.Txs = append(m.Txs, m.Txs[i])
			}
			m.Sign(nodeSecret(1), root)
			raw, err := m.Encode()
			if err != nil {
				t.Fatal(err)
			}
			block = append(block, raw)
			if _, _, r := decodeMessage(raw); r != nil { // a damaged length or type: skipped whole, and all after it
				break
			}
			msid, root = m.Msid, m.Root()
			for _, tx := range m.Txs {
				if parseAccount(tx[1:]).Node == 1 {
					single = append(single, tx)
				}
			}
		}
		if rapid.Bool().Draw(t, "forged") {
			block[len(block)-1][10] ^= 1 // the node's signature
			single = nil
			if len(block) > 1 {
				block = block[len(block)-1:]
			}
		}
		for _, raw := range block {
			if states[2].CheckMessage(raw) != nil {
				break
			}
		}
		at := w.s.Time() + 5
		var outs []Outcome
		for _, s := range states[:3] {
			outs = append(outs, s.Apply(s.Height()+1, at, block))
		}
		states[3].Apply(states[3].Height()+1, at, direct(single))
		for i, s := range states {
			if i < 3 && (s.Root() != states[0].Root() || fmt.Sprint(outs[i]) != fmt.Sprint(outs[0])) {
				t.Fatalf("ledger %d went another way:\n%v\n%v", i, outs[i], outs[0])
			}
			if accountsOf(s) != accountsOf(states[0]) {
				t.Fatalf("ledger %d has other accounts:\n%s\n%s", i, accountsOf(s), accountsOf(states[0]))
			}
			if err := s.Verify(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
