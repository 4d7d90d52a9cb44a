package htlc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/btcsuite/btcd/address/v2/bech32"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/types/keytable"
)

const (
	// InvoicePrefix begins the human-readable part: "ln" as in BOLT 11, and our currency.
	InvoicePrefix = "lnesc"
	// MaxInvoice bounds the text: all fields at their largest fit.
	MaxInvoice = 4096
	// MaxDescription is what fits one field (1,023 words of 5 bits, BOLT 11).
	MaxDescription = 639
	// MaxHints bounds the route hints; one hop each.
	MaxHints = 8
	// maxInvoiceSeconds bounds the validity: ten years.
	maxInvoiceSeconds = 10 * 366 * 24 * 3600
	// maxFinalDelta bounds the blocks that the payee wants to have left: as types.Timing allows, several times.
	maxFinalDelta = 1 << 23

	hintSize  = 33 + len(ShortID{}) + 8 + 4 + 4
	sigWords  = 104 // 65 bytes
	timeWords = 7
)

// Tags of fields, as the values of their bech32 letters (BOLT 11). z is ours: BOLT 11's r holds 8-byte channel ids.
const (
	tagHash        = 1  // p
	tagHints       = 2  // z
	tagFeatures    = 5  // 9
	tagExpiry      = 6  // x
	tagDescription = 13 // d
	tagSecret      = 16 // s
	tagPayee       = 19 // n
	tagDescHash    = 23 // h
	tagFinalDelta  = 24 // c
)

// features are bits 8 (variable onion), 14 (payment secret), both required, and 17 (multi-part, optional), BOLT 9.
const features = 1<<8 | 1<<14 | 1<<17

// ErrInvoice is wrapped by every error of DecodeInvoice and EncodeInvoice.
var ErrInvoice = errors.New("not a valid invoice")

// RouteHint is a channel that is not announced, over which the payee can be reached from Node.
type RouteHint struct {
	Node types.NodeID
	// Channel is Short of the channel's id.
	Channel ShortID
	// Base and PPM (millionths) are Node's fee, Delta its expiry delta in blocks.
	Base  types.Amount
	PPM   uint32
	Delta uint32
}

// PaymentRequest is an invoice: what the payee wants, signed with its node key. The text form is that of BOLT 11 with our
// prefix; one coin counts as "one bitcoin" there, so one base unit is 1n.
type PaymentRequest struct {
	Payee types.NodeID
	// Amount is zero when the payer chooses it.
	Amount types.Amount
	Hash   types.Hash
	// Secret proves to the payee that a payer has seen the invoice, and ties the parts of one payment together.
	Secret types.Hash
	// Created and Seconds give the time until which the payee takes the payment.
	Created types.Time
	Seconds uint32
	// Description, or the hash of a longer one.
	Description     string
	DescriptionHash types.Hash
	// FinalDelta is the least number of blocks that the last lock must have left when it arrives.
	FinalDelta uint32
	Hints      []RouteHint
}

// Expires is the first second in which the payee does not take the payment any more.
func (p PaymentRequest) Expires() types.Time { return p.Created + types.Time(p.Seconds) }

func (p *PaymentRequest) check() error {
	switch {
	case p.Amount < 0 || p.Amount > types.MaxAmount:
		return fmt.Errorf("amount %d out of range", p.Amount)
	case p.Created < 0 || p.Created >= 1<<35:
		return fmt.Errorf("creation time %d out of range", p.Created)
	case p.Seconds == 0 || p.Seconds > maxInvoiceSeconds:
		return fmt.Errorf("valid for %d seconds: want 1..%d", p.Seconds, maxInvoiceSeconds)
	case p.FinalDelta > maxFinalDelta:
		return fmt.Errorf("final expiry delta %d: at most %d", p.FinalDelta, maxFinalDelta)
	case p.Description != "" && !p.DescriptionHash.IsZero():
		return errors.New("both a description and the hash of one")
	case len(p.Description) > MaxDescription || !utf8.ValidString(p.Description):
		return fmt.Errorf("description of %d bytes: want UTF-8 of at most %d", len(p.Description), MaxDescription)
	case len(p.Hints) > MaxHints:
		return fmt.Errorf("%d route hints: at most %d", len(p.Hints), MaxHints)
	}
	for _, h := range p.Hints {
		if h.Base < 0 || h.Base > types.MaxAmount {
			return fmt.Errorf("route hint: base fee %d out of range", h.Base)
		}
	}
	return nil
}

