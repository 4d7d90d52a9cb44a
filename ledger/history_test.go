package ledger

import (
	"fmt"

	"pgregory.net/rapid"

	"github.com/eschaton-network/chand/types"
)

// rules queues one of the original's other transactions.
func (h *history) rules(t *rapid.T) {
	from := h.any(t, "from")
	if rapid.Bool().Draw(t, "admin") {
		from = admin(uint16(rapid.IntRange(1, 2).Draw(t, "which")))
	}
	node := uint16(rapid.IntRange(0, 3).Draw(t, "node"))
	bits := uint32(1) << rapid.IntRange(1, 31).Draw(t, "bit")
	secret := secretOf(fmt.Sprint("key ", rapid.IntRange(0, 9).Draw(t, "key")))
	var body Body
	switch rapid.SampledFrom([]int{0, 1, 1, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 9, 9}).Draw(t, "kind") {
	case 0:
		body = CreateNode{}
	case 1:
		i := rapid.IntRange(0, 3).Draw(t, "owner")
		from, body = h.users[i], RetrieveFunds{h.users[i^1]} // of one key, on two nodes
	case 2:
		body = ChangeNodeKey{Node: min(node, 1), PublicKey: PublicKey(secret), Proof: KeyProof(secret)}
	case 3:
		body = SetAccountStatus{h.any(t, "target"), max(uint16(bits), 2)}
	case 4:
		body = UnsetAccountStatus{h.any(t, "target"), max(uint16(bits), 2)}
	case 5:
		from, body = admin(1), SetNodeStatus{node, max(bits, 8)}
	case 6:
		from, body = admin(2), UnsetNodeStatus{2, max(bits, 8)}
	case 7:
		body = LogAccount{}
	case 8:
		body = CreateAccount{Node: node, PublicKey: PublicKey(secret), Proof: KeyProof(secret)}
	case 9: // all money at once: the account will be used up
		from = h.any(t, "spender")
		all := SendOne{To: admin(from.Node), Amount: h.s.available(from, h.s.peek(from)) - types.Amount(rapid.IntRange(0, 1<<20).Draw(t, "left"))}
		all.Amount -= Fee(from, all)
		body = all
	}
	h.queue(from, body)
}

// registry queues one of the transactions that are ours.
func (h *history) registry(t *rapid.T) {
	from := h.any(t, "from")
	c := IssueCertificate{Subject: h.any(t, "subject"), Type: uint16(rapid.IntRange(0, 1).Draw(t, "type")), Expires: h.s.Time() + types.Time(rapid.IntRange(0, 9).Draw(t, "expiry"))}
	switch rapid.IntRange(0, 6).Draw(t, "kind") {
	case 0:
		h.queue(from, c)
	case 1:
		h.queue(from, UpdateCertificate(c))
	case 2:
		h.queue(from, RevokeCertificate{c.Subject, c.Type})
	case 3:
		h.queue(from, AnchorPairs{make([]Pair, rapid.IntRange(1, 3).Draw(t, "pairs"))})
	case 4:
		key := PublicKey(secretOf(fmt.Sprint("key ", rapid.IntRange(0, 9).Draw(t, "key"))))
		h.queue(admin(1), Enrol{PublicKey: key, Roles: uint8(rapid.IntRange(0, 3).Draw(t, "roles"))})
	case 5:
		p := h.s.Policy()
		p.Version, p.Enrolled = p.Version+1, rapid.Bool().Draw(t, "enrolled")
		h.queue(admin(1), SetPolicy{Policy: p})
	case 6:
		h.queue(from, Lease{Node: 1, Amount: h.amount(t) + MinLease})
	}
}

// speaks puts a message of node 2 into the next block, with what it accepts and where it listens.
func (h *history) speaks(t *rapid.T) {
	if len(h.messages) > 0 {
		t.Skip("one a block")
	}
	txs := [][]byte{Connection{Port: uint16(rapid.IntRange(0, 3).Draw(t, "port"))}.Bytes()}
	for _, a := range h.s.Requests(2) {
		txs = append(txs, a.Bytes(2, h.s.Time()))
	}
	h.messages = append(h.messages, h.message(2, txs...))
}
