package ledger

import (
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/eschaton-network/chand/types"
)

// A second ledger, slow and obvious: maps and slices, every rule one function, every account visited in every block. It was written from
// docs/ledger.md and the facts on the original, not from the rules' code; TestModel compares the two after every block.
// It shares with the ledger the bytes of transactions (which golden vectors guard) and nothing of what they do.

type modelAccount struct {
	Record
	deletedAt types.Height // 0: it is not deleted
}

type modelNode struct {
	Node
	accounts []*modelAccount
	profit   types.Amount
}

type modelTx struct {
	*Tx
	place Place
}

type modelRequest struct {
	requestKey
	at types.Height
}

type modelVote struct {
	vote
	by  uint16
	set bool
}

type modelLedger struct {
	g       Genesis
	genesis types.Hash
	height  types.Height
	time    types.Time
	pool    types.Amount
	nodes   []*modelNode
	bonds   map[BondKey]types.Amount
	vals    []Validator
	queue   map[types.Height][]modelTx
	reqs    []modelRequest
	certs   map[CertificateKey]Certificate
	roles   map[types.Hash]uint8
	policy  Policy
	// factor and start are those of the dividend period.
	factor types.Amount
	start  types.Time

	// What the block leaves to its end.
	accepted   []requestKey
	keys       []nodeKey
	votes      []modelVote
	newNodes   []newNode
	retrievals []retrieval
	reelect    bool

	results []TxDone
	block   []uint32
}

func newModel(g Genesis) *modelLedger {
	g, _ = g.normal()
	m := &modelLedger{
		g: g, time: g.Time, start: g.Time, pool: 1 << 62, bonds: map[BondKey]types.Amount{}, queue: map[types.Height][]modelTx{},
		certs: map[CertificateKey]Certificate{}, roles: map[types.Hash]uint8{},
		policy: Policy{Enrolled: g.Admission == "enrolled", Admins: slices.Clone(g.Admins)},
	}
	m.genesis, _ = g.Hash()
	for i, n := range g.Nodes {
		balance := types.Amount(4565569158243113984/int64(len(g.Nodes)) - int64(i+1))
		m.addNode(n.PublicKey)
		m.addAccount(uint16(i+1), n.Account0, balance)
		m.nodes[i].accounts[0].PairedNode = uint16(i + 1)
		m.pool -= balance
		if len(g.Authorities) == 0 && i < int(g.VIPMax) {
			m.vals = append(m.vals, Validator{uint16(i + 1), n.PublicKey, 10})
		}
	}
	m.mark()
	return m
}

func (m *modelLedger) node(id uint16) *modelNode {
	if id == 0 || int(id) > len(m.nodes) {
		return nil
	}
	return m.nodes[id-1]
}

func (m *modelLedger) account(id types.AccountID) *modelAccount {
	if n := m.node(id.Node); n != nil && int(id.User) < len(n.accounts) {
		return n.accounts[id.User]
	}
	return nil
}

func (m *modelLedger) stamp() uint32 { return uint32(max(m.time, m.start)) }

func (m *modelLedger) periodTime() types.Time {
	return types.Time(int64(m.g.DividendBlocks) * int64(m.g.BlockMillis) / 1000)
}

func idBytes(id types.AccountID) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint16(nil, id.Node), id.User)
}

func (m *modelLedger) fresh(key types.Hash, hash types.Hash) *modelAccount {
	return &modelAccount{Record: Record{Msid: 1, Time: uint32(m.time), PublicKey: key, Hash: hash, LocalChange: uint32(m.time), RemoteChange: m.stamp()}}
}

func (m *modelLedger) addAccount(node uint16, key types.Hash, balance types.Amount) types.AccountID {
	n := m.node(node)
	id := types.AccountID{Node: node, User: uint32(len(n.accounts))}
	a := m.fresh(key, types.SHA256(m.genesis[:], idBytes(id), make([]byte, 4), key[:]))
	a.Balance = balance
	n.accounts = append(n.accounts, a)
	return id
}

