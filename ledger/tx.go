package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"math"

	"github.com/eschaton-network/chand/types"
)

// Transaction types: below 32 the original's numbers, from 32 on ours.
const (
	TypeConnection         byte = 1
	TypeAcceptAccount      byte = 2
	TypeBroadcast          byte = 3
	TypeSendOne            byte = 4
	TypeSendMany           byte = 5
	TypeCreateAccount      byte = 6
	TypeCreateNode         byte = 7
	TypeRetrieveFunds      byte = 8
	TypeChangeAccountKey   byte = 9
	TypeChangeNodeKey      byte = 10
	TypeSetAccountStatus   byte = 11
	TypeSetNodeStatus      byte = 12
	TypeUnsetAccountStatus byte = 13
	TypeUnsetNodeStatus    byte = 14
	TypeLogAccount         byte = 15
	TypeOpenContract       byte = 32
	TypeSpend              byte = 33
	TypeAnchor             byte = 34
	TypeAnchorPairs        byte = 35
	TypeIssueCertificate   byte = 36
	TypeUpdateCertificate  byte = 37
	TypeRevokeCertificate  byte = 38
	TypeEnrol              byte = 39
	TypeLease              byte = 40
	TypeCancelLease        byte = 41
	TypeSetPolicy          byte = 44
)

const (
	// headSize is type(1) node(2) user(4) msid(4) time(4).
	headSize = 15
	sigSize  = 64
	// MaxTx bounds a transaction: a spend of MaxSpend bytes with its frame is the longest.
	MaxTx = MaxSpend + 512
	// MaxBroadcast bounds the data of a broadcast (A19: 32,000 bytes).
	MaxBroadcast = 32_000
	// MaxWires bounds the targets of a send_many, so that it stays below MaxTx; more is a second transaction.
	MaxWires = 4096
	// MaxAnchors bounds the hashes of an anchor: one calendar root is usual, a batch for others still fits in 8 KiB.
	MaxAnchors = 256
	// maxTime is the end of the 32-bit time fields on the wire.
	maxTime = math.MaxUint32
)

// Head is what every transaction starts with.
type Head struct {
	From types.AccountID
	// Msid is the sender's number of this transaction: Account.Msid, then one more each.
	Msid uint32
	// Time is the sender's clock, at most MaxTimeAhead beyond the block's.
	Time types.Time
}

// Body is the part of a transaction after its head: SendOne and the others, see docs/ledger.md.
type Body interface {
	// kind is the transaction type's number.
	kind() byte
	// check refuses what can be told to be wrong from the body alone.
	check() *Refusal
	// signed appends the bytes that follow the head and are covered by the signature.
	signed(b []byte) []byte
	// tail appends the bytes that follow the signature.
	tail(b []byte) []byte
	// fee is what the sender pays.
	fee(from types.AccountID) types.Amount
	// cost is the money that leaves the sender besides the fee.
	cost(from types.AccountID) types.Amount
	// verify refuses what the state does not allow; it changes nothing. That the sender can pay is checked before.
	verify(x *exec) *Refusal
	// apply executes what verify accepted; the sender has paid fee and cost. It can't fail.
	apply(x *exec)
}

// Tx is a decoded transaction.
type Tx struct {
	Head
	Body      Body
	Signature [64]byte
	// ID is SHA-256 of the bytes.
	ID types.Hash
	// raw are the transaction's bytes, signedBytes those that the signature covers after the hash chain; shared with what was decoded.
	raw, signedBytes []byte
	// malformed is why a transaction that could be read is refused whatever the state.
	malformed *Refusal
	// sigHash is SHA-256 of the signature, which moves the account's chain on.
	sigHash types.Hash
	// verdict is what is known about the signature.
	verdict verdict
}

// Fee is what the sender of such a transaction pays, in units. docs/ledger.md has the table.
func Fee(from types.AccountID, b Body) types.Amount { return b.fee(from) }

func (h Head) marshal(kind byte) []byte {
	b := make([]byte, headSize, 192)
	b[0] = kind
	n := accountBytes(h.From)
	copy(b[1:], n[:])
	binary.LittleEndian.PutUint32(b[7:], h.Msid)
	binary.LittleEndian.PutUint32(b[11:], uint32(h.Time))
	return b
}

// Sign makes the bytes of a transaction and the account's next hash, so that the following one can be signed without
// waiting: the signature covers prev (the head of the account's hash chain) and everything up to the signature.
// secret is the account's ed25519 seed. The error is a *Refusal when the body could never be accepted.
func Sign(secret [32]byte, prev types.Hash, h Head, b Body) (raw []byte, next types.Hash, err error) {
	signed, err := SignedBytes(h, b)
	if err != nil {
		return nil, next, err
	}
	sig := signBytes(secret, append(prev[:], signed...))
	if raw, err = finish(signed, b, sig); err != nil {
		return nil, next, err
	}
	return raw, NextHash(prev, sig), nil
}

// NextHash is the account's hash after a transaction with this signature: SHA-256(prev || SHA-256(signature)).
func NextHash(prev types.Hash, sig [64]byte) types.Hash {
	return nextHash(prev, sha256.Sum256(sig[:]))
}

func nextHash(prev, sigHash types.Hash) types.Hash {
	var b [64]byte
	copy(b[:], prev[:])
	copy(b[32:], sigHash[:])
	return sha256.Sum256(b[:])
}

// DecodeTx reads one transaction strictly: unknown types, trailing bytes and counts out of their limits are refused.
// Time and memory are bounded by MaxTx. The error is a *Refusal.
func DecodeTx(raw []byte) (*Tx, error) {
	tx, r := decodeTx(raw)
	if r != nil {
		return nil, r
	}
	return tx, nil
}

