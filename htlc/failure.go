package htlc

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// Code says why a lock is given back. Numbers, names and flag bits are BOLT 4's ("Failure Messages").
type Code uint16

// Flag bits of a Code.
const (
	flagBadOnion  Code = 0x8000 // the packet was unreadable to the hop that failed
	flagPermanent Code = 0x4000 // trying again is useless
	flagNode      Code = 0x2000 // the whole node, not one channel
	flagUpdate    Code = 0x1000 // the payer's view of the channel's policy is old; Policy holds the new one
)

// The codes in use.
const (
	TemporaryNodeFailure                  = flagNode | 2
	PermanentNodeFailure                  = flagPermanent | flagNode | 2
	InvalidOnionVersion                   = flagBadOnion | flagPermanent | 4
	InvalidOnionHMAC                      = flagBadOnion | flagPermanent | 5
	InvalidOnionKey                       = flagBadOnion | flagPermanent | 6
	TemporaryChannelFailure               = flagUpdate | 7
	PermanentChannelFailure               = flagPermanent | 8
	UnknownNextPeer                       = flagPermanent | 10
	AmountBelowMinimum                    = flagUpdate | 11
	FeeInsufficient                       = flagUpdate | 12
	IncorrectExpiry                       = flagUpdate | 13
	ExpiryTooSoon                         = flagUpdate | 14
	IncorrectOrUnknownPaymentDetails      = flagPermanent | 15
	FinalIncorrectExpiry             Code = 18
	FinalIncorrectAmount             Code = 19
	ChannelDisabled                       = flagUpdate | 20
	ExpiryTooFar                     Code = 21
	InvalidOnionPayload                   = flagPermanent | 22
	MPPTimeout                       Code = 23
	InvalidOnionBlinding                  = flagBadOnion | flagPermanent | 24
	// ReserveInsufficient is ours, far from the numbers of BOLT 4: the reservation fee that stays with the hop is less than it asks.
	ReserveInsufficient = flagUpdate | 64
)

var codeNames = map[Code]string{
	TemporaryNodeFailure: "temporary_node_failure", PermanentNodeFailure: "permanent_node_failure",
	InvalidOnionVersion: "invalid_onion_version", InvalidOnionHMAC: "invalid_onion_hmac", InvalidOnionKey: "invalid_onion_key",
	TemporaryChannelFailure: "temporary_channel_failure", PermanentChannelFailure: "permanent_channel_failure",
	UnknownNextPeer: "unknown_next_peer", AmountBelowMinimum: "amount_below_minimum", FeeInsufficient: "fee_insufficient", ReserveInsufficient: "reserve_insufficient",
	IncorrectExpiry: "incorrect_cltv_expiry", ExpiryTooSoon: "expiry_too_soon",
	IncorrectOrUnknownPaymentDetails: "incorrect_or_unknown_payment_details",
	FinalIncorrectExpiry:             "final_incorrect_cltv_expiry", FinalIncorrectAmount: "final_incorrect_htlc_amount",
	ChannelDisabled: "channel_disabled", ExpiryTooFar: "expiry_too_far", InvalidOnionPayload: "invalid_onion_payload",
	MPPTimeout: "mpp_timeout", InvalidOnionBlinding: "invalid_onion_blinding",
}

func (c Code) String() string {
	if name := codeNames[c]; name != "" {
		return name
	}
	return fmt.Sprintf("failure_%#04x", uint16(c))
}

// Permanent tells whether the same attempt would fail again.
func (c Code) Permanent() bool { return c&flagPermanent != 0 }

// OfNode tells whether the whole node failed, not one channel.
func (c Code) OfNode() bool { return c&flagNode != 0 }

// Update tells whether the failing hop refused because of its policy, which Failure.Policy then holds.
func (c Code) Update() bool { return c&flagUpdate != 0 }

const (
	// FailureSize is the size of every encrypted failure: MAC, length, message, padding. All are equal, so no hop on the way
	// back can tell which one failed or why.
	FailureSize = wire.MaxReason
	// MaxFailurePolicy bounds the signed policy inside a failure (package route: Policy.Encode).
	MaxFailurePolicy = 256

	failureMAC  = 32
	failureRoom = FailureSize - failureMAC - 2 // without MAC and length
)

