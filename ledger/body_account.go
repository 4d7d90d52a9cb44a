package ledger

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/eschaton-network/chand/types"
)

const (
	// feeRemoteAccount is the fee of an account on another node (E17).
	feeRemoteAccount types.Amount = 1 << 20
	// MaxRequests bounds the accounts that wait for another node's acceptance (A19: 10,000).
	MaxRequests = 10_000
	// RequestBlocks is how many blocks a request waits; then the deposit returns.
	RequestBlocks = 64
	// MaxAccounts bounds the accounts of one node (A19: 2^27).
	MaxAccounts = 1 << 27
)

// CreateAccount makes an account with a key of its own, covered by the signature (the original's travelled in an unsigned tail,
// where a dishonest node could swap it). On the sender's own node it exists at once; on another node when that node accepts
// it with AcceptAccount within RequestBlocks. 177 bytes.
type CreateAccount struct {
	Node uint16
	// PublicKey zero means the sender's own key at that moment (the original's only form).
	PublicKey [32]byte
	// Proof is KeyProof of the new key's secret; zero when PublicKey is.
	Proof [64]byte
}

func (CreateAccount) kind() byte                        { return TypeCreateAccount }
func (CreateAccount) cost(types.AccountID) types.Amount { return NewAccountDeposit }
func (c CreateAccount) tail(b []byte) []byte            { return append(b, c.Proof[:]...) }

func (c CreateAccount) fee(from types.AccountID) types.Amount {
	if c.Node != from.Node {
		return feeRemoteAccount
	}
	return feeBase
}

func (c CreateAccount) check() *Refusal {
	if c.PublicKey == [32]byte{} && c.Proof != [64]byte{} {
		return refuse(CodeKeyProof, "a proof without a key: both are zero when the new account has the sender's key")
	}
	return nil
}

func (c CreateAccount) signed(b []byte) []byte {
	return append(binary.LittleEndian.AppendUint16(b, c.Node), c.PublicKey[:]...)
}

func readCreateAccount(r *reader, sig func()) Body {
	c := CreateAccount{Node: r.u16(), PublicKey: r.hash()}
	sig()
	c.Proof = r.signature()
	return c
}

// key is the new account's.
func (c CreateAccount) key(x *exec) types.Hash {
	if c.PublicKey == [32]byte{} {
		return x.s.peek(x.from).PublicKey
	}
	return c.PublicKey
}

func (c CreateAccount) request(x *exec) requestKey {
	return requestKey{node: c.Node, requester: x.from, key: c.key(x)}
}

func (c CreateAccount) verify(x *exec) *Refusal {
	n := x.s.node(c.Node)
	switch {
	case n == nil:
		return refuse(CodeTargetNode, "node %d does not exist", c.Node)
	case !x.s.room(n):
		return refuse(CodeCreateAccount, "node %d has %d accounts, no more fit", c.Node, MaxAccounts)
	}
	if c.Node != x.from.Node {
		if r := x.s.mayRequest(c.request(x), n); r != nil {
			return r
		}
	}
	if c.PublicKey != [32]byte{} {
		if r := verifyKeyProof(x, c.PublicKey, c.Proof); r != nil {
			return r
		}
	}
	return x.s.admits(c.key(x), RoleAccount)
}

func (c CreateAccount) apply(x *exec) {
	key := c.key(x)
	if c.Node != x.from.Node {
		k := c.request(x)
		x.s.requests.add(k, x.height)
		x.emit(AccountRequested{Requester: x.from, Node: c.Node, PublicKey: key, State: RequestWaits})
		return
	}
	id := x.s.newAccount(c.Node, key, NewAccountDeposit)
	creator, made := x.s.record(x.from), x.s.record(id)
	creator.PairedNode, creator.PairedID = 0, id.User // E17: how the creator learns the number
	made.PairedNode, made.PairedID = x.from.Node, x.from.User
	x.emit(AccountCreated{ID: id, PublicKey: key})
	x.emit(Deposited{From: x.from, To: id, Amount: NewAccountDeposit})
}

// requestKey names what an acceptance must fit.
type requestKey struct {
	node      uint16
	requester types.AccountID
	key       types.Hash
}

// request is an account that waits for another node's acceptance; the state holds its deposit.
type request struct {
	requestKey
	at   types.Height
	done bool
}

