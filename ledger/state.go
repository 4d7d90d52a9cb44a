package ledger

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

// OutPoint names a script output.
type OutPoint struct {
	// TxID is in internal byte order.
	TxID  types.Hash
	Index uint32
}

func compareOutPoints(a, b OutPoint) int {
	return cmp.Or(slices.Compare(a.TxID[:], b.TxID[:]), cmp.Compare(a.Index, b.Index))
}

// Output is an unspent script output: P2WSH, P2WPKH or P2TR.
type Output struct {
	Value  types.Amount
	Script []byte
	// Height is that of the block it came with; Origin that of the oldest contract that its money comes from.
	Height, Origin types.Height
}

// State is the whole ledger after a block. It is a mutable value owned by ONE goroutine (or guarded by one mutex of its
// owner): no method may run at the same time as another. What it hands out (accounts, contracts, events, proofs) is
// never changed afterwards and may cross goroutines.
type State struct {
	genesis Genesis
	params  Params
	height  types.Height
	time    types.Time

	// nodes[i] is ledger node i+1.
	nodes    []*ledgerNode
	nodeTree merkle.Tree
	// keys finds accounts by public key.
	keys keyIndex
	// pool is what is in no account, contract or output: fees return to it.
	pool types.Amount

	// contracts are all that ever were; their values are replaced, never changed.
	contracts      map[types.ChannelID]*Contract
	contractTree   merkle.Map
	dirtyContracts []types.ChannelID
	// due lists the contracts whose dispute window ends at a height.
	due map[types.Height][]types.ChannelID

	outputs    map[OutPoint]*Output
	outputTree merkle.Map

	// parts are the hashes that the state root is made of, as of the last Root.
	parts Parts
	// blockTxs is the root over the last block's messages and direct transactions (part "transactions").
	blockTxs types.Hash
	// queue holds the direct transactions that wait for their block; queueHash is its part of the state root.
	queue map[types.Height][]queued
	// queuedBy has whose turns are in the queue.
	queuedBy map[turn]bool

	// stake has the leases and the validators.
	stake stake
	// period is the running dividend period, requests what waits for other nodes' acceptance, registry certificates, enrolled keys and policy.
	period   period
	requests requests
	registry registry
	// pins counts what relies on an account, origins what is open by age; both follow from the tables.
	pins    map[types.AccountID]int
	origins origins
	// end is what the block being applied leaves to its end, log its events; both empty between blocks.
	end blockEnd
	log *eventLog

	workers  Workers
	inbox    inbox
	verifier verifier
	points   pointTable
	// waiting is what Check has accepted since the last block.
	waiting waiting
}

// NewState is the ledger before its first block.
func NewState(g Genesis) (*State, error) {
	s, err := emptyState(g)
	if err != nil {
		return nil, err
	}
	share := initialShare / types.Amount(len(s.genesis.Nodes))
	s.pool = Supply
	for i, n := range s.genesis.Nodes {
		id := types.AccountID{Node: uint16(i + 1)}
		balance := share - types.Amount(id.Node)
		s.addNode(n.PublicKey)
		s.addAccount(id, n.Account0, balance)
		s.record(id).PairedNode = id.Node // E17: the first admin is paired with itself
		s.pool -= balance
	}
	s.markValidators()
	return s, nil
}

func emptyState(g Genesis) (*State, error) {
	g, err := g.normal()
	if err != nil {
		return nil, err
	}
	hash, err := g.Hash()
	if err != nil {
		return nil, err
	}
	return &State{
		genesis: g, time: g.Time,
		params:    Params{ChainID: g.ChainID, Genesis: hash, BlockMillis: g.BlockMillis},
		contracts: make(map[types.ChannelID]*Contract),
		due:       make(map[types.Height][]types.ChannelID),
		outputs:   make(map[OutPoint]*Output),
		queue:     make(map[types.Height][]queued),
		queuedBy:  make(map[turn]bool),
		blockTxs:  merkle.EmptyRoot,
		stake:     newStake(g),
		period:    period{start: g.Time},
		requests:  requests{open: make(map[requestKey]*request)},
		registry:  newRegistry(g),
		pins:      make(map[types.AccountID]int),
		origins:   origins{count: make(map[types.Height]int), low: math.MaxUint32},
	}, nil
}