func (m *modelLedger) addNode(key types.Hash) uint16 {
	id := uint16(len(m.nodes) + 1)
	n := &modelNode{}
	n.PublicKey, n.Active = key, m.height
	n.MessageHash = types.TaggedHash("chand/node", m.genesis[:], binary.LittleEndian.AppendUint16(nil, id), key[:])
	m.nodes = append(m.nodes, n)
	return id
}

// newAccount reuses the number that was deleted first, 40 periods after that, or appends.
func (m *modelLedger) newAccount(node uint16, key types.Hash, balance types.Amount) types.AccountID {
	var first types.AccountID
	found := false
	for user, a := range m.node(node).accounts {
		if a.deletedAt != 0 && (!found || a.deletedAt < m.account(first).deletedAt) {
			first, found = types.AccountID{Node: node, User: uint32(user)}, true
		}
	}
	if !found || int64(m.height) < int64(m.account(first).deletedAt)+40*int64(m.g.DividendBlocks) {
		return m.addAccount(node, key, balance)
	}
	m.replace(first, key)
	m.account(first).Balance = balance
	return first
}

func (m *modelLedger) replace(id types.AccountID, key types.Hash) {
	m.pool += m.account(id).Balance
	hash := types.SHA256(m.genesis[:], idBytes(id), binary.LittleEndian.AppendUint32(nil, uint32(m.height)), key[:])
	m.node(id.Node).accounts[id.User] = m.fresh(key, hash)
}

// dividend is what the running period changes a balance by, and the maintenance fee in it.
func (m *modelLedger) dividend(a *modelAccount) (change, fee types.Amount) {
	if int64(a.RemoteChange) >= int64(m.start) || a.deletedAt != 0 {
		return 0, 0
	}
	const year = 365 * 24 * 3600
	idle := int64(m.start) - int64(a.LocalChange)
	if idle <= year {
		change += a.Balance / 65536 * m.factor
	}
	if idle > 2*year {
		change -= a.Balance / 1000
	}
	fee = min(1<<20, a.Balance+change)
	return change - fee, fee
}

// settle pays the dividend of the period, once, before anything else changes a balance.
func (m *modelLedger) settle(id types.AccountID) *modelAccount {
	a := m.account(id)
	if int64(a.RemoteChange) < int64(m.start) && a.deletedAt == 0 {
		change, fee := m.dividend(a)
		a.Balance += change
		m.pool -= change
		m.node(id.Node).profit += fee / 16
		a.RemoteChange = m.stamp()
	}
	return a
}

func (m *modelLedger) spendable(id types.AccountID) types.Amount {
	a := m.account(id)
	change, _ := m.dividend(a)
	have := a.Balance + change
	if id.User == 0 {
		have -= 1 << 28
	}
	return max(have, 0)
}

// credit pays an account; money revives a deleted one.
func (m *modelLedger) credit(id types.AccountID, amount types.Amount, remote bool) {
	a := m.account(id)
	if amount > 0 && a.deletedAt != 0 {
		a.deletedAt, a.Status, a.PairedID, a.RemoteChange = 0, a.Status&^1, 0, m.stamp()
	}
	m.settle(id).Balance += amount
	if remote {
		a.RemoteChange = m.stamp()
	}
}

// lockedBy tells whether another node's account holds this one, its lock time over.
func (m *modelLedger) bound(id types.AccountID, a *modelAccount) bool {
	return a.PairedNode != 0 && a.PairedNode != id.Node && int64(a.Time)+int64(m.periodTime()) <= int64(m.time)
}

func (m *modelLedger) mayAct(tx *Tx) uint32 {
	a := m.account(tx.From)
	if a.deletedAt != 0 {
		return 2
	}
	if one, ok := tx.Body.(SendOne); m.bound(tx.From, a) && !(ok && one.To == tx.From && one.Amount <= 0) {
		return 47
	}
	return 0
}