// EncodeInvoice signs a payment request and writes it as text. Payee is filled in from the key.
func EncodeInvoice(p PaymentRequest, key *btcec.PrivateKey) (string, error) {
	p.Payee = types.NodeID(key.PubKey().SerializeCompressed())
	if err := p.check(); err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvoice, err)
	}
	hrp, words := InvoicePrefix+amountText(p.Amount), p.words()
	sig := ecdsa.SignCompact(key, signedHash(hrp, words), true)
	// SignCompact puts 27 + 4 + recovery id first; BOLT 11 wants the id last.
	b := append(append([]byte{}, sig[1:]...), sig[0]-31)
	text, err := bech32.Encode(hrp, append(words, toWords(b)...))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvoice, err)
	}
	return text, nil
}

// words are the data part without the signature.
func (p *PaymentRequest) words() []byte {
	w := appendNumber(nil, uint64(p.Created), timeWords)
	field := func(tag byte, data []byte) {
		w = append(w, tag, byte(len(data)>>5), byte(len(data)&31))
		w = append(w, data...)
	}
	field(tagHash, toWords(p.Hash[:]))
	field(tagSecret, toWords(p.Secret[:]))
	if p.DescriptionHash.IsZero() {
		field(tagDescription, toWords([]byte(p.Description)))
	} else {
		field(tagDescHash, toWords(p.DescriptionHash[:]))
	}
	field(tagPayee, toWords(p.Payee[:]))
	field(tagExpiry, appendNumber(nil, uint64(p.Seconds), 0))
	field(tagFinalDelta, appendNumber(nil, uint64(p.FinalDelta), 0))
	field(tagFeatures, appendNumber(nil, features, 0))
	if len(p.Hints) > 0 {
		var b []byte
		for _, h := range p.Hints {
			b = append(append(b, h.Node[:]...), h.Channel[:]...)
			b = binary.BigEndian.AppendUint64(b, uint64(h.Base))
			b = binary.BigEndian.AppendUint32(b, h.PPM)
			b = binary.BigEndian.AppendUint32(b, h.Delta)
		}
		field(tagHints, toWords(b))
	}
	return w
}

// DecodeInvoice reads an invoice strictly and verifies its signature by the payee's node key. Whether it has expired is
// for the caller to see.
func DecodeInvoice(text string) (PaymentRequest, error) { return DecodeInvoiceWith(text, nil) }

// DecodeInvoiceWith is DecodeInvoice for a reader that keeps tables of payees' keys; tables may be nil, and gives nil for a key without one.
func DecodeInvoiceWith(text string, tables func(types.PubKey) *keytable.Table) (PaymentRequest, error) {
	p, err := decodeInvoice(text, tables)
	if err != nil {
		return PaymentRequest{}, fmt.Errorf("%w: %w", ErrInvoice, err)
	}
	return p, nil
}

func decodeInvoice(text string, tables func(types.PubKey) *keytable.Table) (p PaymentRequest, err error) {
	if len(text) > MaxInvoice {
		return p, fmt.Errorf("%d characters, at most %d", len(text), MaxInvoice)
	}
	hrp, data, err := bech32.DecodeNoLimit(text)
	if err != nil {
		return p, err
	}
	if len(data) < timeWords+sigWords {
		return p, errors.New("too short")
	}
	words, sigPart := data[:len(data)-sigWords], data[len(data)-sigWords:]
	amount, ok := strings.CutPrefix(hrp, InvoicePrefix)
	if !ok {
		return p, fmt.Errorf("it begins with %q, invoices of this network with %q", hrp[:min(len(hrp), 12)], InvoicePrefix)
	}
	if p.Amount, err = parseAmountText(amount); err != nil {
		return p, err
	}
	p.Created = types.Time(number(words[:timeWords]))
	if err := p.readFields(words[timeWords:]); err != nil {
		return p, err
	}
	if err := p.check(); err != nil {
		return p, err
	}
	if string(p.words()) != string(words) {
		return p, errors.New("fields are missing, unknown, out of order or not in their shortest form")
	}
	return p, p.verify(hrp, words, sigPart, tables)
}

func (p *PaymentRequest) readFields(w []byte) error {
	for len(w) > 0 {
		if len(w) < 3 {
			return errors.New("a field is cut off")
		}
		tag, n := w[0], int(w[1])<<5|int(w[2])
		if w = w[3:]; len(w) < n {
			return errors.New("a field is cut off")
		}
		data := w[:n]
		w = w[n:]
		b, err := bech32.ConvertBits(data, 5, 8, true) // spare bits are checked by encoding again
		if err != nil {
			return err
		}
		b = b[:n*5/8]
		switch tag {
		case tagHash:
			copy(p.Hash[:], b)
		case tagSecret:
			copy(p.Secret[:], b)
		case tagDescription:
			p.Description = string(b)
		case tagDescHash:
			copy(p.DescriptionHash[:], b)
		case tagPayee:
			copy(p.Payee[:], b)
		case tagExpiry:
			p.Seconds = uint32(min(number(data), 1<<32-1))
		case tagFinalDelta:
			p.FinalDelta = uint32(min(number(data), 1<<32-1))
		case tagHints:
			for ; len(b) >= hintSize && len(p.Hints) <= MaxHints; b = b[hintSize:] {
				p.Hints = append(p.Hints, readHint(b))
			}
		}
	}
	return nil
}

