package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/eschaton-network/chand/types"
)

// Proposals have every node's messages without a hole, in turn, and keep room for what goes around the nodes.
func TestOrderMessages(t *testing.T) {
	w := newWorld(t, 3)
	chain := func(node uint16, n int) (raws [][]byte) {
		last := w.s.node(node)
		msid, root := last.Msid, last.MessageHash
		for range n {
			m := NodeMessage{Node: node, Msid: msid + 1, Time: w.s.Time(), Txs: [][]byte{w.sign(admin(node), SendOne{To: admin(1), Amount: 1})}}
			m.Sign(nodeSecret(node), root)
			raw, err := m.Encode()
			if err != nil {
				t.Fatal(err)
			}
			raws, msid, root = append(raws, raw), m.Msid, m.Root()
		}
		return raws
	}
	a, b := chain(1, 4), chain(2, 2)
	other := Direct(w.sign(admin(2), Broadcast{make([]byte, 300)}))
	size := func(raws ...[]byte) (n int64) {
		for _, r := range raws {
			n += blockBytes(r)
		}
		return n
	}
	all := size(a...) + size(b...) + size(other)
	twin := NodeMessage{Node: 1, Msid: 1, Time: w.s.Time() + 1} // contradicts a[0]
	twin.Sign(nodeSecret(1), w.s.node(1).MessageHash)
	contradiction, err := twin.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.s.CheckMessage(a[0]); err != nil {
		t.Fatal(err)
	}
	large := append([]byte{blockEvidence}, make([]byte, 1000)...) // more than an eighth of the block
	w.s.touchNode(3).Status |= NodeDoubleSpend
	closed := bytes.Clone(a[0])
	closed[68] = 3
	stranger := bytes.Clone(a[0])
	stranger[68] = 4
	for name, c := range map[string]struct {
		txs  [][]byte
		max  int64
		want [][]byte
	}{
		"any order":       {[][]byte{other, a[2], b[1], a[0], b[0], a[3], a[1], {7}, nil}, all, [][]byte{a[0], b[0], a[1], b[1], a[2], a[3], other}},
		"a hole":          {[][]byte{a[0], a[2], a[3], b[1]}, all, [][]byte{a[0]}},
		"a contradiction": {[][]byte{contradiction, a[1], a[0]}, all, [][]byte{a[0], a[1]}},
		"no room":         {[][]byte{a[0], a[1], a[2], other}, size(a[0], a[1], other), [][]byte{a[0], a[1], other}},
		"room for others": {[][]byte{a[0], a[1], a[2], a[3], b[0], b[1], Direct(a[0])[:90]}, 8 * 96, [][]byte{a[0], b[0], a[1], Direct(a[0])[:90]}},
		"by turns":        {[][]byte{a[0], a[1], a[2], b[0]}, size(a[0], b[0], a[1]), [][]byte{a[0], b[0], a[1]}},
		"twice":           {[][]byte{other, a[0], a[0], other}, all, [][]byte{a[0], other}},
		"large evidence":  {[][]byte{a[0], a[1], large}, size(a[0], large), [][]byte{a[0], large}},
		"a closed node":   {[][]byte{closed, a[0]}, all, [][]byte{a[0]}},
		"no such node":    {[][]byte{stranger, a[0]}, all, [][]byte{a[0]}},
		"to the byte":     {[][]byte{a[0], other}, size(a[0], other), [][]byte{a[0], other}},
		"a byte too few":  {[][]byte{a[0], other}, size(a[0], other) - 1, [][]byte{other}},
		"nothing fits":    {[][]byte{a[0], other}, 100, nil},
	} {
		got := w.s.OrderMessages(c.txs, c.max)
		if fmt.Sprintf("%x", got) != fmt.Sprintf("%x", append([][]byte{}, c.want...)) {
			t.Errorf("%s:\n%x, want\n%x", name, got, c.want)
		}
		if err := w.s.CheckProposal(got); err != nil {
			t.Errorf("%s: not accepted: %v", name, err)
		}
		if size(got...) > c.max {
			t.Errorf("%s: %d bytes, at most %d", name, size(got...), c.max)
		}
	}
	out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, w.s.OrderMessages([][]byte{a[3], a[2], a[1], a[0], b[1], b[0]}, all))
	for i, r := range out.Block {
		if r.Code != CodeOK {
			t.Errorf("transaction %d of the proposal: %v", i, r)
		}
	}
}