func goodSignature(key types.Hash, msg []byte, sig [64]byte) bool {
	return ed25519.Verify(key[:], msg, sig[:])
}

func (m *modelLedger) signed(tx *Tx) bool {
	a := m.account(tx.From)
	return goodSignature(a.PublicKey, append(a.Hash[:], tx.signedBytes...), tx.Signature)
}

// execute takes one user transaction; the code is 0 when it did what it says.
func (m *modelLedger) execute(tx *Tx, place Place) uint32 {
	if code := modelForm(tx.Body); code != 0 {
		return code
	}
	a := m.account(tx.From)
	switch {
	case a == nil:
		return 2
	case tx.Msid != a.Msid:
		return 11
	case int64(tx.Time) > int64(m.time)+60:
		return 21
	case !m.signed(tx):
		return 15
	}
	if code := m.mayAct(tx); code != 0 {
		return code
	}
	fee, cost, remote := modelPrice(tx.From, tx.Body)
	have := m.spendable(tx.From)
	if have < fee {
		return 9
	}
	// From here on the transaction has its number and pays, whatever comes.
	m.settle(tx.From)
	a.Balance -= fee
	m.pool += fee
	a.Msid++
	a.Time, a.LocalChange = uint32(tx.Time), uint32(m.time)
	sig := sha256.Sum256(tx.Signature[:])
	a.Hash = types.SHA256(a.Hash[:], sig[:])
	a.PairedNode, a.PairedID = 0, 0
	if place.Node != 0 {
		local := fee
		for _, r := range remote {
			local -= r.fee
		}
		m.node(tx.From.Node).profit += local / 16
	}
	if have-fee < cost {
		return 9
	}
	if code := m.refuses(tx.From, tx.Body); code != 0 {
		return code
	}
	a.Balance -= cost
	m.do(tx.From, tx.Body)
	if tx.Body.kind() != TypeCreateAccount {
		for _, r := range remote {
			if r.to.User != 0 {
				m.node(r.to.Node).profit += r.fee / 16
			}
		}
	}
	return 0
}

type remoteFee struct {
	to  types.AccountID
	fee types.Amount
}

// modelPrice is the table of fees, what else leaves the sender, and which parts of the fee are for other nodes.
func modelPrice(from types.AccountID, b Body) (fee, cost types.Amount, remote []remoteFee) {
	pay := func(to types.AccountID, a types.Amount) {
		fee += a / 8192
		if to.Node != from.Node {
			fee += a / 8192
			remote = append(remote, remoteFee{to, a / 8192})
		}
		cost += a
	}
	switch b := b.(type) {
	case SendOne:
		fee = 4096
		pay(b.To, max(b.Amount, 0))
	case SendMany:
		fee = 4096 + 256*types.Amount(len(b.Wires))
		for _, w := range b.Wires {
			pay(w.To, w.Amount)
		}
	case Broadcast:
		fee = 4096 + 65536*types.Amount(len(b.Data))
	case Anchor:
		fee = 4096 + 65536*types.Amount(len(b.Hashes))
	case AnchorPairs:
		fee = 4096 + 2*65536*types.Amount(len(b.Pairs))
	case CreateAccount:
		fee, cost = 4096, 1<<28
		if b.Node != from.Node {
			fee = 1 << 20
			remote = []remoteFee{{types.AccountID{Node: b.Node}, 1<<20 - 4096}}
		}
	case CreateNode:
		fee, cost = 1<<28, 1<<36
	case RetrieveFunds, LogAccount, CancelLease, IssueCertificate:
		fee = 1 << 20
	case Lease:
		fee, cost = 1<<20, b.Amount
	case ChangeAccountKey:
		fee = 4096
	case ChangeNodeKey:
		fee = 1 << 28
	case SetAccountStatus, UnsetAccountStatus, SetNodeStatus, UnsetNodeStatus, UpdateCertificate, RevokeCertificate, Enrol:
		fee = 65536
	case SetPolicy:
		fee = 65536 * types.Amount(1+len(b.Signatures))
	}
	return fee, cost, remote
}