// requests are in the order in which they were made.
type requests struct {
	list []*request
	open map[requestKey]*request
}

func (q *requests) add(k requestKey, at types.Height) {
	r := &request{requestKey: k, at: at}
	q.list = append(q.list, r)
	q.open[k] = r
}

// take removes a request.
func (q *requests) take(r *request) {
	r.done = true
	delete(q.open, r.requestKey)
}

// mayRequest refuses what could never be accepted, or is too much.
func (s *State) mayRequest(k requestKey, n *ledgerNode) *Refusal {
	switch {
	case n.Status&NodeDoubleSpend != 0:
		return refuse(CodeTargetNode, "node %d is closed and accepts no accounts", k.node)
	case s.requests.open[k] != nil:
		return refuse(CodeCreateAccount, "account %s waits already for an account of this key on node %d, until block %d", k.requester, k.node, s.requests.open[k].at+RequestBlocks)
	case len(s.requests.open) >= MaxRequests:
		return refuse(CodeBusy, "%d accounts wait for their nodes; try again in %d blocks", MaxRequests, RequestBlocks)
	}
	return nil
}

// Requests lists the accounts that wait for this node's acceptance, oldest first. What it accepts goes into its next message.
func (s *State) Requests(node uint16) (out []AcceptAccount) {
	for _, r := range s.requests.list {
		if r.node == node && !r.done {
			out = append(out, AcceptAccount{Requester: r.requester, PublicKey: r.key})
		}
	}
	return out
}

// matchRequests makes the accounts that this block's messages accepted, whether the request came before or after in the block, and
// returns the deposits of those that waited too long.
func (s *State) matchRequests(log *eventLog) {
	for _, k := range s.end.accepted {
		r := s.requests.open[k]
		e := AccountRequested{Requester: k.requester, Node: k.node, PublicKey: k.key, State: RequestLate}
		if r != nil && s.room(s.node(k.node)) {
			s.requests.take(r)
			e.State = RequestAccepted
			e.ID = s.newAccount(k.node, k.key, NewAccountDeposit)
			s.node(k.node).profit += (feeRemoteAccount - feeBase) >> shareShift
			log.emit(AccountCreated{ID: e.ID, PublicKey: k.key})
			log.emit(Deposited{From: k.requester, To: e.ID, Amount: NewAccountDeposit})
		}
		log.emit(e)
	}
	for _, r := range s.requests.list {
		if r.at+RequestBlocks > s.height {
			break
		}
		if !r.done {
			s.requests.take(r)
			s.credit(r.requester, NewAccountDeposit, true)
			log.emit(Deposited{To: r.requester, Amount: NewAccountDeposit})
			log.emit(AccountRequested{Requester: r.requester, Node: r.node, PublicKey: r.key, State: RequestFailed})
		}
	}
	s.requests.list = slices.DeleteFunc(s.requests.list, func(r *request) bool { return r.done })
}

// append writes the requests as they are hashed and stored in snapshots.
func (q *requests) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(q.open)))
	for _, r := range q.list {
		if r.done {
			continue
		}
		n := accountBytes(r.requester)
		b = binary.LittleEndian.AppendUint16(b, r.node)
		b = append(append(b, n[:]...), r.key[:]...)
		b = binary.LittleEndian.AppendUint32(b, uint32(r.at))
	}
	return b
}

func (d *decoder) requests(s *State) {
	last := types.Height(0)
	for range d.count("requests for accounts", MaxRequests) {
		k := requestKey{node: d.u16(), requester: types.AccountID{Node: d.u16(), User: d.u32()}, key: d.hash()}
		at := types.Height(d.u32())
		if d.err != nil {
			return
		}
		if s.node(k.node) == nil || s.peek(k.requester) == nil || s.requests.open[k] != nil || at < last || at > s.height {
			d.fail("request of %s for an account on node %d is malformed", k.requester, k.node)
			return
		}
		last = at
		s.requests.add(k, at)
	}
}

// freeze returns what a snapshot holds.
func (q *requests) freeze() requests {
	f := requests{open: maps.Clone(q.open)}
	for _, r := range q.list {
		c := *r
		f.list = append(f.list, &c)
	}
	return f
}