// Params are the ledger's constants.
func (s *State) Params() Params { return s.params }

// Genesis is the document that the ledger started from.
func (s *State) Genesis() Genesis { return s.genesis }

// Height is that of the last block applied, 0 before the first.
func (s *State) Height() types.Height { return s.height }

// Time is that of the last block applied, or of the genesis.
func (s *State) Time() types.Time { return s.time }

// Pool is the money that is in no account, contract or output.
func (s *State) Pool() types.Amount { return s.pool }

// Account returns an account; ErrNotFound when there is none.
func (s *State) Account(id types.AccountID) (Account, error) {
	r := s.peek(id)
	if r == nil {
		return Account{}, ErrNotFound
	}
	return r.account(id), nil
}

// Record returns an account as the original stores it; ErrNotFound when there is none.
func (s *State) Record(id types.AccountID) (Record, error) {
	r := s.peek(id)
	if r == nil {
		return Record{}, ErrNotFound
	}
	return *r, nil
}

// Accounts is the number of accounts of a node, 0 for a node that does not exist.
func (s *State) Accounts(node uint16) int {
	if n := s.node(node); n != nil {
		return n.accounts.len()
	}
	return 0
}

// Contract returns an open or settled contract; ErrNotFound when it never existed.
func (s *State) Contract(id types.ChannelID) (Contract, error) {
	c, ok := s.contracts[id]
	if !ok {
		return Contract{}, ErrNotFound
	}
	return *c, nil
}

// Output returns an unspent script output; ErrNotFound when there is none (never was, or spent).
func (s *State) Output(txid types.Hash, index uint32) (Output, error) {
	o, ok := s.outputs[OutPoint{txid, index}]
	if !ok {
		return Output{}, ErrNotFound
	}
	return *o, nil
}

func (s *State) node(id uint16) *ledgerNode {
	if id == 0 || int(id) > len(s.nodes) {
		return nil
	}
	return s.nodes[id-1]
}

// peek returns the stored record to be read, nil when there is none. It changes nothing.
func (s *State) peek(id types.AccountID) *Record {
	n := s.node(id.Node)
	if n == nil {
		return nil
	}
	return n.accounts.at(id.User)
}

// record returns the stored record to be changed, nil when there is none; whoever changes it calls touch, and indexKey when it
// has another key.
func (s *State) record(id types.AccountID) *Record {
	n := s.node(id.Node)
	if n == nil {
		return nil
	}
	return n.accounts.change(id.User)
}

func (s *State) touch(id types.AccountID) {
	n := s.node(id.Node)
	n.dirty.add(id.User)
}

// addAccount appends an account to an existing node; id.User must be the next number.
func (s *State) addAccount(id types.AccountID, key [32]byte, balance types.Amount) {
	n := s.node(id.Node)
	n.accounts.append(Record{
		Msid: 1, Time: uint32(s.time), PublicKey: key, Hash: initialHash(s.params.Genesis, id, key),
		LocalChange: uint32(s.time), RemoteChange: uint32(s.stamp()),
	})
	s.indexKey(id)
	s.addBalance(id, balance)
}

// addBalance changes an account's balance, and with it its node's weight. Callers know that neither leaves its bounds.
// The dividend of the running period comes first.
func (s *State) addBalance(id types.AccountID, a types.Amount) {
	s.payDividend(id)
	n := s.node(id.Node)
	n.accounts.change(id.User).Balance += a
	n.Weight += a
	s.touch(id)
}

// credit adds to an existing account; a deleted one is revived by money. It can't overflow: all money together is the supply.
func (s *State) credit(id types.AccountID, a types.Amount, remote bool) {
	if a > 0 && s.peek(id).Status&StatusDeleted != 0 {
		s.revive(id)
	}
	s.addBalance(id, a)
	if remote {
		s.record(id).RemoteChange = uint32(s.stamp())
	}
}