// DecodeMessageTx is DecodeTx for what stands in a node's message: the node's own records (Connection, AcceptAccount) too.
func DecodeMessageTx(raw []byte) (*Tx, error) {
	tx, r := decodeOwn(raw)
	if r != nil {
		return nil, r
	}
	return tx, nil
}

func decodeTx(raw []byte) (*Tx, *Refusal) {
	tx := new(Tx)
	rest, ok, r := newTxDecoder().next(tx, raw)
	switch {
	case !ok:
		return nil, r
	case r == nil && len(rest) > 0:
		return nil, refuse(CodeLength, "transaction of type %d: %d bytes follow its end", raw[0], len(rest))
	}
	tx.hash()
	return tx, r
}

// txDecoder decodes transactions one after the other without garbage besides their bodies.
type txDecoder struct {
	r    reader
	tx   *Tx
	mark func()
	// message says that a node's own records may stand here.
	message bool
}

func newTxDecoder() *txDecoder {
	d := &txDecoder{}
	d.mark = func() {
		d.tx.signedBytes = d.r.b[:min(d.r.at, len(d.r.b))]
		copy(d.tx.Signature[:], d.r.take(sigSize))
	}
	return d
}

// next reads the transaction that raw starts with, all but its hashes, and returns what follows it. ok is false when not even its end
// can be told; tx is then of no use.
func (d *txDecoder) next(tx *Tx, raw []byte) (rest []byte, ok bool, _ *Refusal) {
	if len(raw) > 0 && isOfNode(raw[0]) {
		return d.nextOfNode(tx, raw)
	}
	if len(raw) < headSize+sigSize {
		return nil, false, refuse(CodeLength, "transaction of %d bytes: want at least %d", len(raw), headSize+sigSize)
	}
	read := readers[raw[0]]
	if read == nil {
		return nil, false, refuse(CodeType, "transaction type %d is not known here", raw[0])
	}
	tx.Head = Head{
		From: parseAccount(raw[1:]),
		Msid: binary.LittleEndian.Uint32(raw[7:]),
		Time: types.Time(binary.LittleEndian.Uint32(raw[11:])),
	}
	d.tx, d.r = tx, reader{b: raw, at: headSize}
	tx.Body = read(&d.r, d.mark)
	if d.r.short || d.r.at > MaxTx {
		return nil, false, refuse(CodeLength, "transaction of type %d: %d bytes do not hold its contents of at most %d", raw[0], len(raw), MaxTx)
	}
	tx.raw, rest = raw[:d.r.at], raw[d.r.at:]
	return rest, true, tx.Body.check()
}

// hash fills in what is hashed once and needed in many places.
func (tx *Tx) hash() {
	tx.ID = sha256.Sum256(tx.raw)
	tx.sigHash = sha256.Sum256(tx.Signature[:])
}

// readers decode the body of each type; each calls sig where the signature stands.
var readers map[byte]func(r *reader, sig func()) Body

func init() { // breaks the initialisation cycle between bodies and decoder
	readers = map[byte]func(*reader, func()) Body{
		TypeBroadcast:          readBroadcast,
		TypeSendOne:            readSendOne,
		TypeSendMany:           readSendMany,
		TypeCreateAccount:      readCreateAccount,
		TypeChangeAccountKey:   readChangeAccountKey,
		TypeOpenContract:       readOpenContract,
		TypeSpend:              readSpend,
		TypeAnchor:             readAnchor,
		TypeLease:              readLease,
		TypeCancelLease:        readCancelLease,
		TypeCreateNode:         readCreateNode,
		TypeRetrieveFunds:      readRetrieveFunds,
		TypeChangeNodeKey:      readChangeNodeKey,
		TypeSetAccountStatus:   readSetAccountStatus,
		TypeSetNodeStatus:      readSetNodeStatus,
		TypeUnsetAccountStatus: readUnsetAccountStatus,
		TypeUnsetNodeStatus:    readUnsetNodeStatus,
		TypeLogAccount:         readLogAccount,
		TypeAnchorPairs:        readAnchorPairs,
		TypeIssueCertificate:   readIssueCertificate,
		TypeUpdateCertificate:  readUpdateCertificate,
		TypeRevokeCertificate:  readRevokeCertificate,
		TypeEnrol:              readEnrol,
		TypeSetPolicy:          readSetPolicy,
	}
}

// reader takes fixed-size fields from bytes; after the end it yields zeros and remembers that it was short.
type reader struct {
	b     []byte
	at    int
	short bool
}

func (r *reader) take(n int) []byte {
	if r.short || n > len(r.b)-r.at {
		r.short = true
		return make([]byte, min(n, sigSize)) // callers of longer takes check short
	}
	r.at += n
	return r.b[r.at-n : r.at]
}

func (r *reader) u8() byte                 { return r.take(1)[0] }
func (r *reader) u16() uint16              { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32              { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) hash() types.Hash         { return types.Hash(r.take(32)) }
func (r *reader) account() types.AccountID { return parseAccount(r.take(6)) }
func (r *reader) amount() types.Amount     { return types.Amount(binary.LittleEndian.Uint64(r.take(8))) }
func (r *reader) signature() [64]byte      { return [64]byte(r.take(sigSize)) }

// fits tells whether n items of the given size can still follow, before anything is allocated for them.
func (r *reader) fits(n, size int) bool {
	if r.short || n > (len(r.b)-r.at)/size {
		r.short = true
		return false
	}
	return true
}
