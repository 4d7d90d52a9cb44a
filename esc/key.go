package esc

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/eschaton-network/chand/ledger"
)

// KeyText is what the key tool prints for a brain key: secret, public key, and the signature of the empty message.
func KeyText(phrase string) string {
	sk := ledger.BrainKey(phrase)
	pk, sg := ledger.PublicKey(sk), ledger.KeyProof(sk)
	return fmt.Sprintf("SK: %s\nPK: %s\nSG: %s\n", Hex(sk[:]), Hex(pk[:]), Hex(sg[:]))
}

// SignText signs a message with a secret, both in hex, as the sign tool does. The public key must belong to the secret: with another
// one the original's signature would give the secret away.
func SignText(sk, pk string, message []byte) (string, error) {
	secret, err := keyBytes("SK", sk, ed25519.SeedSize)
	if err != nil {
		return "", err
	}
	public, err := keyBytes("PK", pk, ed25519.PublicKeySize)
	if err != nil {
		return "", err
	}
	k := ed25519.NewKeyFromSeed(secret)
	if !ed25519.PublicKey(public).Equal(k.Public()) {
		return "", fmt.Errorf("PK does not belong to SK: its public key is %s", Hex(k[32:]))
	}
	return "SG: " + Hex(ed25519.Sign(k, message)) + "\n", nil
}

// CheckText tells whether a signature of a message holds, as the check tool does.
func CheckText(sg, pk string, message []byte) (bool, error) {
	sig, err := keyBytes("SG", sg, ed25519.SignatureSize)
	if err != nil {
		return false, err
	}
	public, err := keyBytes("PK", pk, ed25519.PublicKeySize)
	if err != nil {
		return false, err
	}
	return ed25519.Verify(public, message, sig), nil
}

func keyBytes(name, text string, size int) ([]byte, error) {
	b, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(b) != size {
		return nil, fmt.Errorf("%s: want %d hex digits, got %d characters", name, 2*size, len(text))
	}
	return b, nil
}
