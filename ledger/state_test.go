package ledger

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	btcwire "github.com/btcsuite/btcd/wire/v2"
	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

func restore(t tb, raw []byte) *State {
	t.Helper()
	s, err := DecodeState(bytes.NewReader(raw), DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func snapshot(t tb, s *State) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.EncodeTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// busy is a state with everything in it: accounts, contracts open, posted, settled both ways, outputs.
func busy(t tb) *world {
	w := newWorld(t, 2)
	a, b := w.user("a", 1, 1000*coin), w.user("b", 2, 1000*coin)
	for i, name := range []string{"open", "posted", "final", "forced"} {
		p := newPair(w, name, a, b, 30*coin, 20*coin, 2)
		if name == "posted" {
			p.body.Window = 100
			p.id = p.body.ID(w.s.Params().Genesis)
		}
		w.do(a, p.open())
		out := toScript(cltvScript(t, secp("owner"), int64(i+1)), 5*coin)
		switch name {
		case "posted", "forced":
			w.do(a, p.spend(p.refund(100, 2, toAccount(b, 45*coin), out), p.closer[1]))
		case "final":
			w.do(a, p.spend(p.final(toAccount(a, 45*coin), out), nil))
		}
	}
	w.mine()
	w.mine()
	return w
}

func TestSnapshot(t *testing.T) {
	w := busy(t)
	raw := snapshot(t, w.s)
	back, err := DecodeState(bytes.NewReader(raw), DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	if back.Root() != w.s.Root() || back.Height() != w.s.Height() || back.Time() != w.s.Time() || back.Pool() != w.s.Pool() {
		t.Fatal("another state")
	}
	for id := range w.s.contracts {
		x, _ := w.s.Contract(id)
		if y, err := back.Contract(id); err != nil || !reflect.DeepEqual(x, y) {
			t.Fatalf("%+v\n%+v", x, y)
		}
	}
	if !bytes.Equal(snapshot(t, back), raw) {
		t.Fatal("encoding again gives other bytes")
	}
	for h := w.s.Height() + 1; h < 120; h++ { // the posted contract becomes due in both
		x, y := w.s.Apply(h, start, nil), back.Apply(h, start, nil)
		if !reflect.DeepEqual(x, y) || w.s.Root() != back.Root() {
			t.Fatalf("block %d differs", h)
		}
	}
	if w.s.Verify() != nil || back.Verify() != nil {
		t.Fatal("broken")
	}
}

func TestSnapshotRefused(t *testing.T) {
	raw := snapshot(t, busy(t).s)
	decode := func(b []byte, l Limits) error {
		_, err := DecodeState(bytes.NewReader(b), l)
		return err
	}
	for i := range raw { // every byte counts
		if i%7 != 0 && len(raw)-i > 40 {
			continue
		}
		bad := append([]byte(nil), raw...)
		bad[i] ^= 1
		// Height and time are the only parts that the root does not cover: blocks carry them.
		if err := decode(bad, DefaultLimits); !errors.Is(err, ErrSnapshot) && !inHeader(raw, i) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for n := 0; n < len(raw); n += 11 {
		if err := decode(raw[:n], DefaultLimits); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	if err := decode(append(raw, 0), DefaultLimits); !errors.Is(err, ErrSnapshot) {
		t.Fatal("trailing byte:", err)
	}
	for name, l := range map[string]Limits{
		"bytes":     {Bytes: int64(len(raw) - 1), Accounts: 100, Contracts: 100, Outputs: 100},
		"accounts":  {Bytes: 1 << 20, Accounts: 3, Contracts: 100, Outputs: 100},
		"contracts": {Bytes: 1 << 20, Accounts: 100, Contracts: 3, Outputs: 100},
		"outputs":   {Bytes: 1 << 20, Accounts: 100, Contracts: 100, Outputs: 1},
	} {
		if err := decode(raw, l); !errors.Is(err, ErrSnapshot) {
			t.Errorf("limit of %s: %v", name, err)
		}
	}
}

// inHeader tells whether byte i of a snapshot belongs to height or time.
func inHeader(raw []byte, i int) bool {
	doc := len(snapshotMagic) + 4 + int(raw[len(snapshotMagic)]) + int(raw[len(snapshotMagic)+1])<<8
	return i >= doc && i < doc+12
}

func TestProofs(t *testing.T) {
	w := busy(t)
	root := w.s.Root()
	for i, n := range w.s.nodes {
		for user := range n.accounts.len() {
			id := types.AccountID{Node: uint16(i + 1), User: uint32(user)}
			p, err := w.s.AccountProof(id)
			if err != nil {
				t.Fatal(err)
			}
			rec, _ := w.s.Record(id)
			if err := VerifyAccountProof(root, rec, p); err != nil {
				t.Fatal(id, err)
			}
			rec.Balance++
			if err := VerifyAccountProof(root, rec, p); !errors.Is(err, merkle.ErrProof) {
				t.Fatal("another balance proved")
			}
			rec.Balance--
			p.ID.User ^= 1
			if err := VerifyAccountProof(root, rec, p); !errors.Is(err, merkle.ErrProof) {
				t.Fatal("another account proved")
			}
		}
	}
	if _, err := w.s.AccountProof(types.AccountID{Node: 1, User: 50}); err != ErrNotFound {
		t.Fatal(err)
	}
	for id := range w.s.contracts {
		c, _ := w.s.Contract(id)
		p := w.s.ContractProof(id)
		if err := VerifyContractProof(root, id, &c, p); err != nil {
			t.Fatal(err)
		}
		c.Capacity++
		if VerifyContractProof(root, id, &c, p) == nil || VerifyContractProof(root, id, nil, p) == nil || VerifyContractProof(types.Hash{}, id, &c, p) == nil {
			t.Fatal("a false contract proved")
		}
	}
	none := types.Hash{1, 2, 3}
	if err := VerifyContractProof(root, none, nil, w.s.ContractProof(none)); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	for name, damage := range map[string]func(s *State){
		"money from nothing": func(s *State) { s.pool++ },
		"negative balance":   func(s *State) { s.nodes[0].accounts.change(1).Balance = -1 },
		"stale leaf":         func(s *State) { s.nodes[0].accounts.change(1).Msid++ },
		"forgotten deadline": func(s *State) { clear(s.due) },
		"lost output": func(s *State) {
			for p := range s.outputs {
				delete(s.outputs, p)
				return
			}
		},
		"unsettled": func(s *State) {
			for id, c := range s.contracts {
				if c.Settled != nil {
					d := *c
					d.Settled = nil
					s.contracts[id] = &d
				}
			}
		},
	} {
		s := busy(t).s
		s.Root()
		damage(s)
		if err := s.Verify(); !errors.Is(err, ErrInvariant) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestApplyOutOfOrderPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("a block was skipped silently")
		}
	}()
	newWorld(t, 1).s.Apply(2, start, nil)
}

// history drives random transactions, good and bad, and checks what must always hold.
type history struct {
	*world
	twin   *State
	users  []types.AccountID
	pairs  []*pair
	number uint32
}

func newHistory(t *rapid.T) *history {
	g := testGenesis(2)
	g.DividendBlocks, g.Admins = 4, []types.AccountID{admin(1)}
	h := &history{world: worldOf(t, g)}
	for i := range 4 {
		h.users = append(h.users, h.user(fmt.Sprint("user ", i/2), uint16(i%2+1), types.Amount(rapid.Int64Range(1, 300).Draw(t, "coins"))*coin))
	}
	back, err := DecodeState(bytes.NewReader(snapshot(t, h.s)), DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	h.twin = back
	return h
}

func (h *history) any(t *rapid.T, label string) types.AccountID {
	return rapid.SampledFrom(h.users).Draw(t, label)
}

func (h *history) amount(t *rapid.T) types.Amount {
	return types.Amount(rapid.Int64Range(0, int64(200*coin)).Draw(t, "amount"))
}

func (h *history) simple(t *rapid.T) {
	from := h.any(t, "from")
	switch rapid.IntRange(0, 6).Draw(t, "kind") {
	case 0:
		h.queue(from, SendOne{To: types.AccountID{Node: uint16(rapid.IntRange(0, 3).Draw(t, "node")), User: uint32(rapid.IntRange(0, 4).Draw(t, "user"))}, Amount: h.amount(t)})
	case 1:
		h.queue(from, SendMany{[]Wire{{h.users[0], h.amount(t) + 1}, {h.users[1], h.amount(t) + 1}}})
	case 2:
		h.queue(from, Broadcast{make([]byte, rapid.IntRange(1, 300).Draw(t, "bytes"))})
	case 3:
		h.queue(from, Anchor{make([]types.Hash, rapid.IntRange(1, 9).Draw(t, "hashes"))})
	case 4:
		secret := secretOf(fmt.Sprint("new ", rapid.IntRange(0, 99).Draw(t, "key")))
		proof := KeyProof(secret)
		c := CreateAccount{Node: from.Node, PublicKey: PublicKey(secret), Proof: proof}
		switch rapid.IntRange(0, 5).Draw(t, "spoil") {
		case 4:
			c.Proof[0] ^= 1
		case 5:
			c.Node = 3 - c.Node
		}
		h.queue(from, c)
	case 5:
		h.queued = append(h.queued, rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "garbage"))
	case 6:
		raw := h.sign(from, SendOne{To: from, Amount: 1})
		raw[rapid.IntRange(0, len(raw)-1).Draw(t, "at")] ^= 0x10
		h.queued = append(h.queued, raw)
	}
}

func (h *history) open(t *rapid.T) {
	a, b := h.any(t, "a"), h.any(t, "b")
	if a == b {
		t.Skip("one party")
	}
	h.number++
	p := newPair(h.world, fmt.Sprint("pair ", h.number), a, b, h.amount(t)+1, h.amount(t)+1, uint32(rapid.IntRange(1, 4).Draw(t, "window")))
	h.queue(a, p.open())
	h.pairs = append(h.pairs, p)
}

func (h *history) close(t *rapid.T) {
	if len(h.pairs) == 0 {
		t.Skip("no contracts")
	}
	p := rapid.SampledFrom(h.pairs).Draw(t, "pair")
	capacity := p.body.capacity()
	a := types.Amount(rapid.Int64Range(1, int64(capacity)).Draw(t, "share"))
	outs := []*btcwire.TxOut{toAccount(p.a, a)}
	if a < capacity {
		outs = append(outs, toScript(cltvScript(h.t, secp("owner"), 1), capacity-a))
	}
	tx := p.refund(uint32(rapid.IntRange(2, 4).Draw(t, "epoch")), uint32(rapid.IntRange(0, 5).Draw(t, "version")), outs...)
	if rapid.IntRange(0, 4).Draw(t, "final") == 0 {
		tx = p.final(outs...)
	}
	closer := p.closer[0]
	if rapid.IntRange(0, 3).Draw(t, "close signature") == 0 {
		closer = nil
	}
	h.queue(h.any(t, "submitter"), p.spend(tx, closer))
}

func (h *history) claim(t *rapid.T) {
	script := cltvScript(h.t, secp("owner"), 1)
	for _, p := range h.pairs {
		c, err := h.s.Contract(p.id)
		if err != nil || c.Settled == nil {
			continue
		}
		o, err := h.s.Output(c.Settled.TxID, 1)
		if err != nil {
			continue
		}
		at := btcwire.OutPoint{Hash: [32]byte(c.Settled.TxID), Index: 1}
		tx := claim(h.t, at, script, o.Value, toAccount(h.any(t, "to"), o.Value), 0xfffffffe, 1)
		h.queue(h.any(t, "submitter"), rawSpend(h.t, tx, p.id, nil))
		return
	}
	t.Skip("no outputs")
}

// mineAll makes a block on the state and its twin, which is now and then replaced by its own snapshot.
func (h *history) mineAll(t *rapid.T) {
	block, txs := h.block(), h.queued
	if rapid.Bool().Draw(t, "check first") {
		for _, tx := range txs {
			h.s.Check(tx) // changes nothing but speed
		}
	}
	versions := map[types.ChannelID][2]uint32{}
	for id, c := range h.s.contracts {
		if c.Posted != nil {
			versions[id] = [2]uint32{c.Posted.Epoch, c.Posted.Version}
		}
	}
	results := h.mine()
	out := h.twin.Apply(h.s.Height(), h.s.Time(), block)
	slices.SortFunc(out.Results, func(a, b TxDone) int { return cmp.Compare(a.Place.Position, b.Place.Position) })
	if !reflect.DeepEqual(out.Events, h.events) || !reflect.DeepEqual(out.Results, results) {
		t.Fatalf("two states, one block, different outcome:\n%+v\n%+v", h.events, out.Events)
	}
	if h.twin.Root() != h.s.Root() {
		t.Fatal("two states, one block, different roots")
	}
	for id, old := range versions {
		c := h.s.contracts[id]
		now := [2]uint32{c.Posted.Epoch, c.Posted.Version}
		if now[0] < old[0] || now[0] == old[0] && now[1] < old[1] {
			t.Fatalf("version went back from %v to %v", old, now)
		}
		if c.Settled == nil && c.Posted.Deadline <= h.s.Height() {
			t.Fatal("the window ended and nothing was paid")
		}
	}
	raw := snapshot(t, h.twin)
	back, err := DecodeState(bytes.NewReader(raw), DefaultLimits)
	if err != nil || !bytes.Equal(snapshot(t, back), raw) {
		t.Fatal("the snapshot holds another state", err)
	}
	if rapid.IntRange(0, 3).Draw(t, "restart") == 0 {
		h.twin = back
	}
}

func TestRandomHistories(t *testing.T) {
	accepted := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t)
		t.Repeat(map[string]func(*rapid.T){
			"simple": h.simple, "open": h.open, "close": h.close, "claim": h.claim, "rules": h.rules, "registry": h.registry, "message": h.speaks,
			"mine": func(t *rapid.T) {
				for range rapid.SampledFrom([]int{1, 1, 1, 5, 9}).Draw(t, "blocks") {
					h.mineAll(t)
					for _, e := range h.events {
						accepted[fmt.Sprintf("%T", e)]++
					}
				}
			},
		})
		h.mineAll(t)
	})
	if testing.Short() { // a fifth of the histories: too few to be sure of the following
		return
	}
	// The histories must reach everything, or they show nothing.
	for _, e := range []Event{Deposited{}, AccountCreated{}, ContractOpened{}, ContractPosted{}, ContractSettled{}, OutputSpent{}, Anchored{}, Broadcasted{},
		Dividend{}, NodeProfit{}, AccountDeleted{}, AccountRequested{}, NodeConnected{}, NodeCreated{}, NodeKeyChanged{}, NodeStatusChanged{},
		AccountStatusChanged{}, Retrieval{}, AccountLogged{}, PairsAnchored{}, CertificateChanged{}, Enrolled{}, PolicyChanged{}} {
		t.Logf("%d %T", accepted[fmt.Sprintf("%T", e)], e)
		if accepted[fmt.Sprintf("%T", e)] == 0 {
			t.Errorf("no %T in any history", e)
		}
	}
}
