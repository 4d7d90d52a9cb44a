package gateway

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/macaroon.v2"

	"github.com/eschaton-network/chand/types"
)

const (
	// identifierSize: version (2, zero) || payment hash (32) || token id (32), L402 macaroons.md.
	identifierSize = 2 + 32 + 32
	// maxToken bounds a macaroon that we decode; ours have about 250 bytes, and buyers may add caveats.
	maxToken   = 4096
	maxCaveats = 64
	// location is what Aperture writes, so that decoders show our tokens.
	location = "lsat"
)

// RootKeys gives the root key of a token, by SHA-256 of its identifier. Losing a key revokes the token.
type RootKeys interface {
	RootKey(id types.Hash) ([32]byte, error)
}

// DerivedKeys makes every root key from one secret, so that a challenge that nobody pays costs no storage. Another secret
// revokes all tokens.
type DerivedKeys [32]byte

// RootKey is HMAC-SHA256 of the id under the secret.
func (k DerivedKeys) RootKey(id types.Hash) ([32]byte, error) {
	m := hmac.New(sha256.New, k[:])
	m.Write(id[:])
	return [32]byte(m.Sum(nil)), nil
}

// grant is what a token permits at one service.
type grant struct {
	hash     types.Hash
	service  string
	requests uint32
	paid     types.Amount
	until    types.Time
}

// Caveat keys; the ones after the service's name.
const (
	caveatServices = "services"
	caveatPreimage = "preimage"
	suffixUntil    = "_valid_until"
	suffixRequests = "_requests"
	suffixPaid     = "_paid"
)

// mint makes a token for a payment that is still to come, as standard base64.
func mint(keys RootKeys, g grant) (string, error) {
	id := make([]byte, identifierSize) // version 0
	copy(id[2:], g.hash[:])
	rand.Read(id[34:]) // never fails
	key, err := keys.RootKey(types.SHA256(id))
	if err != nil {
		return "", err
	}
	m, err := macaroon.New(key[:], id, location, macaroon.V2)
	if err != nil {
		return "", err
	}
	for _, c := range []string{
		caveatServices + "=" + g.service + ":0",
		g.service + suffixUntil + "=" + strconv.FormatInt(int64(g.until), 10),
		g.service + suffixRequests + "=" + strconv.FormatUint(uint64(g.requests), 10),
		g.service + suffixPaid + "=" + g.paid.String(),
	} {
		if err := m.AddFirstPartyCaveat([]byte(c)); err != nil {
			return "", err
		}
	}
	b, err := m.MarshalBinary()
	return base64.StdEncoding.EncodeToString(b), err
}

var (
	// errForged says that a credential can't be one of ours, or lacks its payment: 401.
	errForged = errors.New("the credential is not valid")
	// errInsufficient says that a valid credential does not permit this request any more, or never did: 402.
	errInsufficient = errors.New("the credential does not permit this request")
)

// verify checks a credential for a service: the HMAC chain, the preimage, the caveats. Whether credit is left is not its business.
func verify(keys RootKeys, c credential, service string, now types.Time) (grant, error) {
	var m macaroon.Macaroon
	if len(c.token) > maxToken || m.UnmarshalBinary(c.token) != nil || len(m.Caveats()) > maxCaveats {
		return grant{}, fmt.Errorf("%w: the token is not a macaroon", errForged)
	}
	hash, err := paymentHash(&m)
	if err != nil {
		return grant{}, fmt.Errorf("%w: %w", errForged, err)
	}
	key, err := keys.RootKey(types.SHA256(m.Id()))
	if err != nil {
		return grant{}, fmt.Errorf("%w: it was revoked", errForged)
	}
	caveats, err := m.VerifySignature(key[:], nil)
	if err != nil {
		return grant{}, fmt.Errorf("%w: the signature of the token is wrong", errForged)
	}
	preimage := c.preimage
	for _, cv := range caveats {
		if p, ok := strings.CutPrefix(cv, caveatPreimage+"="); ok && preimage == "" {
			preimage = p
		}
	}
	p, err := hex.DecodeString(preimage)
	if err != nil || len(p) != 32 {
		return grant{}, fmt.Errorf("%w: no preimage of 64 hex digits", errForged)
	}
	if types.Preimage(p).Hash() != hash {
		return grant{}, fmt.Errorf("%w: the preimage does not open the payment hash of the token", errForged)
	}
	g := grant{hash: hash, service: service, requests: math.MaxUint32, until: math.MaxInt64}
	return g, g.narrow(caveats, now)
}

// paymentHash reads the identifier of version 0.
func paymentHash(m *macaroon.Macaroon) (types.Hash, error) {
	id := m.Id()
	if len(id) != identifierSize || binary.BigEndian.Uint16(id) != 0 {
		return types.Hash{}, errors.New("the identifier of the token is not of L402 version 0")
	}
	return types.Hash(id[2:34]), nil
}

// narrow applies the caveats in order; each may only narrow. Unknown ones are skipped (L402 macaroons.md).
func (g *grant) narrow(caveats []string, now types.Time) error {
	named, paid := false, false
	for _, c := range caveats {
		key, value, _ := strings.Cut(c, "=")
		switch key {
		case caveatServices:
			named = true
			if !slices.ContainsFunc(strings.Split(value, ","), func(s string) bool { n, _, _ := strings.Cut(s, ":"); return n == g.service }) {
				return fmt.Errorf("%w: it was bought for %.80q", errInsufficient, value)
			}
		case g.service + suffixUntil:
			t, err := strconv.ParseInt(value, 10, 64)
			if err != nil || t <= int64(now) {
				return fmt.Errorf("%w: it expired at %s", errInsufficient, types.Time(t).Std().Format("2006-01-02 15:04:05 UTC"))
			}
			g.until = min(g.until, types.Time(t))
		case g.service + suffixRequests:
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return fmt.Errorf("%w: its number of requests is not a number", errInsufficient)
			}
			g.requests = min(g.requests, uint32(n))
		case g.service + suffixPaid:
			if a, err := types.ParseAmount(value); err == nil && !paid { // the first is ours
				g.paid, paid = a, true
			}
		}
	}
	if !named || g.requests == math.MaxUint32 || g.until == math.MaxInt64 {
		return fmt.Errorf("%w: it names no service, number of requests or end", errInsufficient)
	}
	return nil
}
