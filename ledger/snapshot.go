package ledger

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

// snapshotMagic starts a snapshot; its last digit is the version of the format.
const snapshotMagic = "chand ledger 3\n"

// maxScript is the longest script of an output: P2WSH and P2TR have 34 bytes.
const maxScript = 34

// Limits bound what DecodeState accepts.
type Limits struct {
	// Bytes is the longest snapshot.
	Bytes int64
	// Accounts, Contracts and Outputs are the most of each, accounts of all nodes together.
	Accounts, Contracts, Outputs int
	// Run lets the trees be built on several cores; nil: on one.
	Run merkle.Run
}

// DefaultLimits fit a ledger of some ten million accounts in the memory of a small server.
var DefaultLimits = Limits{Bytes: 8 << 30, Accounts: 1 << 25, Contracts: 1 << 22, Outputs: 1 << 24}

// ErrSnapshot is wrapped by every error of a snapshot that is not one.
var ErrSnapshot = errors.New("not a valid ledger snapshot")

// Frozen is a state as it was when Freeze was called. It is never changed and may be used by another goroutine.
type Frozen struct{ s State }

// Freeze returns a view of the state as it is now. It costs time in proportion to pages, contracts and outputs, not to accounts; the
// pages of accounts are shared until they are changed.
func (s *State) Freeze() *Frozen {
	s.rehash()
	f := &Frozen{State{genesis: s.genesis, params: s.params, height: s.height, time: s.time, pool: s.pool, parts: s.parts, blockTxs: s.blockTxs,
		nodes:     make([]*ledgerNode, len(s.nodes)),
		contracts: maps.Clone(s.contracts), outputs: maps.Clone(s.outputs), queue: maps.Clone(s.queue), stake: s.stake.freeze(),
		period: s.period, requests: s.requests.freeze(), registry: s.registry.freeze()}}
	for i, n := range s.nodes {
		f.s.nodes[i] = &ledgerNode{Node: n.Node, accounts: n.accounts.freeze()}
	}
	return f
}

// Height is that of the last block applied.
func (f *Frozen) Height() types.Height { return f.s.height }

// Root is the state root.
func (f *Frozen) Root() types.Hash { return f.s.parts.Root() }

// EncodeTo writes a snapshot, see State.EncodeTo.
func (f *Frozen) EncodeTo(out io.Writer) error { return f.s.encode(out) }

// EncodeTo writes a snapshot: the same state gives the same bytes on every machine. It ends with the state root.
func (s *State) EncodeTo(out io.Writer) error {
	s.rehash() // brings the nodes' numbers of accounts up to date
	return s.encode(out)
}

// encode writes a state that is rehashed. It reads tables only, never trees, so that a frozen view needs none.
func (s *State) encode(out io.Writer) error {
	w := bufio.NewWriterSize(out, pageRecords*recordHashed)
	doc, err := s.genesis.Bytes()
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	b := append([]byte(snapshotMagic), le.AppendUint32(nil, uint32(len(doc)))...)
	b = append(b, doc...)
	b = le.AppendUint32(b, uint32(s.height))
	b = le.AppendUint64(b, uint64(s.time))
	b = le.AppendUint64(b, uint64(s.pool))
	w.Write(b) // bufio keeps the first error for Flush
	w.Write(le.AppendUint16(nil, uint16(len(s.nodes))))
	for _, n := range s.nodes {
		w.Write(appendNode(nil, &n.Node))
		for _, page := range n.accounts.pages {
			b = b[:0]
			for i := range page {
				r := page[i].hashed()
				b = append(b, r[:]...)
			}
			w.Write(b)
		}
	}
	w.Write(le.AppendUint32(nil, uint32(len(s.contracts))))
	for _, id := range slices.SortedFunc(maps.Keys(s.contracts), func(a, b types.ChannelID) int { return slices.Compare(a[:], b[:]) }) {
		w.Write(appendContract(nil, s.contracts[id]))
	}
	w.Write(le.AppendUint32(nil, uint32(len(s.outputs))))
	for _, p := range slices.SortedFunc(maps.Keys(s.outputs), compareOutPoints) {
		w.Write(appendOutput(nil, p, s.outputs[p]))
	}
	w.Write(s.blockTxs[:])
	w.Write(s.appendPending(nil))
	w.Write(s.appendStake(nil))
	w.Write(s.registry.append(nil))
	root := s.parts.Root()
	w.Write(root[:])
	return w.Flush()
}