// Failure says which channel refused a lock, and why, to the payer alone.
type Failure struct {
	Code Code
	// Channel is the channel of the failing hop that the lock could not pass; zero when the node itself refuses.
	Channel types.ChannelID
	// Amount and Height are what the hop saw, where the code speaks of an amount or an expiry; else 0.
	Amount types.Amount
	Height types.Height
	// Policy is the channel's current policy as the hop signed it (package route), when the code has the flag for it.
	Policy []byte
	// Text explains: what was seen, what was wanted. At most wire.MaxText bytes of UTF-8. It comes from a stranger.
	Text string
}

// ErrFailure is wrapped by every error of failure decoding.
var ErrFailure = errors.New("bad failure message")

// Error makes a Failure usable as an error.
func (f *Failure) Error() string {
	if f.Text == "" {
		return f.Code.String()
	}
	return f.Code.String() + ": " + f.Text
}

// NewFailure makes a failure with a text cut to wire.MaxText.
func NewFailure(code Code, channel types.ChannelID, format string, args ...any) *Failure {
	return &Failure{Code: code, Channel: channel, Text: clipText(fmt.Sprintf(format, args...))}
}

// clipText cuts s to wire.MaxText bytes on a character's border and replaces what is not UTF-8.
func clipText(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= wire.MaxText {
		return s
	}
	n := wire.MaxText
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// encode: code(2) channel(32) amount(8) height(4) policy length(2) policy text length(2) text, big-endian.
func (f *Failure) encode() []byte {
	policy, text := f.Policy, clipText(f.Text)
	if len(policy) > MaxFailurePolicy {
		policy = nil
	}
	b := make([]byte, 0, failureRoom)
	b = binary.BigEndian.AppendUint16(b, uint16(f.Code))
	b = append(b, f.Channel[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(max(0, f.Amount)))
	b = binary.BigEndian.AppendUint32(b, uint32(f.Height))
	b = binary.BigEndian.AppendUint16(b, uint16(len(policy)))
	b = append(b, policy...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	return append(b, text...)
}

// decodeFailure reads exactly what encode writes.
func decodeFailure(b []byte) (Failure, error) {
	const head = 2 + 32 + 8 + 4
	if len(b) < head+2 {
		return Failure{}, fmt.Errorf("%w: %d bytes", ErrFailure, len(b))
	}
	f := Failure{Code: Code(binary.BigEndian.Uint16(b)), Channel: types.ChannelID(b[2:34]),
		Amount: types.Amount(binary.BigEndian.Uint64(b[34:])), Height: types.Height(binary.BigEndian.Uint32(b[42:]))}
	n := int(binary.BigEndian.Uint16(b[head:]))
	b = b[head+2:]
	if n > MaxFailurePolicy || len(b) < n+2 {
		return Failure{}, fmt.Errorf("%w: policy of %d bytes", ErrFailure, n)
	}
	if n > 0 {
		f.Policy = bytes.Clone(b[:n])
	}
	text := b[n+2:]
	if t := int(binary.BigEndian.Uint16(b[n:])); t != len(text) || t > wire.MaxText || !utf8.Valid(text) {
		return Failure{}, fmt.Errorf("%w: text of %d bytes", ErrFailure, t)
	}
	if f.Amount < 0 || f.Amount > types.MaxAmount {
		return Failure{}, fmt.Errorf("%w: amount %d", ErrFailure, f.Amount)
	}
	f.Text = string(text)
	return f, nil
}

// EncryptFailure makes the reason with which the failing hop gives a lock back. secret is Peeled.SharedSecret.
func EncryptFailure(secret [32]byte, f *Failure) []byte {
	msg := f.encode()
	b := make([]byte, FailureSize)
	binary.BigEndian.PutUint16(b[failureMAC:], uint16(len(msg)))
	copy(b[failureMAC+2:], msg)
	keys := newFailureKeys(secret)
	copy(b, keys.sum(b[failureMAC:]))
	keyStream(keys.stream).XORKeyStream(b, b)
	return b
}

// failureKeys are what one hop hides failures with on their way back, and authenticates its own.
type failureKeys struct{ stream, mac [32]byte }

func newFailureKeys(secret [32]byte) failureKeys {
	b := derive(secret, labelFailure)
	return failureKeys{[32]byte(b[:32]), [32]byte(b[32:])}
}

func (k *failureKeys) sum(b []byte) []byte {
	h := hmac.New(sha256.New, k.mac[:])
	h.Write(b)
	return h.Sum(nil)
}

// BlindFailure is what a hop of a blinded path (Peeled.Blinded) gives a lock back with, whatever has failed: at the hop itself, or behind it,
// in place of WrapFailure. So the payer learns only that the path failed, from its entry.
func BlindFailure(secret [32]byte) []byte {
	return EncryptFailure(secret, NewFailure(InvalidOnionBlinding, types.ChannelID{}, "%s", errBlindedHop))
}

// WrapFailure adds the layer of a hop on the way back to a reason that came over its outgoing channel out. A reason that no
// honest hop makes (another size, or none: the lock timed out) is replaced by a failure of this hop that names out;
// so is a code in plain (MalformedReason).
func WrapFailure(secret [32]byte, out types.ChannelID, reason []byte) []byte {
	if len(reason) == FailureSize {
		b := make([]byte, FailureSize)
		keyStream(newFailureKeys(secret).stream).XORKeyStream(b, reason)
		return b
	}
	return EncryptFailure(secret, plainFailure(out, reason))
}

// plainFailure tells what a reason means that is not an encrypted failure.
func plainFailure(out types.ChannelID, reason []byte) *Failure {
	if len(reason) == 2 {
		switch code := Code(binary.BigEndian.Uint16(reason)); code {
		case InvalidOnionVersion, InvalidOnionHMAC, InvalidOnionKey, InvalidOnionBlinding:
			return NewFailure(code, out, "the node after this channel could not read the onion packet")
		}
	}
	if len(reason) == 0 {
		return NewFailure(TemporaryChannelFailure, out, "the lock came back over this channel without a reason")
	}
	return NewFailure(TemporaryChannelFailure, out, "the lock came back over this channel with an unreadable reason of %d bytes", len(reason))
}

// ErrUnattributed says that no hop of the route made the reason: some hop on the way back has garbled it.
var ErrUnattributed = errors.New("failure can't be attributed: a hop on the way back garbled it")

// DecryptFailure is done by the payer, with the secrets that BuildOnion returned. It returns the index of the hop that failed.
// first is the payer's own channel on the route: a reason in plain comes from the first hop and names it. A message that is authentic but
// unreadable still names its hop, with ErrFailure.
func DecryptFailure(secrets [][32]byte, first types.ChannelID, reason []byte) (int, Failure, error) {
	if len(reason) != FailureSize {
		return 0, *plainFailure(first, reason), nil
	}
	if len(secrets) == 0 || len(secrets) > MaxHops {
		return -1, Failure{}, fmt.Errorf("failure of a route of %d hops: want 1 to %d", len(secrets), MaxHops)
	}
	b := bytes.Clone(reason)
	for i, secret := range secrets {
		keys := newFailureKeys(secret)
		keyStream(keys.stream).XORKeyStream(b, b)
		if equal(keys.sum(b[failureMAC:]), b[:failureMAC]) {
			f, err := unpadFailure(b[failureMAC:])
			return i, f, err
		}
	}
	return -1, Failure{}, ErrUnattributed
}

// unpadFailure reads length(2), message, zeros.
func unpadFailure(b []byte) (Failure, error) {
	if len(b) != 2+failureRoom {
		return Failure{}, fmt.Errorf("%w: %d bytes", ErrFailure, len(b))
	}
	n := int(binary.BigEndian.Uint16(b))
	if n > failureRoom || len(bytes.TrimRight(b[2+n:], "\x00")) != 0 {
		return Failure{}, fmt.Errorf("%w: length %d, or padding that is not zero", ErrFailure, n)
	}
	return decodeFailure(b[2 : 2+n])
}
