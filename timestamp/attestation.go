package timestamp

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// Tag is the 8 bytes that name a kind of attestation.
type Tag [8]byte

var (
	// TagPending: a calendar has promised to anchor the message.
	TagPending = Tag{0x83, 0xdf, 0xe3, 0x0d, 0x2e, 0xf9, 0x0c, 0x8e}
	// TagBitcoin: the message is the Merkle root of a Bitcoin block header.
	TagBitcoin = Tag{0x05, 0x88, 0x96, 0x0d, 0x73, 0xd7, 0x19, 0x01}
	// TagLedger: the message is the id of a transaction in a block of our ledger. Drawn at random, as the format wants it.
	TagLedger = Tag{0xe8, 0x1b, 0x84, 0x34, 0x68, 0x2f, 0xdf, 0xa7}
)

const (
	// MaxPayload bounds an attestation's payload, as in the reference.
	MaxPayload = 8192
	// MaxURI bounds a calendar's address, as in the reference.
	MaxURI = 1000
)

// Attestation says why the message at its node existed by some time. One of Pending, Bitcoin, Ledger, Unknown.
type Attestation interface {
	tag() Tag
	payload() []byte
	check() error
	// String shows the attestation in one line.
	String() string
}

// Pending is a calendar's promise: ask it for the rest of the proof.
type Pending struct{ URI string }

// Bitcoin says: the message equals the Merkle root (internal byte order) of the header at Height.
type Bitcoin struct{ Height uint32 }

// Ledger says: the message is the id of a transaction in the block at Height on the ledger with this Genesis hash.
type Ledger struct {
	Genesis types.Hash
	Height  types.Height
	// Proof leads from the message to the state root after the block (ledger.TxProof, encoded).
	Proof string
	// Bundle is what convinces a verifier without a network of that state root: signed headers, encoded by the chain's shell. Empty
	// when headers come from elsewhere, as they must when there are too many signatures: see Fits.
	Bundle string
}

// Fits tells whether the attestation keeps within the format's MaxPayload. Some 20 validators do, or 10 and one change of them.
func (l Ledger) Fits() bool { return len(l.payload()) <= MaxPayload }

// Unknown is any other attestation, kept as it is so that upgrading never loses what another tool can read.
type Unknown struct {
	Kind    Tag
	Payload string
}

func (Pending) tag() Tag   { return TagPending }
func (Bitcoin) tag() Tag   { return TagBitcoin }
func (Ledger) tag() Tag    { return TagLedger }
func (u Unknown) tag() Tag { return u.Kind }

func (p Pending) payload() []byte { return putString(nil, p.URI) }
func (b Bitcoin) payload() []byte { return putUvarint(nil, uint64(b.Height)) }
func (l Ledger) payload() []byte {
	return putString(putString(putUvarint(bytes.Clone(l.Genesis[:]), uint64(l.Height)), l.Proof), l.Bundle)
}
func (u Unknown) payload() []byte { return []byte(u.Payload) }

func (p Pending) String() string { return "pending at " + p.URI }
func (b Bitcoin) String() string { return fmt.Sprintf("Bitcoin block %d", b.Height) }
func (l Ledger) String() string  { return fmt.Sprintf("ledger %.16s… block %d", l.Genesis, l.Height) }
func (u Unknown) String() string { return fmt.Sprintf("unknown attestation %x", u.Kind[:]) }

const uriChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._/:"

// CheckURI says whether an address may stand in a pending attestation: no query, brackets, percent or @.
func CheckURI(uri string) error {
	if len(uri) == 0 || len(uri) > MaxURI {
		return fmt.Errorf("%w: calendar address of %d bytes, want 1..%d", ErrFormat, len(uri), MaxURI)
	}
	if rest := strings.TrimLeft(uri, uriChars); rest != "" {
		return fmt.Errorf("%w: calendar address holds %q; only letters, digits and - . _ / : are allowed", ErrFormat, rest[:1])
	}
	return nil
}

func (p Pending) check() error { return CheckURI(p.URI) }
func (Bitcoin) check() error   { return nil }
func (l Ledger) check() error {
	if !l.Fits() {
		return fmt.Errorf("%w: ledger attestation of %d bytes, want at most %d", ErrFormat, len(l.payload()), MaxPayload)
	}
	if _, err := ledger.ParseTxProof([]byte(l.Proof)); err != nil {
		return fmt.Errorf("%w: ledger attestation: %w", ErrFormat, err)
	}
	return nil
}
func (u Unknown) check() error {
	if len(u.Payload) > MaxPayload {
		return fmt.Errorf("%w: attestation payload of %d bytes, want at most %d", ErrFormat, len(u.Payload), MaxPayload)
	}
	if u.Kind == TagPending || u.Kind == TagBitcoin || u.Kind == TagLedger {
		return fmt.Errorf("%w: a known tag in an unknown attestation", ErrFormat)
	}
	return nil
}

// compareAttestations is the order of the reference writer: by tag, then by value.
func compareAttestations(a, b Attestation) int {
	ta, tb := a.tag(), b.tag()
	if c := bytes.Compare(ta[:], tb[:]); c != 0 {
		return c
	}
	switch x := a.(type) {
	case Pending:
		return strings.Compare(x.URI, b.(Pending).URI)
	case Bitcoin:
		return cmp.Compare(x.Height, b.(Bitcoin).Height)
	}
	return bytes.Compare(a.payload(), b.payload())
}

func appendAttestation(dst []byte, a Attestation) []byte {
	tag := a.tag()
	return putString(append(dst, tag[:]...), string(a.payload()))
}

func (r *reader) attestation() (Attestation, error) {
	raw, err := r.take(len(Tag{}))
	if err != nil {
		return nil, err
	}
	tag := Tag(raw)
	body, err := r.bytes(0, MaxPayload)
	if err != nil {
		return nil, err
	}
	p := &reader{buf: body}
	var a Attestation
	switch tag {
	case TagPending:
		a, err = p.pending()
	case TagBitcoin:
		var h uint32
		h, err = p.height()
		a = Bitcoin{h}
	case TagLedger:
		a, err = p.ledger()
	default:
		return Unknown{tag, string(body)}, nil
	}
	if err == nil {
		err = p.end()
	}
	if err == nil {
		err = a.check()
	}
	return a, err
}

func (r *reader) pending() (Attestation, error) {
	uri, err := r.bytes(1, MaxURI)
	return Pending{string(uri)}, err
}

func (r *reader) ledger() (Attestation, error) {
	var l Ledger
	g, err := r.take(len(l.Genesis))
	if err != nil {
		return nil, err
	}
	copy(l.Genesis[:], g)
	h, err := r.height()
	if err != nil {
		return nil, err
	}
	p, err := r.bytes(1, ledger.MaxTxProof)
	if err != nil {
		return nil, err
	}
	b, err := r.bytes(0, MaxPayload)
	l.Height, l.Proof, l.Bundle = types.Height(h), string(p), string(b)
	return l, err
}

func (r *reader) height() (uint32, error) {
	h, err := r.uvarint()
	if err == nil && h > 1<<32-1 {
		err = fmt.Errorf("%w: block height %d", ErrFormat, h)
	}
	return uint32(h), err
}