// modelForm is what can be told from a transaction alone.
func modelForm(b Body) uint32 {
	leased := func(a types.Amount) uint32 {
		if a <= 0 || a > 1<<62 {
			return 18
		}
		return 0
	}
	status := func(bits uint16) uint32 {
		if bits == 0 || bits&1 != 0 {
			return 45
		}
		return 0
	}
	nodeStatus := func(bits uint32) uint32 {
		if bits == 0 || bits&7 != 0 {
			return 48
		}
		return 0
	}
	count := func(n, most int) uint32 {
		if n == 0 || n > most {
			return 32
		}
		return 0
	}
	switch b := b.(type) {
	case SendOne:
		if b.Amount > 1<<62 {
			return 9
		}
	case SendMany:
		return modelWires(b.Wires)
	case Broadcast:
		return count(len(b.Data), 32000)
	case Anchor:
		return count(len(b.Hashes), 256)
	case AnchorPairs:
		return count(len(b.Pairs), 128)
	case CreateAccount:
		if b.PublicKey == ([32]byte{}) && b.Proof != ([64]byte{}) {
			return 256
		}
	case Lease:
		return leased(b.Amount)
	case CancelLease:
		return leased(b.Amount)
	case SetAccountStatus:
		return status(b.Bits)
	case UnsetAccountStatus:
		return status(b.Bits)
	case SetNodeStatus:
		return nodeStatus(b.Bits)
	case UnsetNodeStatus:
		return nodeStatus(b.Bits)
	case Enrol:
		if b.Roles > 3 {
			return 276
		}
	case SetPolicy:
		if b.Enrolled && len(b.Admins) == 0 {
			return 276
		}
	}
	return 0
}

func modelWires(wires []Wire) uint32 {
	if len(wires) == 0 || len(wires) > 4096 {
		return 32
	}
	for i, w := range wires {
		for _, v := range wires[:i] {
			if v.To == w.To {
				return 16
			}
		}
	}
	sum := uint64(0)
	for _, w := range wires {
		if w.Amount <= 0 {
			return 18
		}
		if sum += uint64(w.Amount); sum > 1<<62 {
			return 9
		}
	}
	return 0
}

func (m *modelLedger) target(id types.AccountID) uint32 {
	if m.node(id.Node) == nil {
		return 20
	}
	if m.account(id) == nil {
		return 19
	}
	return 0
}

func provenKey(key types.Hash, proof [64]byte) uint32 {
	if !goodSignature(key, nil, proof) {
		return 256
	}
	return 0
}

func (m *modelLedger) admits(key types.Hash, role uint8) uint32 {
	if m.policy.Enrolled && m.roles[key]&role == 0 {
		return 275
	}
	return 0
}

func (m *modelLedger) hasNode(key types.Hash) bool {
	return slices.ContainsFunc(m.nodes, func(n *modelNode) bool { return n.PublicKey == key || n.OldKey == key })
}

// first returns the first code that is not 0, of checks in their order.
func first(checks ...func() uint32) uint32 {
	for _, c := range checks {
		if code := c(); code != 0 {
			return code
		}
	}
	return 0
}

func when(is bool, code uint32) func() uint32 {
	return func() uint32 {
		if is {
			return code
		}
		return 0
	}
}

