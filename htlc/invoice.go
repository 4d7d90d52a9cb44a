package htlc

import (
	"errors"
	"fmt"
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
	MaxInvoice = 7200
	// MaxDescription is what fits one field (1,023 words of 5 bits, BOLT 11).
	MaxDescription = 639
	// MaxHints bounds the route hints, and MaxHintHops the length of each.
	MaxHints, MaxHintHops = 8, 4
	// MaxPaths bounds the blinded paths.
	MaxPaths = 3
	// maxInvoiceSeconds bounds the validity: ten years.
	maxInvoiceSeconds = 10 * 366 * 24 * 3600
	// maxFinalDelta bounds the blocks that the payee wants to have left: as types.Timing allows, several times.
	maxFinalDelta = 1 << 23

	// What holds when an invoice does not say (BOLT 11).
	defaultSeconds    = 3600
	defaultFinalDelta = 18

	sigWords  = 104 // 65 bytes
	timeWords = 7
)

// ErrInvoice is wrapped by every error of DecodeInvoice and EncodeInvoice.
var ErrInvoice = errors.New("not a valid invoice")

// RouteHint is a channel that is not announced, on a way to the payee: from Node to the next hint's node, or to the payee.
type RouteHint struct {
	Node types.NodeID
	// Channel is Short of the channel's id.
	Channel ShortID
	// Base and PPM (millionths) are Node's fee, Delta its expiry delta in blocks.
	Base  types.Amount
	PPM   uint32
	Delta uint32
	// Reserve is its reservation fee in 10^-12 of the amount a block, Max the largest amount.
	Reserve uint32
	Max     types.Amount
	// OnionKey is Node's.
	OnionKey types.OnionKey
}

// PaymentRequest is an invoice: what the payee wants, signed with its node key. The text form is that of BOLT 11 with our
// prefix; one coin counts as "one bitcoin" there, so one base unit is 1n.
type PaymentRequest struct {
	// Payee is who signed. With blinded paths that is a key made for this invoice, which tells nothing.
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
	// MultiPart: the payee takes the payment in several parts.
	MultiPart bool
	// OnionKey is the payee's, and Hints lead to it; zero and none when it is reached over blinded paths alone.
	OnionKey types.OnionKey
	Hints    [][]RouteHint
	Paths    []BlindedPath
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
	case len(p.Hints) > MaxHints || len(p.Paths) > MaxPaths:
		return fmt.Errorf("%d route hints and %d blinded paths: at most %d and %d", len(p.Hints), len(p.Paths), MaxHints, MaxPaths)
	case p.OnionKey.IsZero() != (len(p.Paths) > 0) || len(p.Paths) > 0 && len(p.Hints) > 0:
		return errors.New("want either the payee's onion key or blinded paths, and route hints with the former only")
	}
	for _, path := range p.Hints {
		if len(path) == 0 || len(path) > MaxHintHops {
			return fmt.Errorf("route hint of %d hops: want 1 to %d", len(path), MaxHintHops)
		}
		for _, h := range path {
			if h.Base < 0 || h.Base > types.MaxAmount || h.Max < 0 || h.Max > types.MaxAmount {
				return fmt.Errorf("route hint: base fee %d or largest amount %d out of range", h.Base, h.Max)
			}
		}
	}
	for i := range p.Paths {
		if err := p.Paths[i].Check(); err != nil {
			return err
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

// DecodeInvoice reads an invoice and verifies its signature by the payee's node key. Fields may stand in any order and unknown ones
// are skipped, as in BOLT 11; known ones are read strictly, and once. Whether it has expired is for the caller to see.
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
	return p, p.verify(hrp, words, sigPart, tables)
}

// verify recovers the signer's key and wants it to be the payee's, if that is named.
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
	if tables != nil && !p.Payee.IsZero() {
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
	signer := types.NodeID(key.SerializeCompressed())
	if p.Payee.IsZero() {
		p.Payee = signer // it need not be named
	}
	if signer != p.Payee {
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