func readHint(b []byte) (h RouteHint) {
	const at = 33 + len(ShortID{})
	copy(h.Node[:], b)
	copy(h.Channel[:], b[33:])
	h.Base = types.Amount(binary.BigEndian.Uint64(b[at:]))
	h.PPM, h.Delta = binary.BigEndian.Uint32(b[at+8:]), binary.BigEndian.Uint32(b[at+12:])
	return h
}

// verify recovers the signer's key and wants it to be the payee's.
func (p *PaymentRequest) verify(hrp string, words, sigPart []byte, tables func(types.PubKey) *keytable.Table) error {
	b, err := bech32.ConvertBits(sigPart, 5, 8, false)
	if err != nil {
		return err
	}
	if b[64] > 3 {
		return fmt.Errorf("recovery id %d", b[64])
	}
	var r, s btcec.ModNScalar
	if s.SetByteSlice(b[32:64]) || s.IsOverHalfOrder() {
		return errors.New("the signature has a high s")
	}
	hash := signedHash(hrp, words)
	if tables != nil {
		if t := tables(types.PubKey(p.Payee)); t != nil {
			if over := r.SetByteSlice(b[:32]); !over {
				if id, ok := t.Verify((*[32]byte)(hash), &r, &s); ok && id == b[64] {
					return nil
				}
			}
			return fmt.Errorf("the signature is not by the payee %s", p.Payee)
		}
	}
	key, _, err := ecdsa.RecoverCompact(append([]byte{31 + b[64]}, b[:64]...), hash)
	if err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	if types.NodeID(key.SerializeCompressed()) != p.Payee {
		return fmt.Errorf("the signature is not by the payee %s", p.Payee)
	}
	return nil
}

// signedHash is SHA-256 of the human-readable part and the data, its bits padded with zeros to whole bytes.
func signedHash(hrp string, words []byte) []byte {
	b, err := bech32.ConvertBits(words, 5, 8, true)
	if err != nil {
		panic(err) // words are below 32
	}
	h := types.SHA256([]byte(hrp), b)
	return h[:]
}

func toWords(b []byte) []byte {
	w, err := bech32.ConvertBits(b, 8, 5, true)
	if err != nil {
		panic(err) // 8-bit groups always convert
	}
	return w
}

// appendNumber writes big-endian words; size 0 means as few as needed, and none for zero.
func appendNumber(w []byte, n uint64, size int) []byte {
	if size == 0 {
		for m := n; m > 0; m >>= 5 {
			size++
		}
	}
	for i := size - 1; i >= 0; i-- {
		w = append(w, byte(n>>(5*i))&31)
	}
	return w
}

// number reads big-endian words; what exceeds 64 bits is cut to the largest number.
func number(w []byte) (n uint64) {
	for _, v := range w {
		if n >= 1<<59 {
			return 1<<64 - 1
		}
		n = n<<5 | uint64(v)
	}
	return n
}

// multipliers of BOLT 11 amounts, in base units. p (a thousandth of a unit) is not used.
var multipliers = []struct {
	letter string
	units  types.Amount
}{{"", types.Coin}, {"m", types.Coin / 1e3}, {"u", types.Coin / 1e6}, {"n", 1}}

// amountText is the shortest form of an amount; empty for zero.
func amountText(a types.Amount) string {
	if a == 0 {
		return ""
	}
	for _, m := range multipliers {
		if a%m.units == 0 {
			return strconv.FormatInt(int64(a/m.units), 10) + m.letter
		}
	}
	return ""
}

func parseAmountText(s string) (types.Amount, error) {
	if s == "" {
		return 0, nil
	}
	for _, m := range multipliers[1:] {
		if digits, ok := strings.CutSuffix(s, m.letter); ok {
			return parseUnits(s, digits, m.units)
		}
	}
	return parseUnits(s, s, types.Coin)
}

func parseUnits(s, digits string, units types.Amount) (types.Amount, error) {
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n == 0 || n > uint64(types.MaxAmount/units) {
		return 0, fmt.Errorf("amount %q", s)
	}
	a := types.Amount(n) * units
	if amountText(a) != s {
		return 0, fmt.Errorf("amount %q is not in its shortest form %q", s, amountText(a))
	}
	return a, nil
}
