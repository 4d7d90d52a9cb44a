package types

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
)

// Seed is the one secret of a daemon: the 64 bytes that BIP 39 makes of the seed phrase. Every key is derived from it
// by HKDF-SHA256 (RFC 5869) under a label of its own, so that no key tells anything of another and the phrase
// alone restores them all.
type Seed [64]byte

// derive returns 32 bytes for a label. The label is public; different labels give independent keys.
func (s Seed) derive(label string) [32]byte { return [32]byte(s.expand(label, 32)) }

func (s Seed) expand(label string, size int) []byte {
	b, err := hkdf.Key(sha256.New, s[:], []byte("chand seed v1"), label, size)
	if err != nil { // only for a length beyond HKDF's limit
		panic(err)
	}
	return b
}

// NodeKey is the secp256k1 key of the daemon's libp2p identity.
func (s Seed) NodeKey() *btcec.PrivateKey { return s.secp("node") }

// OnionSecret is what package htlc makes the secret scalar of the node's OnionKey from: 64 bytes, so that reducing them leaves no bias.
func (s Seed) OnionSecret() [64]byte { return [64]byte(s.expand("onion", 64)) }

// AccountSecret is the ed25519 seed (RFC 8032) of the ledger account.
func (s Seed) AccountSecret() [32]byte { return s.derive("ledger account") }

// LedgerNodeSecret is the ed25519 seed of the ledger node (validator) that this daemon runs when it has a ledger of its own.
func (s Seed) LedgerNodeSecret() [32]byte { return s.derive("ledger node") }

// StatementSecret is the ed25519 seed that signs statements.
func (s Seed) StatementSecret() [32]byte { return s.derive("statements") }

// ChannelKey returns one of the keys of a channel: purpose is "fund", "close" or "lock", index a number drawn at opening.
func (s Seed) ChannelKey(purpose string, index uint64) *btcec.PrivateKey {
	return s.secp(fmt.Sprintf("channel %s %d", purpose, index))
}

// Secret returns 32 bytes for another use (macaroon root keys, invoice preimages by number), named by label.
func (s Seed) Secret(label string) [32]byte { return s.derive("secret " + label) }

func (s Seed) secp(label string) *btcec.PrivateKey {
	b := s.derive(label)
	k, _ := btcec.PrivKeyFromBytes(b[:]) // reduced mod n; a zero scalar has odds 2^-256
	return k
}

// NodeID returns the id that belongs to NodeKey.
func (s Seed) NodeID() NodeID { return NodeID(s.NodeKey().PubKey().SerializeCompressed()) }
