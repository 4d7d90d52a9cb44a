package ledger

import (
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"

	"github.com/eschaton-network/chand/types"
)

// Signatures follow ZIP-215 everywhere: the cofactored equation, canonical S, any encoding of points. It is the one rule
// under which verifying one by one and in a batch can never disagree, so every node accepts the same blocks.
var zip215 = &ed25519.Options{Verify: ed25519.VerifyOptionsZIP_215}

// maxVerified bounds each of the two generations of remembered signatures (32 bytes each): several large blocks fit.
const maxVerified = 1 << 17

// batchMin is the number of signatures from which a batch is faster than one by one.
const batchMin = 8

// sigCheck is one signature to verify.
type sigCheck struct {
	key [32]byte
	msg []byte
	sig [64]byte
}

func (c *sigCheck) id() types.Hash { return types.SHA256(c.key[:], c.sig[:], c.msg) }

func (c *sigCheck) verify() bool {
	return ed25519.VerifyWithOptions(c.key[:], c.msg, c.sig[:], zip215)
}

// verifier remembers what held and is verified outside batches: direct transactions, key proofs, funders' consents, scripts. So what
// was checked on its way in is not verified again. It changes speed, never results.
type verifier struct {
	now, before map[types.Hash]struct{}
}

func (v *verifier) known(id types.Hash) bool {
	if _, ok := v.now[id]; ok {
		return true
	}
	_, ok := v.before[id]
	return ok
}

func (v *verifier) remember(id types.Hash) {
	if v.now == nil || len(v.now) >= maxVerified {
		v.now, v.before = make(map[types.Hash]struct{}), v.now
	}
	v.now[id] = struct{}{}
}

func (v *verifier) verify(c sigCheck) bool {
	id := c.id()
	if v.known(id) {
		return true
	}
	if !c.verify() {
		return false
	}
	v.remember(id)
	return true
}

// validKey tells whether bytes are a point on the curve.
func validKey(key types.Hash) bool {
	_, err := ed25519.NewExpandedPublicKey(key[:])
	return err == nil
}

// PublicKey of an ed25519 seed (RFC 8032).
func PublicKey(secret [32]byte) [32]byte {
	return [32]byte(ed25519.NewKeyFromSeed(secret[:]).Public().(ed25519.PublicKey))
}

// BrainKey is the original's way from a pass phrase to a secret: one SHA-256, no salt.
func BrainKey(phrase string) [32]byte { return types.SHA256([]byte(phrase)) }

// KeyProof is the signature of the empty message: it shows that the owner of a new key knows its secret.
func KeyProof(secret [32]byte) [64]byte { return signBytes(secret, nil) }

func signBytes(secret [32]byte, msg []byte) [64]byte {
	return [64]byte(ed25519.Sign(ed25519.NewKeyFromSeed(secret[:]), msg))
}
