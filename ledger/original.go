package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/eschaton-network/chand/types"
)

// The original's (E17) node messages, requests and block headers: codecs and hashes with which its clients, archives and
// proofs are read. This ledger's own state root does not use them (docs/ledger.md says why).

const (
	// messageType and getMeType are the original's numbers.
	messageType byte = 3
	getMeType   byte = 16
	// messageHead is type(1) length(3) signature(64) node(2) msid(4) time(4).
	messageHead = 78
	// MaxNodeMessage bounds a node message (the original's practical bound).
	MaxNodeMessage = 8 << 20
	// MaxMessageTxs bounds the transactions of one.
	MaxMessageTxs = 65_520
	getMeSize     = 17
)

// ErrOriginal is wrapped by every error of decoding the original's bytes.
var ErrOriginal = errors.New("not what the original writes")

// PairHash is the original's inner hash: SHA-256 of the two, the smaller first.
func PairHash(a, b types.Hash) types.Hash {
	if bytes.Compare(a[:], b[:]) > 0 {
		a, b = b, a
	}
	var pair [64]byte
	copy(pair[:], a[:])
	copy(pair[32:], b[:])
	return sha256.Sum256(pair[:])
}

// TreeHash is the original's tree: a binary carry tree of PairHash, open subtrees folded from the lowest up. No leaves give zero.
func TreeHash(leaves []types.Hash) types.Hash {
	type sub struct {
		level int
		hash  types.Hash
	}
	var stack []sub
	for _, h := range leaves {
		s := sub{0, h}
		for len(stack) > 0 && stack[len(stack)-1].level == s.level {
			s = sub{s.level + 1, PairHash(stack[len(stack)-1].hash, s.hash)}
			stack = stack[:len(stack)-1]
		}
		stack = append(stack, s)
	}
	if len(stack) == 0 {
		return types.Hash{}
	}
	h := stack[len(stack)-1].hash
	for i := len(stack) - 2; i >= 0; i-- {
		h = PairHash(h, stack[i].hash)
	}
	return h
}

// GetMe asks a node for an account (get_me, get_account).
type GetMe struct {
	From, Target types.AccountID
	Time         types.Time
}

func (g GetMe) bytes() []byte {
	from, target := accountBytes(g.From), accountBytes(g.Target)
	b := append([]byte{getMeType}, from[:]...)
	b = append(b, target[:]...)
	return binary.LittleEndian.AppendUint32(b, uint32(g.Time))
}

// Sign makes the request's bytes: requests are signed alone, without the account's hash.
func (g GetMe) Sign(secret [32]byte) []byte {
	b := g.bytes()
	sig := signBytes(secret, b)
	return append(b, sig[:]...)
}

// DecodeGetMe reads a request and tells whether it is signed by key.
func DecodeGetMe(b []byte, key [32]byte) (g GetMe, valid bool, err error) {
	if len(b) != getMeSize+sigSize || b[0] != getMeType {
		return g, false, fmt.Errorf("%w: get_me of %d bytes", ErrOriginal, len(b))
	}
	g = GetMe{parseAccount(b[1:]), parseAccount(b[7:]), types.Time(binary.LittleEndian.Uint32(b[13:]))}
	c := sigCheck{key: key, msg: b[:getMeSize], sig: [64]byte(b[getMeSize:])}
	return g, c.verify(), nil
}

// NodeMessage is a node's batch of transactions.
type NodeMessage struct {
	Node uint16
	Msid uint32
	Time types.Time
	// Txs are the wire bytes of each transaction.
	Txs       [][]byte
	Signature [64]byte
}

// Encode writes the message. The error wraps ErrOriginal when it is too long.
func (m *NodeMessage) Encode() ([]byte, error) {
	size := messageHead
	for _, tx := range m.Txs {
		size += len(tx)
	}
	if size > MaxNodeMessage || len(m.Txs) > MaxMessageTxs {
		return nil, fmt.Errorf("%w: node message of %d bytes and %d transactions", ErrOriginal, size, len(m.Txs))
	}
	b := make([]byte, 0, size)
	b = append(b, messageType, byte(size), byte(size>>8), byte(size>>16))
	b = append(b, m.Signature[:]...)
	b = append(b, m.id()...)
	for _, tx := range m.Txs {
		b = append(b, tx...)
	}
	return b, nil
}

// id is node(2) msid(4) time(4).
func (m *NodeMessage) id() []byte {
	b := binary.LittleEndian.AppendUint16(nil, m.Node)
	b = binary.LittleEndian.AppendUint32(b, m.Msid)
	return binary.LittleEndian.AppendUint32(b, uint32(m.Time))
}

// TxLeaf is the leaf of a transaction in its message's tree: its hash, the first three words XORed with its id. position counts from 1.
func TxLeaf(wire []byte, node uint16, msid, position uint32) types.Hash {
	return txLeaf(types.SHA256(wire), node, msid, position)
}

func txLeaf(h types.Hash, node uint16, msid, position uint32) types.Hash {
	for i, v := range []uint32{uint32(node), msid, position} {
		w := h[4*i : 4*i+4]
		binary.LittleEndian.PutUint32(w, binary.LittleEndian.Uint32(w)^v)
	}
	return h
}

// Root is the message's root hash.
func (m *NodeMessage) Root() types.Hash { return TreeHash(m.leaves()) }

// leaves are those of the message's tree: its head, then its transactions.
func (m *NodeMessage) leaves() []types.Hash {
	leaves := make([]types.Hash, 1, 1+len(m.Txs))
	leaves[0] = types.SHA256(m.id())
	for i, tx := range m.Txs {
		leaves = append(leaves, TxLeaf(tx, m.Node, m.Msid, uint32(i+1)))
	}
	return leaves
}

// Sign signs the message as the successor of the node's message with root previous.
func (m *NodeMessage) Sign(secret [32]byte, previous types.Hash) {
	root := m.Root()
	m.Signature = signBytes(secret, append(previous[:], root[:]...))
}

// Verify tells whether the message is signed by key as the successor of the message with root previous.
func (m *NodeMessage) Verify(key [32]byte, previous types.Hash) bool {
	root := m.Root()
	c := sigCheck{key: key, msg: append(previous[:], root[:]...), sig: m.Signature}
	return c.verify()
}

// OriginalHeader is a block header of the original.
type OriginalHeader struct {
	Now, Messages, Nodes, Dividend          uint32
	OldHash, MessageHash, NodeHash, VIPHash types.Hash
}

// MinHash is what transaction proofs end with before the message hash.
func (h OriginalHeader) MinHash() types.Hash {
	var b []byte
	for _, v := range []uint32{h.Now, h.Messages, h.Nodes, h.Dividend} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return PairHash(PairHash(PairHash(types.SHA256(b), h.NodeHash), h.VIPHash), h.OldHash)
}

// NowHash is the block's hash.
func (h OriginalHeader) NowHash() types.Hash { return PairHash(h.MinHash(), h.MessageHash) }

// SignedBytes are the 176 bytes that the nodes sign.
func (h OriginalHeader) SignedBytes() []byte {
	var b []byte
	for _, v := range []uint32{h.Now, h.Messages, h.Nodes, h.Dividend} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	for _, x := range []types.Hash{h.OldHash, h.MessageHash, h.NodeHash, h.VIPHash, h.NowHash()} {
		b = append(b, x[:]...)
	}
	return b
}

// VIPHash is the hash of the keys of the voting nodes, the master's first, the others by node number.
func VIPHash(keys [][32]byte) types.Hash {
	var h types.Hash
	for _, k := range keys {
		h = PairHash(h, k)
	}
	return h
}