// refuses is what the state does not allow.
func (m *modelLedger) refuses(from types.AccountID, b Body) uint32 {
	sender := m.account(from)
	switch b := b.(type) {
	case SendOne:
		return m.target(b.To)
	case SendMany:
		for _, w := range b.Wires {
			if code := m.target(w.To); code != 0 {
				return code
			}
		}
	case CreateAccount:
		return m.refusesAccount(from, b)
	case ChangeAccountKey:
		return first(func() uint32 { return provenKey(b.PublicKey, b.Proof) }, func() uint32 { return m.admits(b.PublicKey, 1) })
	case CreateNode:
		return first(when(m.hasNode(sender.PublicKey), 27), func() uint32 { return m.admits(sender.PublicKey, 2) })
	case ChangeNodeKey:
		return m.refusesNodeKey(from, b)
	case RetrieveFunds:
		return first(func() uint32 { return m.target(b.Account) }, func() uint32 { _, code := m.phase(retrieval{from, b.Account}); return code })
	case SetAccountStatus:
		return m.refusesStatus(from, b)
	case UnsetAccountStatus:
		return m.refusesStatus(from, SetAccountStatus(b))
	case SetNodeStatus:
		return m.refusesNodeStatus(from, b)
	case UnsetNodeStatus:
		return m.refusesNodeStatus(from, SetNodeStatus(b))
	case Lease:
		n := m.node(b.Node)
		return first(when(n == nil, 20), func() uint32 { return when(n.Status&1 != 0, 20)() })
	case CancelLease:
		return when(m.bonds[BondKey{Node: b.Node, From: from}] < b.Amount, 272)()
	case IssueCertificate:
		old, had := m.certs[CertificateKey{from, b.Subject, b.Type}]
		return first(func() uint32 { return m.target(b.Subject) },
			func() uint32 { return when(m.account(b.Subject).deletedAt != 0, 19)() },
			when(int64(b.Expires) <= int64(m.time), 274),
			when(had && !old.Revoked && m.time < old.Expires, 274))
	case UpdateCertificate:
		return first(when(!m.holds(CertificateKey{from, b.Subject, b.Type}), 274), when(int64(b.Expires) <= int64(m.time), 274))
	case RevokeCertificate:
		return when(!m.holds(CertificateKey{from, b.Subject, b.Type}), 274)()
	case Enrol:
		return when(!slices.Contains(m.policy.Admins, from), 276)()
	case SetPolicy:
		return m.refusesPolicy(from, b)
	}
	return 0
}

func (m *modelLedger) holds(k CertificateKey) bool {
	c, ok := m.certs[k]
	return ok && !c.Revoked && m.time < c.Expires
}

func (m *modelLedger) refusesAccount(from types.AccountID, b CreateAccount) uint32 {
	n, key := m.node(b.Node), types.Hash(b.PublicKey)
	if n == nil {
		return 20
	}
	if b.PublicKey == ([32]byte{}) {
		key = m.account(from).PublicKey
	}
	if b.Node != from.Node {
		if n.Status&1 != 0 {
			return 20
		}
		if slices.ContainsFunc(m.reqs, func(r modelRequest) bool { return r.requestKey == requestKey{b.Node, from, key} }) {
			return 13
		}
		if len(m.reqs) >= 10000 {
			return 271
		}
	}
	if b.PublicKey != ([32]byte{}) && provenKey(key, b.Proof) != 0 {
		return 256
	}
	return m.admits(key, 1)
}

func (m *modelLedger) refusesNodeKey(from types.AccountID, b ChangeNodeKey) uint32 {
	id := b.Node
	if id == 0 {
		id = from.Node
	}
	n := m.node(id)
	if n == nil {
		return 20
	}
	own := m.node(from.Node)
	closed, opener := n.Status&1 != 0, own.Status&4 != 0 && own.Status&1 == 0
	return first(when(from.User != 0, 27), when(closed && !opener, 27), when(!closed && id != from.Node, 27), when(!closed && m.keyFixed(n), 27), when(m.hasNode(b.PublicKey), 27),
		func() uint32 { return provenKey(b.PublicKey, b.Proof) }, func() uint32 { return m.admits(b.PublicKey, 2) })
}