// appendContract writes a contract as it is hashed and stored in snapshots.
func appendContract(b []byte, c *Contract) []byte {
	le := binary.LittleEndian
	b = append(b, c.ID[:]...)
	b = le.AppendUint64(b, uint64(c.Capacity))
	b = append(b, c.ScriptHash[:]...)
	b = append(b, c.CloseKeys[0][:]...)
	b = append(b, c.CloseKeys[1][:]...)
	b = le.AppendUint32(b, c.Window)
	b = le.AppendUint32(b, uint32(c.OpenedAt))
	if p := c.Posted; p == nil {
		b = append(b, 0)
	} else {
		b = append(b, 1)
		b = le.AppendUint32(b, uint32(p.Deadline))
		b = le.AppendUint32(b, uint32(len(p.Refund)))
		b = append(b, p.Refund...)
	}
	d := c.Settled
	switch {
	case d == nil:
		return append(b, 0)
	case c.Posted != nil && slices.Equal(d.Refund, c.Posted.Refund):
		return append(b, 1) // by what was posted
	}
	b = append(b, 2)
	b = le.AppendUint32(b, uint32(len(d.Refund)))
	return append(b, d.Refund...)
}

func appendOutput(b []byte, p OutPoint, o *Output) []byte {
	le := binary.LittleEndian
	b = append(b, p.TxID[:]...)
	b = le.AppendUint32(b, p.Index)
	b = le.AppendUint64(b, uint64(o.Value))
	b = le.AppendUint32(b, uint32(o.Height))
	b = le.AppendUint32(b, uint32(o.Origin))
	b = append(b, byte(len(o.Script)))
	return append(b, o.Script...)
}