// debit takes from an account that was checked to have it.
func (s *State) debit(id types.AccountID, a types.Amount) {
	s.addBalance(id, -a)
}

// spendable is what an account may spend: everything, but an admin must keep AdminMinimum.
func spendable(id types.AccountID, balance types.Amount) types.Amount {
	if id.User == 0 {
		balance -= AdminMinimum
	}
	return max(balance, 0)
}

func (s *State) putContract(c *Contract) {
	s.contracts[c.ID] = c
	s.dirtyContracts = append(s.dirtyContracts, c.ID)
}

// post starts or replaces the refund of a contract; the deadline stays that of the first.
func (s *State) post(log *eventLog, c *Contract, p ContractPosted) {
	if c.Posted != nil {
		p.Deadline = c.Posted.Deadline
	} else {
		p.Deadline = s.height + types.Height(c.Window)
		s.due[p.Deadline] = append(s.due[p.Deadline], c.ID)
	}
	next := *c
	next.Posted = &p
	s.putContract(&next)
	log.emit(p)
}

// settle pays a contract out by a refund that was checked when it was submitted.
func (s *State) settle(log *eventLog, c *Contract, tx *btcwire.MsgTx, raw []byte) {
	epoch, version, final := versionOf(tx)
	done := ContractSettled{ID: c.ID, Epoch: epoch, Version: version, Final: final, TxID: txID(tx), Refund: raw}
	next := *c
	next.Settled = &done
	s.putContract(&next)
	log.emit(done)
	s.payOut(log, tx, c.OpenedAt)
	s.origins.remove(c.OpenedAt)
}

// settleDue settles the contracts whose dispute window ends with this block, in the order of their ids.
func (s *State) settleDue(log *eventLog) {
	ids := s.due[s.height]
	delete(s.due, s.height)
	slices.SortFunc(ids, func(a, b types.ChannelID) int { return slices.Compare(a[:], b[:]) })
	for _, id := range ids {
		c := s.contracts[id]
		if c.Settled != nil { // in agreement, before the end of the window
			continue
		}
		tx, r := decodeMsgTx(c.Posted.Refund)
		if r != nil { // it was decoded when it was posted
			panic(r)
		}
		s.settle(log, c, tx, c.Posted.Refund)
	}
}

// payOut credits accounts and creates script outputs; origin is how far the money goes back.
func (s *State) payOut(log *eventLog, tx *btcwire.MsgTx, origin types.Height) {
	id := txID(tx)
	for i, out := range tx.TxOut {
		a := types.Amount(out.Value)
		if to, ok := htlc.ParseAccountScript(out.PkScript); ok {
			s.credit(to, a, true)
			log.emit(Deposited{To: to, Amount: a, Message: id})
			continue
		}
		// A clone, because the decoded scripts of a transaction share one buffer.
		s.putOutput(OutPoint{id, uint32(i)}, &Output{Value: a, Script: slices.Clone(out.PkScript), Height: s.height, Origin: origin})
	}
}

func (s *State) putOutput(p OutPoint, o *Output) {
	s.outputs[p] = o
	s.origins.add(o.Origin)
	s.outputTree.Set(outputKey(p), outputHash(o))
}

func (s *State) removeOutput(p OutPoint) {
	s.origins.remove(s.outputs[p].Origin)
	delete(s.outputs, p)
	s.outputTree.Delete(outputKey(p))
}

func outputKey(p OutPoint) types.Hash {
	return types.TaggedHash("chand/outpoint", p.TxID[:], binary.LittleEndian.AppendUint32(nil, p.Index))
}

func outputHash(o *Output) types.Hash {
	b := binary.LittleEndian.AppendUint64(nil, uint64(o.Value))
	b = binary.LittleEndian.AppendUint32(b, uint32(o.Height))
	b = binary.LittleEndian.AppendUint32(b, uint32(o.Origin))
	return types.SHA256(append(b, o.Script...))
}