func (m *modelLedger) refusesStatus(from types.AccountID, b SetAccountStatus) uint32 {
	may := uint16(0x000E) // A19: bits 1 to 3 for all of the node
	if from.User == 0 || from == b.Account {
		may = 0xFFFE
	}
	return first(func() uint32 { return m.target(b.Account) }, when(from.Node != b.Account.Node, 49),
		func() uint32 { return when(m.account(b.Account).deletedAt != 0, 19)() }, when(b.Bits&^may != 0, 45))
}

func (m *modelLedger) refusesNodeStatus(from types.AccountID, b SetNodeStatus) uint32 {
	may := uint32(0)
	if from.User == 0 && from.Node == b.Node {
		may |= 0xFFF8 // bits 3 to 15: the node's own
	}
	if from.User == 0 && m.node(from.Node).Status&2 != 0 {
		may |= 0xFFFF0000 // any validator's, and those that they vote on
	}
	return first(when(m.node(b.Node) == nil, 20), when(b.Bits&^may != 0, 48))
}

func (m *modelLedger) refusesPolicy(from types.AccountID, b SetPolicy) uint32 {
	at := slices.Index(m.policy.Admins, from)
	if at < 0 || b.Version != m.policy.Version+1 || b.Signers>>at&1 != 0 || bits.Len16(b.Signers) > len(m.policy.Admins) ||
		2*(1+len(b.Signatures)) <= len(m.policy.Admins) {
		return 276
	}
	h, i := types.TaggedHash("chand/policy consent", m.genesis[:], b.Policy.append(nil)), 0
	for j, a := range m.policy.Admins {
		if b.Signers>>j&1 == 0 {
			continue
		}
		if !goodSignature(m.account(a).PublicKey, h[:], b.Signatures[i]) {
			return 276
		}
		i++
	}
	for _, a := range b.Admins {
		if code := m.target(a); code != 0 {
			return code
		}
		if m.account(a).deletedAt != 0 {
			return 19
		}
	}
	return 0
}

// do is what an accepted transaction does.
func (m *modelLedger) do(from types.AccountID, b Body) {
	switch b := b.(type) {
	case SendOne:
		m.credit(b.To, max(b.Amount, 0), b.To.Node != from.Node)
	case SendMany:
		for _, w := range b.Wires {
			m.credit(w.To, w.Amount, w.To.Node != from.Node)
		}
	case CreateAccount:
		key := types.Hash(b.PublicKey)
		if b.PublicKey == ([32]byte{}) {
			key = m.account(from).PublicKey
		}
		if b.Node != from.Node {
			m.reqs = append(m.reqs, modelRequest{requestKey{b.Node, from, key}, m.height})
			return
		}
		id := m.newAccount(b.Node, key, 1<<28)
		m.account(from).PairedNode, m.account(from).PairedID = 0, id.User
		m.account(id).PairedNode, m.account(id).PairedID = from.Node, from.User
	case ChangeAccountKey:
		m.account(from).PublicKey = b.PublicKey
	case CreateNode:
		m.newNodes = append(m.newNodes, newNode{from, m.account(from).PublicKey})
	case ChangeNodeKey:
		id := b.Node
		if id == 0 {
			id = from.Node
		}
		m.keys = append(m.keys, nodeKey{id, b.PublicKey, m.node(id).Status&1 != 0})
	case RetrieveFunds:
		m.retrievals = append(m.retrievals, retrieval{from, b.Account})
	case SetAccountStatus:
		m.account(b.Account).Status |= b.Bits
	case UnsetAccountStatus:
		m.account(b.Account).Status &^= b.Bits
	case SetNodeStatus:
		m.node(b.Node).Status |= b.Bits & 0xFFFFFF
		m.voteFor(from.Node, b, true)
	case UnsetNodeStatus:
		m.node(b.Node).Status &^= b.Bits & 0xFFFFFF
		m.voteFor(from.Node, SetNodeStatus(b), false)
	case Lease:
		m.bonds[BondKey{Node: b.Node, From: from}] += b.Amount
	case CancelLease:
		m.bonds[BondKey{Node: b.Node, From: from}] -= b.Amount
		m.bonds[BondKey{b.Node, from, m.height + types.Height(m.g.UnbondingBlocks)}] += b.Amount
	case IssueCertificate:
		k := CertificateKey{from, b.Subject, b.Type}
		m.certs[k] = Certificate{CertificateKey: k, Content: b.Content, Issued: m.height, Changed: m.height, Expires: b.Expires}
	case UpdateCertificate:
		c := m.certs[CertificateKey{from, b.Subject, b.Type}]
		c.Content, c.Expires, c.Changed = b.Content, b.Expires, m.height
		m.certs[c.CertificateKey] = c
	case RevokeCertificate:
		c := m.certs[CertificateKey{from, b.Subject, b.Type}]
		c.Revoked, c.Changed = true, m.height
		m.certs[c.CertificateKey] = c
	case Enrol:
		if m.roles[b.PublicKey] = b.Roles; b.Roles == 0 {
			delete(m.roles, b.PublicKey)
		}
	case SetPolicy:
		m.policy = b.Policy
	}
}

