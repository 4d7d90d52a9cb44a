package htlc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	sphinx "github.com/lightningnetwork/lightning-onion"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// OnionHop is one node of a route and what it is told. The payer itself is not in the list; the payee is the last.
type OnionHop struct {
	Node    types.NodeID
	Payload Payload
}

// Peeled is what one node finds in an onion packet.
type Peeled struct {
	Payload Payload
	// Next is the packet for the next node; zero when IsFinal.
	Next    [wire.OnionSize]byte
	IsFinal bool
	// SharedSecret is known to this node and the payer only. It encrypts failures, so it is kept with the lock.
	SharedSecret [32]byte
}

// OnionError says why a packet can't be peeled; MalformedReason gives the lock back.
type OnionError struct {
	Code Code
	Text string
	// secret is set when the packet was authentic and only its payload is bad.
	secret *[32]byte
}

func (e *OnionError) Error() string { return fmt.Sprintf("onion packet: %s: %s", e.Code, e.Text) }

// MalformedReason is what a node gives a lock back with whose packet it can't peel. When the packet is not authentic there is no secret
// shared with the payer; the reason is then the code in plain, and the node before tells the payer (BOLT 4,
// update_fail_malformed_htlc; WrapFailure does it).
func MalformedReason(e *OnionError) []byte {
	if e.secret != nil {
		return EncryptFailure(*e.secret, NewFailure(e.Code, types.ChannelID{}, "%s", e.Text))
	}
	return binary.BigEndian.AppendUint16(nil, uint16(e.Code))
}

// MemoRoom returns the longest memo in bytes that fits a route of so many hops.
func MemoRoom(hops int) int {
	const lengthAndMAC = 1 + sphinx.HMACSize
	room := sphinx.MaxRoutingPayloadSize - (hops-1)*(forwardSize+lengthAndMAC) - (finalSize + lengthAndMAC)
	if finalSize+room >= 0xfd {
		room -= 2 // a payload of 253 bytes or more has a length prefix of three bytes (BOLT 1 BigSize)
	}
	return max(0, min(room, MaxMemo))
}

// BuildOnion makes the Sphinx packet (BOLT 4) for a route of 1..MaxHops nodes. sessionKey is fresh randomness, never used
// for another packet; it decrypts failures, so the payer keeps it with the payment. assoc, the payment hash, is
// authenticated at each hop, so that nobody can attach the packet to another lock. Same arguments, same packet.
// Costs three curve multiplications a hop.
func BuildOnion(hops []OnionHop, sessionKey [32]byte, assoc []byte) (packet [wire.OnionSize]byte, err error) {
	if len(hops) == 0 || len(hops) > MaxHops {
		return packet, fmt.Errorf("onion for %d hops: want 1 to %d", len(hops), MaxHops)
	}
	session, err := sessionScalar(sessionKey)
	if err != nil {
		return packet, err
	}
	var path sphinx.PaymentPath
	for i, hop := range hops {
		key, err := hop.Node.PubKey().Parse()
		if err != nil {
			return packet, fmt.Errorf("onion hop %d: node key: %w", i, err)
		}
		if last := i == len(hops)-1; hop.Payload.Final() != last {
			return packet, fmt.Errorf("onion hop %d of %d: %w: %s", i, len(hops), ErrPayload, hop.Payload.Kind)
		}
		b, err := hop.Payload.Encode()
		if err != nil {
			return packet, fmt.Errorf("onion hop %d: %w", i, err)
		}
		path[i] = sphinx.OnionHop{NodePub: *key, HopPayload: sphinx.HopPayload{Type: sphinx.PayloadTLV, Payload: b}}
	}
	onion, err := sphinx.NewOnionPacket(&path, session, assoc, sphinx.DeterministicPacketFiller)
	if errors.Is(err, sphinx.ErrPayloadSizeExceeded) {
		return packet, fmt.Errorf("memo of %d bytes is too long for a route of %d hops: at most %d fit",
			len(hops[len(hops)-1].Payload.Memo), len(hops), MemoRoom(len(hops)))
	}
	if err != nil {
		return packet, fmt.Errorf("onion: %w", err)
	}
	return serialize(onion)
}

