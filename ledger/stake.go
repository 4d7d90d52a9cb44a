package ledger

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

// BondKey names stake that an account has put behind a node.
type BondKey struct {
	Node uint16
	From types.AccountID
	// Due is zero for a lease; for a cancelled one, the height at whose end it returns to From. Until then it answers for the node.
	Due types.Height
}

func compareBonds(a, b BondKey) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.From.Node, b.From.Node), cmp.Compare(a.From.User, b.From.User), cmp.Compare(a.Due, b.Due))
}

func (k BondKey) bytes() []byte {
	b := binary.LittleEndian.AppendUint16(nil, k.Node)
	from := accountBytes(k.From)
	return binary.LittleEndian.AppendUint32(append(b, from[:]...), uint32(k.Due))
}

// Key is the bond's key in the part "leases" of the state root; its value there is the tagged hash chand/bond of the amount.
func (k BondKey) Key() types.Hash { return types.TaggedHash("chand/bond key", k.bytes()) }

func bondValue(a types.Amount) types.Hash {
	return types.TaggedHash("chand/bond", binary.LittleEndian.AppendUint64(nil, uint64(a)))
}

// Validator is a node that signs blocks.
type Validator struct {
	// Node is its number, PublicKey the key that signs, Power its weight in votes; power 0 in Outcome.Validators means that the key
	// leaves the set.
	Node      uint16
	PublicKey types.Hash
	Power     int64
}

const (
	// equalPower is the power of each validator at genesis, and of each authority always.
	equalPower = 10
	// powerShift makes voting power of stake: the whole supply, 2^62, stays far below CometBFT's bound of 2^60.
	powerShift = 20
)

// GenesisValidators are the validators of the first dividend period, with equal power: the authorities, or the first VIPMax nodes.
func (g Genesis) GenesisValidators() []Validator {
	nodes := g.Authorities
	for i := 0; len(g.Authorities) == 0 && i < min(len(g.Nodes), int(g.VIPMax)); i++ {
		nodes = append(nodes, uint16(i+1))
	}
	out := make([]Validator, len(nodes))
	for i, n := range nodes {
		out[i] = Validator{Node: n, PublicKey: g.Nodes[n-1].PublicKey, Power: equalPower}
	}
	return out
}

// stake holds leases and validators.
type stake struct {
	bonds map[BondKey]types.Amount
	// ofNode has the keys of each node's bonds: what closes one node must not walk over the stake of all.
	ofNode   map[uint16]map[BondKey]bool
	tree     merkle.Map
	releases map[types.Height][]BondKey
	// validators are those that CometBFT was told of last.
	validators []Validator
	// again asks for an election at the end of this block: a validator was closed.
	again bool
	// accused are the addresses of validators that Accuse named for the next block.
	accused [][20]byte
}

func newStake(g Genesis) stake {
	return stake{bonds: map[BondKey]types.Amount{}, ofNode: map[uint16]map[BondKey]bool{}, releases: map[types.Height][]BondKey{}, validators: g.GenesisValidators()}
}

// freeze returns what a snapshot holds.
func (k *stake) freeze() stake {
	return stake{bonds: maps.Clone(k.bonds), validators: slices.Clone(k.validators)}
}

// hash is the part "leases" of the state root: over the map of bonds and the validators.
func (k *stake) hash() types.Hash {
	root := k.tree.Root()
	return types.TaggedHash("chand/leases", root[:], appendValidators(nil, k.validators))
}

func appendValidators(b []byte, vals []Validator) []byte {
	b = binary.LittleEndian.AppendUint16(b, uint16(len(vals)))
	for _, v := range vals {
		b = binary.LittleEndian.AppendUint16(b, v.Node)
		b = append(b, v.PublicKey[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(v.Power))
	}
	return b
}

// Bond is what an account has put behind a node; 0 when nothing.
func (s *State) Bond(k BondKey) types.Amount { return s.stake.bonds[k] }

// Bonds lists all leases and those being released, in order.
func (s *State) Bonds() []BondKey { return slices.SortedFunc(maps.Keys(s.stake.bonds), compareBonds) }

// Validators are the nodes that sign blocks from the block after next on.
func (s *State) Validators() []Validator { return slices.Clone(s.stake.validators) }

// addBond changes a bond. Leases count as the node's stake, what is being released does not.
func (s *State) addBond(k BondKey, a types.Amount) {
	now, was := s.stake.bonds[k]+a, s.stake.bonds[k]
	switch {
	case now == 0:
		s.pin(k.From, -1)
		delete(s.stake.bonds, k)
		if delete(s.stake.ofNode[k.Node], k); len(s.stake.ofNode[k.Node]) == 0 {
			delete(s.stake.ofNode, k.Node)
		}
		s.stake.tree.Delete(k.Key())
	default:
		s.stake.bonds[k] = now
		s.stake.tree.Set(k.Key(), bondValue(now))
	}
	if was == 0 {
		s.pin(k.From, 1) // whoever owns the account gets the stake back
		if s.stake.ofNode[k.Node] == nil {
			s.stake.ofNode[k.Node] = make(map[BondKey]bool)
		}
		s.stake.ofNode[k.Node][k] = true
	}
	if k.Due == 0 {
		s.touchNode(k.Node).Leased += a
	} else if was == 0 {
		s.stake.releases[k.Due] = append(s.stake.releases[k.Due], k)
	}
}

// Lease puts stake behind a node. 89 bytes. The money can't be spent before it is released, UnbondingBlocks after CancelLease, and
// answers for the node: when the node is cut, it is.
type Lease struct {
	Node   uint16
	Amount types.Amount
}

// CancelLease begins the release of stake. 89 bytes. All of it can always be released; of a part, it and the rest have MinLease at least.
type CancelLease Lease

// MinLease is the least that is leased, released or left at a time: what a new account costs. Every release is a bond of its own, which
// all nodes keep in the state until it is due; for fees alone anybody could make any number of them.
const MinLease types.Amount = 1 << 28

// feeLease is that of create_account and retrieve_funds to elsewhere (E17: 2^20), since a bond lives in the state.
const feeLease types.Amount = 1 << 20

func (Lease) kind() byte                          { return TypeLease }
func (Lease) tail(b []byte) []byte                { return b }
func (Lease) fee(types.AccountID) types.Amount    { return feeLease }
func (l Lease) cost(types.AccountID) types.Amount { return l.Amount }
func (l Lease) signed(b []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, l.Node)
	return binary.LittleEndian.AppendUint64(b, uint64(l.Amount))
}

