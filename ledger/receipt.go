package ledger

import (
	"encoding/binary"
	"fmt"

	"github.com/eschaton-network/chand/merkle"
	"github.com/eschaton-network/chand/types"
)

// Receipt is a node's signed promise: transactions First, First+1, ... up to Count of them will be the ones under Root, at these
// positions of the node's message Msid, and that message will be in a block of height Deadline or before. One signature covers a whole
// batch, and each transaction of it is proven by a short path.
type Receipt struct {
	Node uint16
	Msid uint32
	// First is the position of the first transaction, from 1; Count is their number.
	First, Count uint32
	// Deadline is the last height at which the message keeps the promise.
	Deadline types.Height
	// Root is that of the tree of RFC 6962 over the transactions' ids.
	Root      types.Hash
	Signature [64]byte
}

const (
	// receiptHead is node(2) msid(4) first(4) count(4) deadline(4) root(32).
	receiptHead = 50
	// ReceiptSize is the size of an encoded receipt.
	ReceiptSize = receiptHead + sigSize
)

// NewReceipt is the unsigned receipt for transactions with these ids in a row; there must be one at least.
func NewReceipt(first Place, deadline types.Height, ids []types.Hash) Receipt {
	return Receipt{Node: first.Node, Msid: first.Msid, First: first.Position, Count: uint32(len(ids)), Deadline: deadline, Root: receiptRoot(ids)}
}

func receiptRoot(ids []types.Hash) types.Hash {
	leaves := make([]types.Hash, len(ids))
	for i := range ids {
		leaves[i] = merkle.LeafHash(ids[i][:])
	}
	return merkle.RootOf(leaves)
}

func (r *Receipt) head() []byte {
	le := binary.LittleEndian
	b := le.AppendUint16(make([]byte, 0, ReceiptSize), r.Node)
	b = le.AppendUint32(b, r.Msid)
	b = le.AppendUint32(b, r.First)
	b = le.AppendUint32(b, r.Count)
	b = le.AppendUint32(b, uint32(r.Deadline))
	return append(b, r.Root[:]...)
}

// digest is what is signed: bound to the ledger, and in a domain of its own.
func (r *Receipt) digest(genesis types.Hash) types.Hash {
	return types.TaggedHash("chand/receipt", genesis[:], r.head())
}

// Sign signs the promise with the node's key.
func (r *Receipt) Sign(secret [32]byte, genesis types.Hash) {
	d := r.digest(genesis)
	r.Signature = signBytes(secret, d[:])
}

// Verify tells whether the promise is signed by a node's key for the ledger with this genesis hash.
func (r *Receipt) Verify(key [32]byte, genesis types.Hash) bool {
	d := r.digest(genesis)
	c := sigCheck{key: key, msg: d[:], sig: r.Signature}
	return c.verify()
}

// Covers tells whether the receipt is for exactly the transactions with these ids, in this order.
func (r *Receipt) Covers(ids []types.Hash) bool {
	return uint64(len(ids)) == uint64(r.Count) && r.Count > 0 && receiptRoot(ids) == r.Root
}

// ReceiptPath proves to others that transaction i of those that the receipt covers was promised.
func ReceiptPath(ids []types.Hash, i int) []types.Hash {
	var t merkle.Tree
	t.Build(len(ids), func(i int) types.Hash { return merkle.LeafHash(ids[i][:]) }, nil)
	t.Root()
	return t.Prove(i)
}

// Promised checks that the receipt promises a place of its message to the transaction with this id. The error wraps merkle.ErrProof.
func (r *Receipt) Promised(position uint32, id types.Hash, path []types.Hash) error {
	if position < r.First || position-r.First >= r.Count {
		return fmt.Errorf("%w: the receipt is for positions %d to %d, not %d", merkle.ErrProof, r.First, uint64(r.First)+uint64(r.Count)-1, position)
	}
	return merkle.VerifyPath(r.Root, merkle.LeafHash(id[:]), uint64(position-r.First), uint64(r.Count), path)
}

// Bytes is the receipt's only encoding: the head and the signature, ReceiptSize bytes.
func (r *Receipt) Bytes() []byte { return append(r.head(), r.Signature[:]...) }

// ParseReceipt reads what Bytes wrote. Places that no message can have are refused; the signature is Verify's to check.
func ParseReceipt(b []byte) (r Receipt, err error) {
	if len(b) != ReceiptSize {
		return r, fmt.Errorf("receipt of %d bytes: want %d", len(b), ReceiptSize)
	}
	d := reader{b: b}
	r.Node, r.Msid, r.First, r.Count, r.Deadline = d.u16(), d.u32(), d.u32(), d.u32(), types.Height(d.u32())
	r.Root, r.Signature = d.hash(), d.signature()
	if r.Node == 0 || r.Msid == 0 || r.First == 0 || r.Count == 0 || uint64(r.First)+uint64(r.Count) > MaxMessageTxs+1 {
		return Receipt{}, fmt.Errorf("receipt for message %d of node %d, %d transactions from position %d: no message has these", r.Msid, r.Node, r.Count, r.First)
	}
	return r, nil
}
