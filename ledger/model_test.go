package ledger

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
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