// DecodeState reads a snapshot strictly and verifies every invariant and the root at its end. Whether that root is the
// right one for the height is for the caller to know (a light client, a state sync). The error wraps ErrSnapshot.
func DecodeState(in io.Reader, limits Limits) (*State, error) {
	d := &decoder{r: bufio.NewReaderSize(io.LimitReader(in, limits.Bytes), 1<<16)}
	s, root, err := d.state(limits)
	if err == nil {
		err = d.err
	}
	if err == nil {
		if _, eof := d.r.ReadByte(); eof != io.EOF {
			err = errors.New("bytes follow the end")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	if got := s.Root(); got != root {
		return nil, fmt.Errorf("%w: its contents have root %s, it says %s", ErrSnapshot, got, root)
	}
	if err := s.verifyTables(); err != nil { // the trees were just built
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return s, nil
}

// decoder reads fields; after the first error it yields zeros.
type decoder struct {
	r   *bufio.Reader
	buf [max(recordHashed, nodeFixed)]byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

// take reads at most len(buf) bytes into the shared buffer.
func (d *decoder) take(n int) []byte {
	if d.err == nil {
		_, d.err = io.ReadFull(d.r, d.buf[:n])
	}
	if d.err != nil {
		clear(d.buf[:])
	}
	return d.buf[:n]
}

func (d *decoder) u8() byte             { return d.take(1)[0] }
func (d *decoder) u16() uint16          { return binary.LittleEndian.Uint16(d.take(2)) }
func (d *decoder) u32() uint32          { return binary.LittleEndian.Uint32(d.take(4)) }
func (d *decoder) amount() types.Amount { return types.Amount(binary.LittleEndian.Uint64(d.take(8))) }
func (d *decoder) hash() types.Hash     { return types.Hash(d.take(32)) }
func (d *decoder) pubKey() types.PubKey { return types.PubKey(d.take(33)) }

// count reads a number of items, at most limit.
func (d *decoder) count(what string, limit int) int {
	n := d.u32()
	if int64(n) > int64(limit) {
		d.fail("%d %s, at most %d", n, what, limit)
		return 0
	}
	return int(n)
}

func (d *decoder) bytes(what string, limit int) []byte {
	n := d.count("bytes of "+what, limit)
	if d.err != nil {
		return nil
	}
	b := make([]byte, n)
	_, d.err = io.ReadFull(d.r, b)
	return b
}

func (d *decoder) state(limits Limits) (*State, types.Hash, error) {
	if string(d.take(len(snapshotMagic))) != snapshotMagic {
		d.fail("it does not start with %q", snapshotMagic)
	}
	doc := d.bytes("genesis", MaxGenesis)
	if d.err != nil {
		return nil, types.Hash{}, d.err
	}
	g, err := ParseGenesis(doc)
	if err != nil {
		return nil, types.Hash{}, err
	}
	if again, err := g.Bytes(); err != nil || string(again) != string(doc) {
		return nil, types.Hash{}, errors.New("its genesis is not in canonical form")
	}
	s, err := emptyState(g)
	if err != nil {
		return nil, types.Hash{}, err
	}
	s.height = types.Height(d.u32())
	s.time = types.Time(d.amount())
	s.pool = d.amount()
	d.nodes(s, limits)
	for _, n := range s.nodes {
		n.findFreed()
	}
	d.contracts(s, limits.Contracts)
	d.outputs(s, limits.Outputs)
	s.blockTxs = d.hash()
	d.pending(s)
	d.stake(s, limits.Outputs)
	d.registry(s, limits.Outputs)
	return s, d.hash(), d.err
}

func (d *decoder) nodes(s *State, limits Limits) {
	limit := limits.Accounts
	nodes := int(d.u16())
	if nodes < len(s.genesis.Nodes) {
		d.fail("%d nodes, the genesis has %d", nodes, len(s.genesis.Nodes))
	}
	for i := 0; i < nodes && d.err == nil; i++ {
		n := &ledgerNode{Node: parseNode(d.take(nodeFixed)), changed: true}
		s.nodes = append(s.nodes, n)
		count := int(n.Accounts)
		if count == 0 || count > min(limit, MaxAccounts) {
			d.fail("node %d has %d accounts", i+1, count)
		}
		limit -= count
		for j := 0; j < count && d.err == nil; j++ {
			n.accounts.append(parseHashed((*[recordHashed]byte)(d.take(recordHashed))))
		}
		if d.err == nil {
			n.tree.Build(count, n.leaf(uint16(i+1)), limits.Run)
		}
	}
	if d.err == nil {
		s.indexKeys()
	}
}

func (d *decoder) contracts(s *State, limit int) {
	var last types.ChannelID
	for i := range d.count("contracts", limit) {
		c := d.contract()
		if d.err != nil {
			return
		}
		if i > 0 && slices.Compare(last[:], c.ID[:]) >= 0 {
			d.fail("contract %s is out of order", c.ID)
			return
		}
		last = c.ID
		s.putContract(c)
		if c.Settled == nil {
			s.origins.add(c.OpenedAt)
		}
		if c.Posted != nil && c.Settled == nil {
			s.due[c.Posted.Deadline] = append(s.due[c.Posted.Deadline], c.ID)
		}
	}
}

func (d *decoder) contract() *Contract {
	c := &Contract{
		ID: d.hash(), Capacity: d.amount(), ScriptHash: d.hash(),
		CloseKeys: [2]types.PubKey{d.pubKey(), d.pubKey()},
		Window:    d.u32(), OpenedAt: types.Height(d.u32()),
	}
	switch d.u8() {
	case 0:
	case 1:
		deadline := types.Height(d.u32())
		if r := d.refund(); r != nil {
			c.Posted = &ContractPosted{ID: c.ID, Epoch: r.Epoch, Version: r.Version, Deadline: deadline, Refund: r.Refund}
		}
	default:
		d.fail("contract %s: bad mark of what is posted", c.ID)
	}
	switch mark := d.u8(); {
	case mark == 0 || d.err != nil:
	case mark == 1 && c.Posted != nil:
		c.Settled = settledBy(c.Posted.Refund)
	case mark == 2:
		c.Settled = d.refund()
		if c.Settled != nil && c.Posted != nil && slices.Equal(c.Settled.Refund, c.Posted.Refund) {
			d.fail("contract %s: not in canonical form", c.ID)
		}
	default:
		d.fail("contract %s: bad mark of what is settled", c.ID)
	}
	if c.Settled != nil {
		c.Settled.ID = c.ID
	}
	return c
}

// refund reads a transaction and what it says of itself.
func (d *decoder) refund() *ContractSettled {
	raw := d.bytes("a refund", MaxSpend)
	if d.err != nil {
		return nil
	}
	r := settledBy(raw)
	if r == nil {
		d.fail("a refund is not a valid Bitcoin transaction")
	}
	return r
}

// settledBy reads from a refund what ContractSettled says of it; nil when it is none.
func settledBy(raw []byte) *ContractSettled {
	tx, r := decodeMsgTx(raw)
	if r != nil || checkForm(tx) != nil {
		return nil
	}
	epoch, version, final := versionOf(tx)
	return &ContractSettled{Epoch: epoch, Version: version, Final: final, TxID: txID(tx), Refund: raw}
}

func (d *decoder) outputs(s *State, limit int) {
	var last OutPoint
	for i := range d.count("outputs", limit) {
		p := OutPoint{TxID: d.hash(), Index: d.u32()}
		o := &Output{Value: d.amount(), Height: types.Height(d.u32()), Origin: types.Height(d.u32())}
		n := int(d.u8())
		if n > maxScript {
			d.fail("output %s:%d: script of %d bytes", p.TxID, p.Index, n)
			return
		}
		o.Script = append([]byte(nil), d.take(n)...)
		if d.err == nil && i > 0 && compareOutPoints(last, p) >= 0 {
			d.fail("output %s:%d is out of order", p.TxID, p.Index)
		}
		if d.err != nil {
			return
		}
		last = p
		s.putOutput(p, o)
	}
}
