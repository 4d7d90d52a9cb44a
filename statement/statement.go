package statement

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/types"
)

var (
	// ErrFormat is wrapped by every error about bytes, text or values that make no statement.
	ErrFormat = errors.New("not a valid statement")
	// ErrSignature is wrapped when a signature in a statement does not hold.
	ErrSignature = errors.New("signature does not hold")
	// ErrCritical is wrapped when a statement needs an extension that this program does not know.
	ErrCritical = errors.New("statement needs an unknown extension")
)

const (
	// Version is the only version of the format.
	Version = 1
	// MaxSize bounds a statement's bytes: four fit a gossip message, sixty an answer to a query.
	MaxSize = 16 << 10
	// MaxSubjects bounds what one statement is about, hence its index entries.
	MaxSubjects = 16
	// MaxBlocks bounds the recent blocks named; one is enough, a few survive a short fork of the view.
	MaxBlocks = 8
	// MaxRetired bounds what one statement supersedes and revokes, each.
	MaxRetired = 16
	// MaxExtensions bounds the extension fields.
	MaxExtensions = 8
	// signTag separates statement signatures from all others.
	signTag = "chand/statement/v1"
	// schemaTag separates schema names from all other hashes.
	schemaTag = "chand/schema/v1"
)

// Body is what the issuer signs.
type Body struct {
	Version int `json:"v" cbor:"v"`
	// Ledger is the genesis hash of the ledger whose heights are meant.
	Ledger types.Hash `json:"ledger" cbor:"ledger"`
	// Issuer signs the statement.
	Issuer Key `json:"issuer" cbor:"issuer"`
	// Subjects are what it is about, 1..MaxSubjects, each in the canonical form of ParseSubject, none twice. The first is
	// the main one.
	Subjects   []string   `json:"subjects" cbor:"subjects"`
	Attributes Attributes `json:"attributes,omitempty" cbor:"attributes,omitempty"`
	// NotBefore names recent blocks of the ledger: the statement is not older than the newest of them.
	NotBefore []types.BlockRef `json:"not_before,omitempty" cbor:"not_before,omitempty"`
	// Issued is the issuer's clock, a mere claim. Seconds since 1970.
	Issued types.Time `json:"issued" cbor:"issued"`
	// From and Until are the first and the last height at which it is valid; Until 0 means no end.
	From  types.Height `json:"from,omitempty" cbor:"from,omitzero"`
	Until types.Height `json:"until,omitempty" cbor:"until,omitzero"`
	// Supersedes and Revokes name earlier statements of the same issuer (see Set for the rule). One that revokes has no end.
	Supersedes []ID `json:"supersedes,omitempty" cbor:"supersedes,omitempty"`
	Revokes    []ID `json:"revokes,omitempty" cbor:"revokes,omitempty"`
	// Schema is the hash of what gives the attributes their meaning, or SchemaID of a well-known name.
	Schema types.Hash `json:"schema,omitzero" cbor:"schema,omitzero"`
	// Receipt ties the statement to a settled payment.
	Receipt *Receipt `json:"receipt,omitempty" cbor:"receipt,omitempty"`
	// Extensions are fields of later versions, kept as they are. Critical names those that must be understood.
	Extensions Attributes `json:"ext,omitempty" cbor:"ext,omitempty"`
	Critical   []string   `json:"crit,omitempty" cbor:"crit,omitempty"`
}

// SchemaID is the schema hash that stands for a well-known name, like "chand/oracle/announcement/v1".
func SchemaID(name string) types.Hash { return types.TaggedHash(schemaTag, []byte(name)) }

// Statement is a signed statement whose form was checked. It is immutable.
type Statement struct {
	Body
	// ID is the CID of the bytes.
	ID ID
	// Signature is ed25519 (RFC 8032) over the tagged hash of the body's bytes.
	Signature Signature
	raw       []byte
	body      []byte
}

// Bytes returns the encoded statement. The caller must not change it.
func (s *Statement) Bytes() []byte { return s.raw }

// Subject is the main subject.
func (s *Statement) Subject() string { return s.Subjects[0] }

// ValidAt tells whether height lies in the statement's range. Supersession and revocation are the Set's matter.
func (b *Body) ValidAt(h types.Height) bool { return h >= b.From && (b.Until == 0 || h <= b.Until) }

