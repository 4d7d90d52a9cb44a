package statement

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"

	"github.com/eschaton-network/chand/types"
)

// LinkSchema marks link statements.
var LinkSchema = SchemaID("chand/link/v1")

const linkTag = "chand/link/v1"

// Link ties a statement key to a node and, if there is one, to an account of the ledger. Node and account have signed too, so
// nobody can claim another's.
type Link struct {
	Issuer Key
	Node   types.NodeID
	// Account and AccountKey are zero when no account is linked. That the key belongs to the account is for the caller to
	// look up on the ledger.
	Account    types.AccountID
	AccountKey [32]byte
}

// hash is what node and account sign.
func (l Link) hash(ledger types.Hash) types.Hash {
	return types.TaggedHash(linkTag, ledger[:], l.Issuer[:], l.Node[:], []byte(l.Account.String()), l.AccountKey[:])
}

// LinkKeys are the secrets behind the keys of a link.
type LinkKeys struct {
	Statement [32]byte
	Node      *btcec.PrivateKey
	// AccountSecret is the ed25519 seed of the account; ignored when Account is zero.
	Account       types.AccountID
	AccountSecret [32]byte
}

// NewLink makes and signs the link statement. Of body, ledger, blocks, times and what is superseded are used.
func NewLink(body Body, keys LinkKeys) (*Statement, error) {
	l := Link{Issuer: KeyOf(keys.Statement), Node: types.NodeID(keys.Node.PubKey().SerializeCompressed())}
	link := map[string]any{"node": l.Node.String()}
	body.Subjects = []string{"peer:" + l.Node.String(), l.Issuer.String()}
	if !keys.Account.IsZero() {
		account := ed25519.NewKeyFromSeed(keys.AccountSecret[:])
		l.Account, l.AccountKey = keys.Account, [32]byte(account.Public().(ed25519.PublicKey))
		hash := l.hash(body.Ledger)
		link["account"] = l.Account.String()
		link["account_key"] = hex.EncodeToString(l.AccountKey[:])
		link["account_proof"] = hex.EncodeToString(ed25519.Sign(account, hash[:]))
		body.Subjects = append(body.Subjects, "account:"+l.Account.String())
	}
	hash := l.hash(body.Ledger)
	sig, err := schnorr.Sign(keys.Node, hash[:])
	if err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	link["node_proof"] = hex.EncodeToString(sig.Serialize())
	body.Schema, body.Attributes = LinkSchema, Attributes{"link": link}
	return Sign(body, keys.Statement)
}

// ParseLink reads a link statement and verifies the signatures of node and account in it.
func ParseLink(s *Statement) (Link, error) {
	l := Link{Issuer: s.Issuer}
	if s.Schema != LinkSchema {
		return l, fmt.Errorf("%w: statement %s is no link", ErrFormat, s.ID)
	}
	text := func(name string) string { t, _ := s.Attributes.Get("link." + name).(string); return t }
	var err error
	if l.Node, err = types.ParseNodeID(text("node")); err != nil {
		return l, fmt.Errorf("%w: link: %w", ErrFormat, err)
	}
	var nodeProof, accountProof Signature
	if err := nodeProof.UnmarshalText([]byte(text("node_proof"))); err != nil {
		return l, err
	}
	if a := text("account"); a != "" {
		if l.Account, err = types.ParseAccountID(a); err != nil {
			return l, fmt.Errorf("%w: link: %w", ErrFormat, err)
		}
		key, err := hex.DecodeString(text("account_key"))
		if err != nil || len(key) != len(l.AccountKey) {
			return l, fmt.Errorf("%w: link: account_key must be 64 hex digits", ErrFormat)
		}
		l.AccountKey = [32]byte(key)
		if err := accountProof.UnmarshalText([]byte(text("account_proof"))); err != nil {
			return l, err
		}
	}
	hash := l.hash(s.Ledger)
	if err := verifyNode(l.Node, hash, nodeProof, "link"); err != nil {
		return l, err
	}
	if !l.Account.IsZero() && !ed25519.Verify(l.AccountKey[:], hash[:], accountProof[:]) {
		return l, fmt.Errorf("%w: link is not signed by the key of account %s", ErrSignature, l.Account)
	}
	return l, nil
}
