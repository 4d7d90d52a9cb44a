package htlc

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// OnionHop is one node of a route and what it is told. The payer itself is not in the list; the payee is the last.
type OnionHop struct {
	Key     types.OnionKey
	Payload Payload
}

// Onion is what the payer makes for one attempt.
type Onion struct {
	Packet [wire.OnionSize]byte
	// Secrets are what the payer shares with each hop, in order; DecryptFailure wants them, so they are kept with the attempt.
	Secrets [][32]byte
}

// Peeled is what one node finds in an onion packet.
type Peeled struct {
	Payload Payload
	// Next is the packet for the next node; zero when IsFinal.
	Next    [wire.OnionSize]byte
	IsFinal bool
	// SharedSecret is known to this node and the payer only. It encrypts failures, so it is kept with the lock.
	SharedSecret [32]byte
	// Blinded is what the payee tells this node of a blinded path; nil on others. Whatever fails then is answered with BlindFailure.
	Blinded *HopData
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

// BuildOnion makes the Sphinx packet for a route of 1..MaxHops nodes, in the way of BOLT 4 on the group ristretto255. sessionKey is fresh
// randomness, never used for another packet. assoc, the payment hash, is authenticated at each hop, so that nobody can
// attach the packet to another lock. Same arguments, same packet. Costs one multiplication of a point a hop, and one of the base
// point, each in constant time.
func BuildOnion(hops []OnionHop, sessionKey [32]byte, assoc []byte) (*Onion, error) {
	if len(hops) == 0 || len(hops) > MaxHops {
		return nil, fmt.Errorf("onion for %d hops: want 1 to %d", len(hops), MaxHops)
	}
	if sessionKey == [32]byte{} {
		return nil, errors.New("onion session key is zero: want 32 fresh random bytes")
	}
	session := wideScalar(derive(sessionKey, labelSession))
	onion := &Onion{Secrets: make([][32]byte, len(hops))}
	onion.Packet[0] = onionVersion
	first := encodePoint(baseMul(session))
	copy(onion.Packet[1:], first[:])
	layers, total := make([]layer, len(hops)), 0
	for i, hop := range hops {
		if last := i == len(hops)-1; hop.Payload.Final() != last {
			return nil, fmt.Errorf("onion hop %d of %d: %w: %s", i, len(hops), ErrPayload, hop.Payload.Kind)
		}
		l, err := newLayer(hop, session)
		if err != nil {
			return nil, fmt.Errorf("onion hop %d: %w", i, err)
		}
		layers[i], onion.Secrets[i] = l, l.secret
		session.Mul(session, blindingFactor(l.secret))
		total += l.size()
	}
	if total > hopsSize {
		return nil, fmt.Errorf("the route of %d hops with a memo of %d bytes needs %d bytes in a packet that holds %d: use a shorter memo, or a shorter route",
			len(hops), len(hops[len(hops)-1].Payload.Memo), total, hopsSize)
	}
	for i := range layers {
		l := &layers[i]
		l.stream = make([]byte, hopsSize+l.size())
		keyStream(l.keys.stream).XORKeyStream(l.stream, l.stream)
	}
	wrap(&onion.Packet, layers, [32]byte(derive(sessionKey, labelPadding)), assoc)
	return onion, nil
}

// newLayer makes the secret and the frame of a hop that will see the packet's point session*G.
func newLayer(hop OnionHop, session *scalar.Scalar) (l layer, err error) {
	key, err := decodePoint(hop.Key)
	if err != nil {
		return l, fmt.Errorf("onion key %s: %w", hop.Key, err)
	}
	p := hop.Payload
	if p.Blinded != (BlindedData{}) {
		p.proof = blindedProof(baseMul(session))
	}
	b, err := p.Encode()
	if err != nil {
		return l, err
	}
	l.frame, l.secret = frame(b), sharedSecret(tagOnionSecret, session, key)
	l.keys = newLayerKeys(l.secret)
	return l, nil
}

// PeelOnion opens the layer of the node whose onion key has this secret. Errors are always *OnionError. Costs two multiplications of
// points, and one at the final hop; on a blinded path two more.
//
// It keeps no log of packets seen. A replayed packet is harmless here, because a packet acts only together with a lock: assoc binds it to
// the payment hash, a lock has an identity in the channel's saved state (funder and number, each handled once),
// and whoever replays a packet must fund a lock of his own again. The node that forwards twice is paid twice; the
// payee refuses a hash that it was paid for. What a replay could tell an observer (that two locks belong to one
// payment) the equal hash tells already.
func PeelOnion(secret *OnionSecret, packet []byte, assoc []byte) (Peeled, error) {
	if len(packet) != wire.OnionSize || packet[0] != onionVersion {
		return Peeled{}, &OnionError{Code: InvalidOnionVersion, Text: fmt.Sprintf("it has %d bytes, want %d beginning with %#x", len(packet), wire.OnionSize, onionVersion)}
	}
	point, err := decodePoint([32]byte(packet[1:hopsAt]))
	if err != nil {
		return Peeled{}, &OnionError{Code: InvalidOnionKey, Text: err.Error()}
	}
	out := Peeled{SharedSecret: sharedSecret(tagOnionSecret, &secret.scalar, point)}
	keys := newLayerKeys(out.SharedSecret)
	hops, mac := packet[hopsAt:hopsAt+hopsSize], packet[hopsAt+hopsSize:]
	if want := layerMAC(keys.mac, hops, assoc); !equal(want[:], mac) {
		return Peeled{}, &OnionError{Code: InvalidOnionHMAC, Text: "it was changed, made for another node, or belongs to another lock"}
	}
	// From here on the packet is authentic: failures go to the payer in secret.
	bad := func(code Code, err error) (Peeled, error) {
		return Peeled{}, &OnionError{code, err.Error(), &out.SharedSecret}
	}
	var plain [2 * hopsSize]byte
	stream := keyStream(keys.stream)
	stream.XORKeyStream(plain[:hopsSize], hops)
	b, next, size, err := unframe(plain[:hopsSize])
	if err != nil {
		return bad(InvalidOnionPayload, err)
	}
	if out.Payload, err = DecodePayload(b); err != nil {
		return bad(InvalidOnionPayload, err)
	}
	if out.IsFinal = next == [macSize]byte{}; out.Payload.Final() != out.IsFinal {
		return bad(InvalidOnionPayload, fmt.Errorf("payload is %s, final hop is %v", out.Payload.Kind, out.IsFinal))
	}
	tweak := scalar.One()
	if out.Payload.Blinded != (BlindedData{}) {
		if out.Blinded, tweak, err = secret.openBlinded(&out.Payload, point); err != nil {
			return bad(InvalidOnionBlinding, err)
		}
	}
	if out.IsFinal {
		return out, nil
	}
	factor := tweak.Mul(tweak, blindingFactor(out.SharedSecret))
	stream.XORKeyStream(plain[hopsSize:hopsSize+size], plain[hopsSize:hopsSize+size])
	after := encodePoint(new(curve.RistrettoPoint).Mul(point, factor))
	out.Next[0] = onionVersion
	copy(out.Next[1:], after[:])
	copy(out.Next[hopsAt:], plain[size:size+hopsSize])
	copy(out.Next[hopsAt+hopsSize:], next[:])
	return out, nil
}