// Sign makes a statement of the body with the ed25519 seed (RFC 8032) of the issuer, whose key it fills in, as well as
// the version. Subjects are brought to canonical form. It refuses what Open would refuse.
func Sign(b Body, secret [32]byte) (*Statement, error) {
	key := ed25519.NewKeyFromSeed(secret[:])
	b.Version, b.Issuer = Version, Key(key.Public().(ed25519.PublicKey))
	b.Subjects = slices.Clone(b.Subjects)
	for i, s := range b.Subjects {
		var err error
		if b.Subjects[i], err = ParseSubject(s); err != nil {
			return nil, err
		}
	}
	body, err := encMode.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	hash := signHash(body)
	raw, err := encMode.Marshal(envelope{Body: body, Sig: Signature(ed25519.Sign(key, hash[:]))})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return Open(raw) // what we sign is what everybody accepts
}

// KeyOf returns the statement key of an ed25519 seed.
func KeyOf(secret [32]byte) Key {
	return Key(ed25519.NewKeyFromSeed(secret[:]).Public().(ed25519.PublicKey))
}

func signHash(body []byte) types.Hash { return types.TaggedHash(signTag, body) }

// Open decodes a statement and verifies its signature and, if it has one, its receipt. It is how foreign bytes come in.
func Open(raw []byte) (*Statement, error) {
	s, err := Decode(raw)
	if err != nil {
		return nil, err
	}
	return s, s.Verify()
}

// Verify checks the issuer's signature and the payee's under the receipt. About 100 us.
func (s *Statement) Verify() error {
	hash := signHash(s.body)
	if !ed25519.Verify(s.Issuer[:], hash[:], s.Signature[:]) {
		return fmt.Errorf("%w: statement %s is not signed by its issuer %s", ErrSignature, s.ID, s.Issuer)
	}
	if s.Receipt != nil {
		return s.Receipt.verify(s.Ledger, s.Issuer)
	}
	return nil
}

// check enforces every bound and form that decoding alone does not.
func (b *Body) check() error {
	if b.Version != Version {
		return fmt.Errorf("%w: version %d, only %d is known", ErrFormat, b.Version, Version)
	}
	if b.Ledger.IsZero() {
		return fmt.Errorf("%w: no ledger named; heights would mean nothing", ErrFormat)
	}
	if err := b.checkSubjects(); err != nil {
		return err
	}
	if b.Issued < 0 || b.Issued > MaxInt {
		return fmt.Errorf("%w: issued at %d seconds", ErrFormat, b.Issued)
	}
	if b.Until != 0 && b.Until < b.From {
		return fmt.Errorf("%w: valid from block %d until %d, which is before", ErrFormat, b.From, b.Until)
	}
	if len(b.Revokes) > 0 && b.Until != 0 {
		return fmt.Errorf("%w: a statement that revokes must have no end (until %d), or the revoked one would come back", ErrFormat, b.Until)
	}
	if len(b.NotBefore) > MaxBlocks || len(b.Supersedes) > MaxRetired || len(b.Revokes) > MaxRetired {
		return fmt.Errorf("%w: at most %d blocks, %d superseded and %d revoked statements", ErrFormat, MaxBlocks, MaxRetired, MaxRetired)
	}
	if err := b.Attributes.check(); err != nil {
		return err
	}
	if b.Receipt != nil {
		if err := b.Receipt.check(); err != nil {
			return err
		}
	}
	return b.checkExtensions()
}

func (b *Body) checkSubjects() error {
	if len(b.Subjects) == 0 || len(b.Subjects) > MaxSubjects {
		return fmt.Errorf("%w: %d subjects, want 1..%d", ErrFormat, len(b.Subjects), MaxSubjects)
	}
	for i, s := range b.Subjects {
		c, err := ParseSubject(s)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		if c != s {
			return fmt.Errorf("%w: subject %q is not in its canonical form %q", ErrFormat, clip(s), clip(c))
		}
		if slices.Contains(b.Subjects[:i], s) {
			return fmt.Errorf("%w: subject %q is given twice", ErrFormat, clip(s))
		}
	}
	return nil
}

func (b *Body) checkExtensions() error {
	if len(b.Extensions) > MaxExtensions || len(b.Critical) > MaxExtensions {
		return fmt.Errorf("%w: more than %d extensions", ErrFormat, MaxExtensions)
	}
	if err := b.Extensions.check(); err != nil {
		return err
	}
	if len(b.Critical) > 0 { // version 1 knows no extension
		return fmt.Errorf("%w: %.80q; a newer version of this program may know it", ErrCritical, b.Critical[0])
	}
	return nil
}