func (l Lease) check() *Refusal {
	switch {
	case l.Amount <= 0 || l.Amount > Supply:
		return refuse(CodeNotPositive, "stake of %d units: want %d..%d", int64(l.Amount), int64(MinLease), int64(Supply))
	case l.Amount < MinLease:
		return refuse(CodeSmallLease, "stake of %s coins: at least %s are leased at a time", l.Amount, MinLease)
	}
	return nil
}

func (l Lease) verify(x *exec) *Refusal {
	n := x.s.node(l.Node)
	switch {
	case n == nil:
		return refuse(CodeTargetNode, "node %d does not exist", l.Node)
	case n.Status&NodeDoubleSpend != 0:
		return refuse(CodeTargetNode, "node %d is closed; nobody can lease to it", l.Node)
	}
	return nil
}

func (l Lease) apply(x *exec) {
	x.s.addBond(BondKey{Node: l.Node, From: x.from}, l.Amount)
	x.emit(Leased{From: x.from, Node: l.Node, Amount: l.Amount})
}

func readLease(r *reader, sig func()) Body {
	l := Lease{Node: r.u16(), Amount: r.amount()}
	sig()
	return l
}

func (CancelLease) kind() byte                        { return TypeCancelLease }
func (CancelLease) tail(b []byte) []byte              { return b }
func (CancelLease) fee(types.AccountID) types.Amount  { return feeLease }
func (CancelLease) cost(types.AccountID) types.Amount { return 0 }
func (c CancelLease) signed(b []byte) []byte          { return Lease(c).signed(b) }

func (c CancelLease) check() *Refusal {
	if c.Amount <= 0 || c.Amount > Supply { // what is left after a cut may be less than MinLease
		return refuse(CodeNotPositive, "stake of %d units: want 1..%d", int64(c.Amount), int64(Supply))
	}
	return nil
}

func (c CancelLease) verify(x *exec) *Refusal {
	have := x.s.Bond(BondKey{Node: c.Node, From: x.from})
	switch left := have - c.Amount; {
	case left < 0:
		return refuse(CodeNoLease, "account %s has leased %s coins to node %d, wanted are %s", x.from, have, c.Node, c.Amount)
	case left > 0 && min(left, c.Amount) < MinLease:
		return refuse(CodeSmallLease, "of %s coins that account %s has leased to node %d, %s are wanted and %s would be left: want all of it, or at least %s of each",
			have, x.from, c.Node, c.Amount, left, MinLease)
	}
	return nil
}

func (c CancelLease) apply(x *exec) {
	due := x.height + types.Height(x.s.genesis.UnbondingBlocks)
	x.s.addBond(BondKey{Node: c.Node, From: x.from}, -c.Amount)
	x.s.addBond(BondKey{Node: c.Node, From: x.from, Due: due}, c.Amount)
	x.emit(LeaseCancelled{From: x.from, Node: c.Node, Amount: c.Amount, Due: due})
}

func readCancelLease(r *reader, sig func()) Body {
	return CancelLease(readLease(r, sig).(Lease))
}

// release returns the bonds that are due at the end of this block.
func (s *State) release(log *eventLog) {
	keys := s.stake.releases[s.height]
	delete(s.stake.releases, s.height)
	slices.SortFunc(keys, compareBonds)
	for _, k := range keys {
		a := s.stake.bonds[k]
		if a == 0 { // cut to nothing
			continue
		}
		s.addBond(k, -a)
		s.credit(k.From, a, true)
		log.emit(LeaseReleased{From: k.From, Node: k.Node, Amount: a})
	}
}

