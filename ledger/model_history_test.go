package ledger

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/types"
)

// chronicle drives the ledger and its model through one history.
type chronicle struct {
	t    *rapid.T
	s    *State
	m    *modelLedger
	rand *rand.Rand // of this step
	// secrets by public key; names of new keys are counted.
	secrets map[types.Hash][32]byte
	keys    [][32]byte
	// ahead is each account's chain if all of this block is accepted.
	ahead map[types.AccountID]Record
	// past are the chains that were, to send old numbers and keys again.
	past [][]byte
	// seen counts what happened.
	seen map[string]int
}

func (c *chronicle) learn(secret [32]byte) {
	c.secrets[PublicKey(secret)] = secret
	c.keys = append(c.keys, secret)
}

func newChronicle(t *rapid.T) *chronicle {
	g := testGenesis(rapid.IntRange(1, 3).Draw(t, "nodes"))
	g.DividendBlocks = rapid.SampledFrom([]uint32{4, 4, 6, 10}).Draw(t, "period")
	g.VIPMax = uint16(rapid.IntRange(1, 3).Draw(t, "validators"))
	g.UnbondingBlocks = rapid.SampledFrom([]uint32{0, 1, 5}).Draw(t, "unbonding")
	g.DirectDelay = rapid.SampledFrom([]uint32{0, 0, 2}).Draw(t, "delay")
	g.BlockMillis = rapid.SampledFrom([]uint32{1000, 5000}).Draw(t, "millis")
	for i := range g.Nodes {
		if rapid.IntRange(0, 2).Draw(t, "admin") == 0 {
			g.Admins = append(g.Admins, admin(uint16(i+1)))
		}
	}
	if len(g.Admins) > 0 && rapid.Bool().Draw(t, "enrolled") {
		g.Admission = AdmissionEnrolled
	}
	s, err := NewState(g)
	if err != nil {
		t.Fatal(err)
	}
	c := &chronicle{t: t, s: s, m: newModel(g), secrets: map[types.Hash][32]byte{}, ahead: map[types.AccountID]Record{}, seen: map[string]int{}}
	for i := range g.Nodes {
		c.learn(nodeSecret(uint16(i + 1)))
		c.learn(secretOf(fmt.Sprint("admin ", i+1)))
	}
	for i := range 6 {
		c.learn(secretOf(fmt.Sprint("key ", i)))
	}
	return c
}

// pick draws one of 0..n-1 evenly. (rapid's own integers are mostly small, and nearly nothing would be accepted.)
func (c *chronicle) pick(n int) int { return c.rand.IntN(n) }

func oneOf[T any](c *chronicle, all ...T) T { return all[c.pick(len(all))] }

// account is mostly an existing one, with those of node 1 and the last ones drawn as often as all others.
func (c *chronicle) account() types.AccountID {
	node := uint16(1 + c.pick(len(c.m.nodes)))
	users := len(c.m.node(node).accounts)
	switch c.pick(12) {
	case 0:
		return types.AccountID{Node: node}
	case 1:
		return types.AccountID{Node: node, User: uint32(users - 1)}
	}
	return types.AccountID{Node: node, User: uint32(c.pick(users))}
}

func (c *chronicle) target() types.AccountID {
	to := c.account()
	switch c.pick(25) {
	case 0:
		to.User = uint32(len(c.m.node(to.Node).accounts))
	case 1:
		to.Node = uint16(len(c.m.nodes) + 1)
	case 2:
		to = types.AccountID{}
	}
	return to
}

func (c *chronicle) nodeID() uint16 { return uint16(c.pick(len(c.m.nodes) + 2)) }

// key is one of a few, so that accounts share them, or rarely a new one.
func (c *chronicle) key() [32]byte {
	if c.pick(12) == 0 {
		c.learn(secretOf(fmt.Sprint("new key ", len(c.keys))))
		return c.keys[len(c.keys)-1]
	}
	return c.keys[c.pick(len(c.keys))]
}

