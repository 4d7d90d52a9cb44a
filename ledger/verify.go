package ledger

import (
	"errors"
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

// ErrInvariant is wrapped by every error of Verify: the state is damaged and must not be used.
var ErrInvariant = errors.New("ledger invariant broken")

// Verify checks every invariant of the whole state: all money together is the supply to the unit, nothing is negative,
// each posted refund can be paid out at its deadline, and the trees hold what the tables hold. It costs time in proportion
// to the state.
func (s *State) Verify() error {
	if err := s.verifyTables(); err != nil {
		return err
	}
	return s.verifyTrees()
}

// verifyTables is Verify without the trees.
func (s *State) verifyTables() error {
	total := s.pool
	if total < 0 || total > Supply {
		return fmt.Errorf("%w: the pool holds %d units", ErrInvariant, total)
	}
	add := func(what string, a types.Amount) error {
		var ok bool
		if total, ok = addUp(total, a); !ok {
			return fmt.Errorf("%w: %s with %d units makes more than the supply", ErrInvariant, what, a)
		}
		return nil
	}
	if s.time < s.genesis.Time || s.time > maxTime {
		return fmt.Errorf("%w: time %d", ErrInvariant, s.time)
	}
	for i, n := range s.nodes {
		var weight types.Amount
		for user := range n.accounts.len() {
			balance, ok := n.accounts.at(uint32(user)).Balance, false
			weight += balance // below the supply so far, so it can't overflow
			if total, ok = addUp(total, balance); !ok {
				id := types.AccountID{Node: uint16(i + 1), User: uint32(user)}
				return fmt.Errorf("%w: account %s with %d units makes more than the supply", ErrInvariant, id, balance)
			}
		}
		if weight != n.Weight {
			return fmt.Errorf("%w: the accounts of node %d hold %d units, its weight is %d", ErrInvariant, i+1, weight, n.Weight)
		}
	}
	deadlines := make(map[types.ChannelID]types.Height)
	for h, ids := range s.due {
		for _, id := range ids {
			deadlines[id] = h
		}
	}
	for _, c := range s.contracts {
		if err := s.verifyContractState(c, deadlines[c.ID]); err != nil {
			return fmt.Errorf("%w: contract %s: %w", ErrInvariant, c.ID, err)
		}
		if c.Settled == nil {
			if err := add("contract "+c.ID.String(), c.Capacity); err != nil {
				return err
			}
		}
	}
	for p, o := range s.outputs {
		if !scriptOutput(o.Script) || o.Height > s.height || o.Origin > o.Height || o.Value == 0 {
			return fmt.Errorf("%w: output %s:%d is malformed", ErrInvariant, p.TxID, p.Index)
		}
		if err := add("output "+p.TxID.String(), o.Value); err != nil {
			return err
		}
	}
	leased := make(map[uint16]types.Amount)
	for k, a := range s.stake.bonds {
		if a <= 0 || s.record(k.From) == nil || s.node(k.Node) == nil || k.Due != 0 && (k.Due <= s.height || !slices.Contains(s.stake.releases[k.Due], k)) {
			return fmt.Errorf("%w: bond of %d units of %s for node %d, due %d", ErrInvariant, a, k.From, k.Node, k.Due)
		}
		if k.Due == 0 {
			leased[k.Node] += a
		}
		if err := add("bond of "+k.From.String(), a); err != nil {
			return err
		}
	}
	for i, n := range s.nodes {
		if leased[uint16(i+1)] != n.Leased {
			return fmt.Errorf("%w: leases to node %d are %d units, it says %d", ErrInvariant, i+1, leased[uint16(i+1)], n.Leased)
		}
	}
	for range s.requests.open {
		if err := add("request for an account", NewAccountDeposit); err != nil {
			return err
		}
	}
	if total != Supply {
		return fmt.Errorf("%w: all money together is %d units, want %d", ErrInvariant, total, Supply)
	}
	return s.verifyRules()
}

// verifyContractState checks one contract; deadline is where it is listed as due.
func (s *State) verifyContractState(c *Contract, deadline types.Height) error {
	if c.Capacity <= 0 || c.Capacity > Supply || c.Window == 0 || c.Window > MaxWindow || c.OpenedAt > s.height {
		return errors.New("bad terms")
	}
	if p := c.Posted; p != nil {
		if err := s.verifyRefund(c, p.Refund, false); err != nil {
			return err
		}
		if c.Settled == nil && (p.Deadline != deadline || p.Deadline <= s.height) {
			return fmt.Errorf("deadline %d at height %d, listed for %d", p.Deadline, s.height, deadline)
		}
	}
	if d := c.Settled; d != nil {
		if !d.Final && (c.Posted == nil || string(c.Posted.Refund) != string(d.Refund)) {
			return errors.New("settled by what was not posted")
		}
		return s.verifyRefund(c, d.Refund, d.Final)
	}
	return nil
}

// verifyRefund checks that a refund fits its contract and can be paid out.
func (s *State) verifyRefund(c *Contract, raw []byte, final bool) error {
	tx, r := decodeMsgTx(raw)
	if r == nil {
		r = checkForm(tx)
	}
	if r != nil {
		return r
	}
	if _, _, f := versionOf(tx); f != final || len(tx.TxIn) != 1 || tx.TxIn[0].PreviousOutPoint != htlc.OutPoint(c.ID, 0) || outputSum(tx) != c.Capacity {
		return errors.New("the refund does not fit")
	}
	for _, out := range tx.TxOut {
		if id, ok := htlc.ParseAccountScript(out.PkScript); ok && s.peek(id) == nil {
			return fmt.Errorf("the refund pays %s, which does not exist", id)
		}
	}
	return nil
}

// verifyTrees rebuilds every tree and compares.
func (s *State) verifyTrees() error {
	s.rehash()
	fresh := s.parts
	var nodes merkle.Tree
	for i, n := range s.nodes {
		var accounts merkle.Tree
		accounts.Build(n.accounts.len(), n.leaf(uint16(i+1)), nil)
		nodes.Set(i, nodeLeaf(uint16(i+1), &n.Node, accounts.Root()))
	}
	var contracts, outputs merkle.Map
	for id, c := range s.contracts {
		contracts.Set(id, contractHash(c))
	}
	for p, o := range s.outputs {
		outputs.Set(outputKey(p), outputHash(o))
	}
	fresh[partCertificates] = s.registry.rebuilt().hash()
	fresh[partNodes], fresh[partContracts], fresh[partOutputs] = nodes.Root(), contracts.Root(), outputs.Root()
	if s.parts != fresh {
		return fmt.Errorf("%w: the trees have root %s, the tables %s", ErrInvariant, s.parts.Root(), fresh.Root())
	}
	return nil
}