// elect recomputes the validators at the end of a dividend period, and brings keys up to date in every block. The result is what
// changes for CometBFT.
func (s *State) elect() []Validator {
	next := slices.Clone(s.stake.validators)
	if uint32(s.height)%s.genesis.DividendBlocks == 0 || s.stake.again {
		next = s.candidates()
	}
	s.stake.again = false
	for i := range next {
		next[i].PublicKey = s.node(next[i].Node).PublicKey
	}
	if slices.Equal(next, s.stake.validators) {
		return nil
	}
	changes := changesOf(s.stake.validators, next)
	s.stake.validators = next
	s.markValidators()
	return changes
}

// markValidators sets the status bits of the nodes by the list of validators.
func (s *State) markValidators() {
	for i, n := range s.nodes {
		status := n.Status &^ (NodeVIP | NodeMaster)
		if at := slices.IndexFunc(s.stake.validators, func(v Validator) bool { return int(v.Node) == i+1 }); at >= 0 {
			status |= NodeVIP
			if at == 0 {
				status |= NodeMaster
			}
		}
		if status != n.Status {
			s.touchNode(uint16(i + 1)).Status = status
		}
	}
}

// candidates are the nodes that shall validate, the one with the most stake first. When none qualifies, all stays as it is: a
// ledger without validators could never go on.
func (s *State) candidates() []Validator {
	var all []Validator
	for i, n := range s.nodes {
		id := uint16(i + 1)
		v := Validator{Node: id, PublicKey: n.PublicKey, Power: int64(max((n.Weight+n.Leased)>>powerShift, 1))}
		fits := n.Active+types.Height(s.genesis.DividendBlocks) >= s.height // not silent for a whole period
		if len(s.genesis.Authorities) > 0 {
			v.Power, fits = equalPower, slices.Contains(s.genesis.Authorities, id)
		}
		if fits && n.Status&NodeDoubleSpend == 0 {
			all = append(all, v)
		}
	}
	slices.SortStableFunc(all, func(a, b Validator) int { return cmp.Compare(b.Power, a.Power) })
	var out []Validator
	for _, v := range all {
		if len(out) < int(s.genesis.VIPMax) && !slices.ContainsFunc(out, func(o Validator) bool { return o.PublicKey == v.PublicKey }) {
			out = append(out, v) // CometBFT wants each key once
		}
	}
	if len(out) == 0 {
		return slices.Clone(s.stake.validators)
	}
	return out
}

// changesOf lists keys that leave (power 0) and keys whose power changes or that join, in the order of the keys.
func changesOf(before, after []Validator) []Validator {
	changed := make(map[types.Hash]Validator)
	for _, v := range before {
		changed[v.PublicKey] = Validator{v.Node, v.PublicKey, 0}
	}
	for _, v := range after {
		changed[v.PublicKey] = v
	}
	for _, v := range before {
		if changed[v.PublicKey].Power == v.Power {
			delete(changed, v.PublicKey)
		}
	}
	return slices.SortedFunc(maps.Values(changed), func(a, b Validator) int { return slices.Compare(a.PublicKey[:], b.PublicKey[:]) })
}

// appendStake writes bonds and validators as snapshots store them.
func (s *State) appendStake(b []byte) []byte {
	b = appendValidators(b, s.stake.validators)
	keys := s.Bonds()
	b = binary.LittleEndian.AppendUint32(b, uint32(len(keys)))
	for _, k := range keys {
		b = append(b, k.bytes()...)
		b = binary.LittleEndian.AppendUint64(b, uint64(s.stake.bonds[k]))
	}
	return b
}

// stake reads what appendStake wrote; limit bounds the bonds.
func (d *decoder) stake(s *State, limit int) {
	n := int(d.u16())
	if n == 0 || n > maxVIPMax {
		d.fail("%d validators, want 1..%d", n, maxVIPMax)
	}
	s.stake.validators = nil
	for i := 0; i < n && d.err == nil; i++ {
		v := Validator{Node: d.u16(), PublicKey: d.hash(), Power: int64(d.amount())}
		if s.node(v.Node) == nil || v.Power <= 0 || v.Power > int64(Supply>>powerShift) {
			d.fail("validator %d with power %d", v.Node, v.Power)
		}
		s.stake.validators = append(s.stake.validators, v)
	}
	var last BondKey
	for i := range d.count("bonds", limit) {
		k := BondKey{Node: d.u16(), From: types.AccountID{Node: d.u16(), User: d.u32()}, Due: types.Height(d.u32())}
		a := d.amount()
		if d.err != nil {
			return
		}
		if a <= 0 || a > Supply || s.node(k.Node) == nil || i > 0 && compareBonds(last, k) >= 0 {
			d.fail("bond of %d units of %s for node %d is malformed or out of order", a, k.From, k.Node)
			return
		}
		last = k
		if k.Due == 0 {
			s.node(k.Node).Leased -= a // addBond counts it once more
		}
		s.addBond(k, a)
	}
}