// amount draws from the edges: of shifts, of deposits, of what the account has, of int64.
func (c *chronicle) amount(from types.AccountID) types.Amount {
	have := types.Amount(0)
	if c.m.account(from) != nil {
		have = c.m.spendable(from)
	}
	switch edge := c.pick(10); edge {
	case 0:
		return types.Amount(oneOf[int64](c, 0, 1, -1, 100, math.MinInt64, math.MaxInt64, 1<<62, 1<<62+1, 1<<31))
	case 1:
		return types.Amount(oneOf[int64](c, 8191, 8192, 65535, 65536, 1<<20, 1<<20+1, 1<<28, 1<<36))
	case 2:
		return have
	case 3:
		return have - 4096
	case 4, 5:
		return max(have-4096-have/4096-types.Amount(c.pick(1<<21)), 0)
	}
	return types.Amount(c.rand.Int64N(1 << (1 + c.pick(45))))
}

// sign makes a transaction, mostly the sender's next one; even what Sign would refuse.
func (c *chronicle) sign(from types.AccountID, b Body) []byte {
	r, ok := c.ahead[from]
	if a := c.m.account(from); !ok && a != nil {
		r = a.Record
	}
	h := Head{From: from, Msid: r.Msid, Time: c.m.time}
	secret, prev := c.secrets[r.PublicKey], r.Hash
	switch c.pick(40) {
	case 0:
		h.Msid += uint32(c.pick(3)) - 1
	case 1:
		secret = c.key()
	case 2:
		prev[0] ^= 1
	case 3:
		h.Time += types.Time(oneOf[int](c, -1, 60, 61, 90, -1<<30))
	}
	raw := b.signed(h.marshal(b.kind()))
	sig := signBytes(secret, append(prev[:], raw...))
	r.Msid, r.Hash = r.Msid+1, NextHash(r.Hash, sig)
	if x, ok := b.(ChangeAccountKey); ok {
		r.PublicKey = x.PublicKey
	}
	c.ahead[from] = r
	raw = b.tail(append(raw, sig[:]...))
	c.past = append(c.past, raw)
	return raw
}

// tx is a transaction of an account, of a given node unless node is 0; rarely an old one again.
func (c *chronicle) tx(node uint16) []byte {
	if len(c.past) > 0 && c.pick(30) == 0 {
		return c.past[c.pick(len(c.past))]
	}
	from := c.account()
	if node != 0 && c.pick(15) > 0 {
		from.Node = node
		from.User %= uint32(len(c.m.node(node).accounts))
	}
	if c.pick(60) == 0 {
		from.User += 1000
	}
	return c.sign(from, c.body(from))
}

// message is a node's next message.
func (c *chronicle) message(node uint16) []byte {
	n := c.m.node(node)
	msg := NodeMessage{Node: node, Msid: n.Msid + 1, Time: c.m.time}
	for range c.pick(5) {
		msg.Txs = append(msg.Txs, c.tx(node))
	}
	if c.pick(10) == 0 {
		msg.Txs = append(msg.Txs, Connection{Port: uint16(c.pick(3)), IPv4: 7}.Bytes())
	}
	for _, r := range c.m.reqs {
		if r.node == node && c.pick(3) == 0 {
			msg.Txs = append(msg.Txs, AcceptAccount{r.requester, r.key}.Bytes(node, msg.Time))
		}
	}
	if c.pick(30) == 0 {
		msg.Txs = append(msg.Txs, AcceptAccount{c.target(), PublicKey(c.key())}.Bytes(c.nodeID(), msg.Time))
	}
	secret, prev := c.secrets[n.PublicKey], n.MessageHash
	switch c.pick(40) {
	case 0:
		secret = c.key()
	case 1:
		msg.Msid++
	case 2:
		msg.Time += 61
	}
	msg.Sign(secret, prev)
	raw, err := msg.Encode()
	if err != nil {
		c.t.Fatal(err)
	}
	return raw
}