// What no honest proposer makes is refused.
func TestCheckProposal(t *testing.T) {
	w := newWorld(t, 3)
	w.s.touchNode(3).Status |= NodeDoubleSpend
	head := func(node uint16, msid uint32) []byte {
		raw, err := (&NodeMessage{Node: node, Msid: msid}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	direct, evidence := Direct([]byte{1}), []byte{blockEvidence}
	for name, c := range map[string]struct {
		txs  [][]byte
		code uint32
	}{
		"nothing":         {nil, CodeOK},
		"all in order":    {[][]byte{head(1, 1), head(2, 1), head(1, 2), direct, evidence}, CodeOK},
		"no kind":         {[][]byte{head(1, 1), {7}}, CodeType},
		"empty":           {[][]byte{{}}, CodeType},
		"a message's end": {[][]byte{head(1, 1)[:messageHead-1]}, CodeType},
		"too long":        {[][]byte{append(head(1, 1), make([]byte, MaxMessage)...)}, CodeType},
		"node 0":          {[][]byte{head(0, 1)}, CodeBadNode},
		"no such node":    {[][]byte{head(4, 1)}, CodeBadNode},
		"a closed node":   {[][]byte{head(3, 1)}, CodeBadNode},
		"a hole":          {[][]byte{head(1, 1), head(1, 3)}, CodeMsid},
		"twice":           {[][]byte{head(1, 1), head(1, 1)}, CodeMsid},
		"executed before": {[][]byte{head(1, 0)}, CodeMsid},
	} {
		err := w.s.CheckProposal(c.txs)
		var r *Refusal
		if errors.As(err, &r) != (c.code != CodeOK) || r != nil && r.Code != c.code {
			t.Errorf("%s: %v, want code %d", name, err, c.code)
		}
	}
}

// A message is checked once; its successor may wait with it; what is not next, or not signed, may not.
func TestCheckMessage(t *testing.T) {
	w := newWorld(t, 2)
	one := w.message(1, w.sign(admin(1), SendOne{To: admin(2), Amount: 1}), w.sign(admin(1), SendOne{To: admin(2), Amount: 2}))
	m, _, r := readMessage(one)
	if r != nil {
		t.Fatal(r)
	}
	two := NodeMessage{Node: 1, Msid: 2, Time: w.s.Time(), Txs: [][]byte{w.sign(admin(1), SendOne{To: admin(2), Amount: 3})}}
	two.Sign(nodeSecret(1), m.Root())
	second, err := two.Encode()
	if err != nil {
		t.Fatal(err)
	}
	code := func(raw []byte) uint32 {
		var r *Refusal
		if err := w.s.CheckMessage(raw); errors.As(err, &r) {
			return r.Code
		}
		return CodeOK
	}
	forged := bytes.Clone(one)
	forged[20] ^= 1
	late := NodeMessage{Node: 2, Msid: 1, Time: w.s.Time() + MaxTimeAhead + 1}
	late.Sign(nodeSecret(2), w.s.node(2).MessageHash)
	future, err := late.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		raw  []byte
		code uint32
	}{{second, CodeMsid}, {forged, CodeSignature}, {one, CodeOK}, {one, CodeOK}, {forged, CodeMsid}, {second, CodeOK}, {future, CodeFuture}, {one[:70], CodeLength}} {
		if got := code(c.raw); got != c.code {
			t.Errorf("%d: code %d, want %d", i, got, c.code)
		}
	}
	for _, raw := range [][]byte{one, second} {
		for i, tx := range w.s.inbox.get(raw).txs {
			if !tx.verdict.known || !tx.verdict.holds {
				t.Errorf("transaction %d is not verified", i)
			}
		}
	}
	w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{one})
	if code(one) != CodeMsid || code(second) != CodeOK || len(w.s.inbox.order) != 1 {
		t.Error("after its block a message still waits, or its successor does not")
	}
	if out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, [][]byte{second}); out.Results[0].Code != CodeOK {
		t.Error(out)
	}
	if b := &w.s.inbox; len(b.order)+len(b.messages)+len(b.chains)+b.bytes != 0 {
		t.Error("the inbox is not empty")
	}
}

// The inbox is bounded: what is pushed out is verified in its block instead.
func TestInboxBounds(t *testing.T) {
	w := newWorld(t, 1)
	n := w.s.node(1)
	msid, root := n.Msid, n.MessageHash
	var block [][]byte
	for i := range maxInboxNode + 1 {
		m := NodeMessage{Node: 1, Msid: msid + 1, Time: w.s.Time(), Txs: [][]byte{w.sign(admin(1), SendOne{To: admin(1), Amount: types.Amount(i)})}}
		m.Sign(nodeSecret(1), root)
		raw, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		block, msid, root = append(block, raw), m.Msid, m.Root()
		if err := w.s.CheckMessage(raw); (err == nil) != (i < maxInboxNode) {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	b := &w.s.inbox
	for len(b.order) > 3 {
		b.remove(b.order[0])
		b.order = b.order[1:]
	}
	out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, block)
	for i, d := range out.Results {
		if d.Code != CodeOK {
			t.Fatalf("%d: %+v", i, d)
		}
	}
	for i := range 80 {
		big := &message{NodeMessage: &NodeMessage{Signature: [64]byte{byte(i)}}, raw: make([]byte, MaxMessage)}
		b.put(big)
	}
	if b.bytes > maxInbox || len(b.order) != maxInbox/MaxMessage || len(b.messages) != len(b.order) || b.messages[[64]byte{79}] == nil {
		t.Fatalf("%d bytes in %d messages", b.bytes, len(b.order))
	}
}

// treeHash in pieces is TreeHash.
func TestTreeHashPieces(t *testing.T) {
	var leaves []types.Hash
	for i := range 9*treeChunk + 3 {
		leaves = append(leaves, types.SHA256([]byte{byte(i), byte(i >> 8)}))
	}
	for k := range 10 {
		for _, d := range []int{-1, 0, 1, 2, 3} {
			n := max(k*treeChunk+d, 0)
			if treeHash(leaves[:n], testWorkers(2)) != TreeHash(leaves[:n]) {
				t.Fatalf("%d leaves", n)
			}
		}
	}
}