// PeelOnion opens the layer of the node with nodeKey. Errors are always *OnionError. Costs two curve multiplications.
//
// It keeps no log of packets seen. A replayed packet is harmless here, because a packet acts only together with a lock: assoc binds it to
// the payment hash, a lock has an identity in the channel's saved state (funder and number, each handled once),
// and whoever replays a packet must fund a lock of his own again. The node that forwards twice is paid twice; the
// payee refuses a hash that it was paid for. What a replay could tell an observer (that two locks belong to one
// payment) the equal hash tells already.
func PeelOnion(nodeKey *btcec.PrivateKey, packet []byte, assoc []byte) (Peeled, error) {
	var onion sphinx.OnionPacket
	if len(packet) != wire.OnionSize {
		return Peeled{}, &OnionError{Code: InvalidOnionVersion, Text: fmt.Sprintf("it has %d bytes, want %d", len(packet), wire.OnionSize)}
	}
	// Decode keeps a slice of what it reads: it gets bytes of its own.
	if err := onion.Decode(bytes.NewReader(bytes.Clone(packet))); err != nil {
		return Peeled{}, onionError(err, nil)
	}
	key := &rememberingKey{PrivKeyECDH: sphinx.PrivKeyECDH{PrivKey: nodeKey}}
	// Reconstruct is the library's way to peel without a replay log.
	got, err := sphinx.NewRouter(key, nil).ReconstructOnionPacket(&onion, assoc, sphinx.WithTLVPayloadOnly())
	if err != nil {
		return Peeled{}, onionError(err, &key.secret)
	}
	p, err := DecodePayload(got.Payload.Payload)
	if err != nil {
		return Peeled{}, &OnionError{InvalidOnionPayload, err.Error(), &key.secret}
	}
	peeled := Peeled{Payload: p, IsFinal: got.Action == sphinx.ExitNode, SharedSecret: key.secret}
	if p.Final() != peeled.IsFinal {
		return Peeled{}, &OnionError{InvalidOnionPayload, fmt.Sprintf("payload is %s, final hop is %v", p.Kind, peeled.IsFinal), &key.secret}
	}
	if !peeled.IsFinal {
		if peeled.Next, err = serialize(got.NextPacket); err != nil {
			return Peeled{}, &OnionError{InvalidOnionPayload, err.Error(), &key.secret}
		}
	}
	return peeled, nil
}

// rememberingKey keeps the shared secret that the router computes, which saves computing it again.
type rememberingKey struct {
	sphinx.PrivKeyECDH
	secret [32]byte
}

func (k *rememberingKey) ECDH(pub *btcec.PublicKey) (_ [32]byte, err error) {
	k.secret, err = k.PrivKeyECDH.ECDH(pub)
	return k.secret, err
}

// onionError sorts the library's errors; whatever is not one of the first three was found in an authentic packet.
func onionError(err error, secret *[32]byte) *OnionError {
	switch {
	case errors.Is(err, sphinx.ErrInvalidOnionVersion):
		return &OnionError{Code: InvalidOnionVersion, Text: err.Error()}
	case errors.Is(err, sphinx.ErrInvalidOnionKey):
		return &OnionError{Code: InvalidOnionKey, Text: err.Error()}
	case errors.Is(err, sphinx.ErrInvalidOnionHMAC):
		return &OnionError{Code: InvalidOnionHMAC, Text: err.Error()}
	}
	return &OnionError{InvalidOnionPayload, err.Error(), secret}
}

func serialize(onion *sphinx.OnionPacket) (packet [wire.OnionSize]byte, err error) {
	var b bytes.Buffer
	b.Grow(wire.OnionSize)
	if err := onion.Encode(&b); err != nil {
		return packet, fmt.Errorf("onion: %w", err)
	}
	if b.Len() != wire.OnionSize {
		return packet, fmt.Errorf("onion of %d bytes, want %d", b.Len(), wire.OnionSize)
	}
	copy(packet[:], b.Bytes())
	return packet, nil
}

// sessionScalar wants 1..n-1; other bytes have odds of 2^-127 in randomness, so they mean a broken source.
func sessionScalar(key [32]byte) (*btcec.PrivateKey, error) {
	var s btcec.ModNScalar
	if overflow := s.SetBytes(&key); overflow != 0 || s.IsZero() {
		return nil, errors.New("onion session key is not a secp256k1 scalar: want 32 fresh random bytes")
	}
	return btcec.PrivKeyFromScalar(&s), nil
}