// evidence of two messages with one number; rarely of two equal ones, which proves nothing.
func (c *chronicle) evidence() []byte {
	node := uint16(1 + c.pick(len(c.m.nodes)))
	n := c.m.node(node)
	e := Evidence{Offence: OffenceMessages, Reporter: c.target()}
	key := n.PublicKey
	if n.OldKey != (types.Hash{}) && c.pick(2) == 0 {
		key = n.OldKey
	}
	differs := types.Time(c.pick(5))
	for i := range types.Time(2) {
		msg := NodeMessage{Node: node, Msid: n.Msid, Time: c.m.time + i*differs}
		msg.Sign(c.secrets[key], n.MessageHash)
		raw, _ := msg.Encode()
		e.Messages = append(e.Messages, SignedMessage{n.MessageHash, raw})
	}
	return e.Encode()
}

// impoverish takes nearly all that an account has, in both ledgers, so that ends of money come often.
func (c *chronicle) impoverish(id types.AccountID) {
	balance := types.Amount(c.pick(1 << 21))
	a := c.m.settle(id)
	c.m.pool += a.Balance - balance
	a.Balance = balance
	w := world{s: c.s}
	w.s.addBalance(id, 0)
	w.setBalance(id, balance)
}

func (c *chronicle) mine(txs [][]byte) {
	step := types.Time(oneOf[int](c, 0, 1, 1, 1, 1, 5, 5, 30, 100))
	if c.pick(60) == 0 {
		step = 366 * 24 * 3600
	}
	now := c.m.time + step
	c.m.apply(now, txs)
	out := c.s.Apply(c.s.Height()+1, now, txs)
	c.m.compare(c.t, c.s, out)
	c.count(out.Events)
	clear(c.ahead)
}

// count notes what happened, so that a run shows what it has compared.
func (c *chronicle) count(events []Event) {
	for _, e := range events {
		name := fmt.Sprintf("%T", e)[len("ledger."):]
		switch e := e.(type) {
		case Retrieval:
			name += fmt.Sprint(e.Phase)
		case AccountRequested:
			name += fmt.Sprint(e.State)
		case AccountCreated:
			if r := c.m.account(e.ID); r.Hash != initialHash(c.m.genesis, e.ID, e.PublicKey) && r.Msid == 1 {
				name += " again"
			}
		case NodeKeyChanged:
			name += fmt.Sprint(e.Opened)
		}
		c.seen[name]++
	}
}

func (c *chronicle) step() {
	c.rand = rand.New(rand.NewPCG(rapid.Uint64().Draw(c.t, "step"), 0))
	switch c.pick(40) {
	case 0:
		for range c.pick(200) {
			c.mine(nil)
		}
	case 1, 2:
		if id := c.account(); c.m.account(id).deletedAt == 0 && c.m.account(id).Balance > 1<<21 {
			c.impoverish(id)
		}
	case 3:
		raw := snapshot(c.t, c.s)
		c.s = restore(c.t, raw) // which verifies everything
	}
	var txs [][]byte
	for i := range c.m.nodes {
		if c.pick(3) > 0 {
			txs = append(txs, c.message(uint16(i+1)))
		}
	}
	for range c.pick(4) {
		txs = append(txs, Direct(c.tx(0)))
	}
	if c.pick(40) == 0 {
		at := c.pick(len(txs) + 1)
		txs = append(txs[:at:at], append([][]byte{c.evidence()}, txs[at:]...)...)
	}
	c.mine(txs)
}

// TestModel compares the ledger with the model over random histories, after every block. -rapid.checks and -rapid.steps make it longer.
func TestModel(t *testing.T) {
	blocks, codes, events := 0, map[uint32]int{}, map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		c := newChronicle(t)
		for range rapid.IntRange(10, 50).Draw(t, "steps") {
			c.step()
			for k, n := range c.seen {
				events[k] += n
			}
			clear(c.seen)
			for _, r := range c.m.results {
				codes[r.Code]++
			}
		}
		if err := c.s.Verify(); err != nil {
			t.Fatal(err)
		}
		blocks += int(c.s.Height())
	})
	t.Logf("%d blocks; results by code: %v; events: %v", blocks, codes, events)
}
