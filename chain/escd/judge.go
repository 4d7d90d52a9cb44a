package escd

import (
	"fmt"
	"net/http"
	"sync"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

const (
	// maxSuspects bounds the messages that are looked at because their number is taken; each is up to a megabyte, and whoever sends
	// more of them at a time has one of them judged all the same.
	maxSuspects = 32
	// maxRecent bounds the executed messages that are told from others by their signatures: some minutes of a busy network.
	maxRecent = 4096
	// maxPromises bounds the receipts of our own transactions that are watched; one more takes the place of any other.
	maxPromises = 4096
)

// judge looks for nodes that contradict themselves, in what passes through this one: a message whose number another one has, and
// a receipt for a transaction of ours that was not kept. What it finds it puts into a block as evidence.
type judge struct {
	n *Node

	mu       sync.Mutex
	recent   map[numbered][64]byte         // signatures of the messages that blocks took last
	order    []numbered                    // of recent, the oldest first
	suspects map[types.Hash][]byte         // by the hash of their bytes
	promises map[types.Hash]ledger.Receipt // by the receipt's root
}

func newJudge() *judge {
	return &judge{recent: map[numbered][64]byte{}, suspects: map[types.Hash][]byte{}, promises: map[types.Hash]ledger.Receipt{}}
}

// numbered names a message.
type numbered struct {
	node uint16
	msid uint32
}

// signatureOf is a message's signature. No two messages have the same one.
func signatureOf(raw []byte) [64]byte { return [64]byte(raw[4:]) }

// took remembers a message that a block took, so that a copy that comes late from a peer is known without reading the block.
func (j *judge) took(raw []byte) {
	node, msid, ok := ledger.MessageHead(raw)
	if !ok {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.order) >= maxRecent {
		delete(j.recent, j.order[0])
		j.order = j.order[1:]
	}
	k := numbered{node, msid}
	j.order = append(j.order, k)
	j.recent[k] = signatureOf(raw)
}

// suspect remembers a message that was refused, or that has no use any more, because of its number.
func (j *judge) suspect(raw []byte) {
	node, msid, ok := ledger.MessageHead(raw)
	if !ok {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if sig, known := j.recent[numbered{node, msid}]; known && sig == signatureOf(raw) {
		return
	}
	if len(j.suspects) < maxSuspects {
		j.suspects[types.SHA256(raw)] = raw
	}
}

// promised remembers a valid receipt for a transaction that was sent on from here.
func (j *judge) promised(r ledger.Receipt) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.promises) >= maxPromises {
		for k := range j.promises {
			delete(j.promises, k)
			break
		}
	}
	j.promises[r.Root] = r
}

// run judges after every block.
func (j *judge) run() {
	for {
		_, next := j.n.app.wait()
		select {
		case <-j.n.live.Done():
			return
		case <-next:
			j.messages()
			j.receipts()
		}
	}
}

// messages compares each suspect with the message of its number that is on the ledger. One whose number nobody has used yet waits.
func (j *judge) messages() {
	j.mu.Lock()
	suspects := make(map[types.Hash][]byte, len(j.suspects))
	for k, raw := range j.suspects {
		suspects[k] = raw
	}
	j.mu.Unlock()
	for k, raw := range suspects {
		node, msid, _ := ledger.MessageHead(raw)
		if rec, err := j.n.node(node); err == nil && rec.Msid < msid && rec.Status&ledger.NodeDoubleSpend == 0 {
			continue
		}
		j.mu.Lock()
		delete(j.suspects, k)
		j.mu.Unlock()
		taken, err := j.n.escMessage(node, msid)
		if err != nil || types.SHA256(taken.Raw) == k {
			continue
		}
		for _, previous := range j.previous(node, msid) {
			j.charge(ledger.Evidence{Offence: ledger.OffenceMessages, Messages: []ledger.SignedMessage{
				{Previous: previous, Raw: taken.Raw}, {Previous: previous, Raw: raw}}})
		}
	}
}

// previous are the roots that a message with this number may have been signed after.
func (j *judge) previous(node uint16, msid uint32) (roots []types.Hash) {
	if msid > 1 {
		if before, err := j.n.escMessage(node, msid-1); err == nil {
			roots = append(roots, before.Message.Root)
		}
		return roots
	}
	rec, err := j.n.node(node)
	if err != nil {
		return nil
	}
	for _, key := range []types.Hash{rec.PublicKey, rec.OldKey} {
		if !key.IsZero() {
			roots = append(roots, ledger.FirstMessageRoot(j.n.app.params.Genesis, node, key))
		}
	}
	return roots
}

// receipts looks at every promise whose message is on the ledger, or should be.
func (j *judge) receipts() {
	head, _ := j.n.app.wait()
	j.mu.Lock()
	var due []ledger.Receipt
	for k, r := range j.promises {
		rec, err := j.n.node(r.Node)
		if err == nil && rec.Msid < r.Msid && head.Height <= r.Deadline {
			continue
		}
		due = append(due, r)
		delete(j.promises, k)
	}
	j.mu.Unlock()
	for _, r := range due {
		taken, err := j.n.escMessage(r.Node, r.Msid)
		if err != nil {
			j.charge(ledger.Evidence{Offence: ledger.OffenceOverdue, Receipt: r})
			continue
		}
		for _, previous := range j.previous(r.Node, r.Msid) {
			j.charge(ledger.Evidence{Offence: ledger.OffenceReceipt, Receipt: r, Messages: []ledger.SignedMessage{{Previous: previous, Raw: taken.Raw}}})
		}
	}
}

// charge puts evidence into a block if it convicts.
func (j *judge) charge(e ledger.Evidence) {
	e.Reporter = j.n.OwnAccount()
	raw := e.Encode()
	a := j.n.app
	a.mu.Lock()
	err := a.state.CheckEvidence(raw)
	a.mu.Unlock()
	if err != nil {
		return // as a rule: the message is not signed by the node, or it kept its promise
	}
	j.n.cfg.Logger.Warn("a ledger node has contradicted itself; the evidence goes to the validators", "offence", e.Offence)
	if _, err := j.n.intoMempool(raw); err != nil {
		j.n.cfg.Logger.Error("evidence against a ledger node could not be sent", "err", err)
	}
}

// node is a node's record at Head.
func (n *Node) node(id uint16) (ledger.Node, error) {
	n.app.mu.RLock()
	defer n.app.mu.RUnlock()
	return n.app.state.Node(id)
}

// postEvidence takes evidence from anybody: the bytes of the block transaction (docs/ledger.md).
func (o *office) postEvidence(w http.ResponseWriter, r *http.Request) {
	raw, ok := body(w, r, ledger.MaxEvidence)
	if !ok {
		return
	}
	if !ledger.IsEvidence(raw) {
		bad(w, "%d bytes that do not begin with 0xE1: want evidence", len(raw))
		return
	}
	refusal, err := o.n.intoMempool(raw)
	switch {
	case err != nil:
		failWith(w, err)
	case refusal != nil:
		failWith(w, refusal)
	default:
		answer(w, struct {
			Message string `json:"message"`
		}{fmt.Sprintf("the evidence of %d bytes goes to the validators", len(raw))})
	}
}