func (m *modelLedger) voteFor(by uint16, b SetNodeStatus, set bool) {
	for i := 24; i < 32; i++ {
		if bit := uint32(1) << i; b.Bits&bit != 0 {
			m.votes = append(m.votes, modelVote{vote{b.Node, bit}, by, set})
		}
	}
}

// phase says what a retrieval does at this time: 1 locks, 2 pays.
func (m *modelLedger) phase(c retrieval) (int, uint32) {
	t, lock := m.account(c.from), int64(m.periodTime())
	switch {
	case c.by.Node == c.from.Node:
		return 0, 20
	case t.deletedAt != 0:
		return 0, 19
	case t.PublicKey != m.account(c.by).PublicKey:
		return 0, 35
	}
	if t.PairedNode == c.by.Node && t.PairedID == c.by.User {
		if int64(m.time) < int64(t.Time)+lock {
			return 0, 47
		}
		return 2, 0
	}
	if int64(m.time) < int64(max(t.Time, t.LocalChange))+lock {
		return 0, 47
	}
	return 1, 0
}

// pinned accounts are never deleted: somebody relies on who owns them.
func (m *modelLedger) pinned(id types.AccountID) bool {
	for k, a := range m.bonds {
		if k.From == id && a != 0 {
			return true
		}
	}
	for k := range m.certs {
		if k.Issuer == id || k.Subject == id {
			return true
		}
	}
	return slices.Contains(m.policy.Admins, id)
}

func (m *modelLedger) leased(node uint16) (sum types.Amount) {
	for k, a := range m.bonds {
		if k.Node == node && k.Due == 0 {
			sum += a
		}
	}
	return sum
}

func (m *modelLedger) weight(node uint16) (sum types.Amount) {
	for _, a := range m.node(node).accounts {
		sum += a.Balance
	}
	return sum
}

// cut closes a node and takes an eighth of its bond.
func (m *modelLedger) cut(node uint16, reporter types.AccountID) {
	m.node(node).Status |= 1
	m.reelect = true
	a := m.settle(types.AccountID{Node: node})
	total := a.Balance / 8
	a.Balance -= total
	for k := range m.bonds {
		if k.Node == node {
			part := m.bonds[k] / 8
			m.bonds[k] -= part
			total += part
		}
	}
	reward := types.Amount(0)
	if m.account(reporter) != nil && reporter.Node != node {
		reward = total / 16
		m.credit(reporter, reward, true)
	}
	m.pool += total - reward
}

func sortedBonds(bonds map[BondKey]types.Amount) []BondKey {
	var keys []BondKey
	for k := range bonds {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b BondKey) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.From.Node, b.From.Node), cmp.Compare(a.From.User, b.From.User), cmp.Compare(a.Due, b.Due))
	})
	return keys
}
