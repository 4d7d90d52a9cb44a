package light

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

const (
	// Format is the first field of every proof file.
	Format = "chand-proof-1"
	// MaxProof bounds a proof file: a full chain in base64, a contract with two refunds in hex, and white space.
	MaxProof = 2 * MaxChainBytes
)

// ErrProof is wrapped by every refusal of a proof file.
var ErrProof = errors.New("proof refused")

// Proof is one fact about the ledger with all that is needed to check it but the genesis document: a proof file. Exactly one of
// Account, Transaction and Contract is set.
type Proof struct {
	Format  string `json:"format"`
	ChainID string `json:"chain_id"`
	// Genesis is the hash of the genesis document that the verifier must have.
	Genesis types.Hash `json:"genesis"`
	// Height is that of the block after which the fact holds.
	Height      types.Height     `json:"height"`
	Account     *AccountFact     `json:"account,omitempty"`
	Transaction *TransactionFact `json:"transaction,omitempty"`
	Contract    *ContractFact    `json:"contract,omitempty"`
	// Chain ends at the header of block Height+1, which carries the state root after block Height.
	Chain Chain `json:"chain"`
}

// AccountFact is the state of an account.
type AccountFact struct {
	// Record is the account as the original stores it: 128 bytes.
	Record Hex                 `json:"record"`
	Proof  ledger.AccountProof `json:"proof"`
}

// TransactionFact is a transaction in the block.
type TransactionFact struct {
	// Raw are the transaction's bytes.
	Raw   Hex            `json:"raw"`
	Proof ledger.TxProof `json:"proof"`
	// Anchor, if set, is the hash that is proven to be among those that the transaction anchors.
	Anchor *types.Hash `json:"anchor,omitempty"`
}

// ContractFact is the state of a contract, or that there never was one.
type ContractFact struct {
	ID types.ChannelID `json:"id"`
	// State are the contract's bytes (ledger.EncodeContract); empty when there never was one.
	State Hex                  `json:"state,omitempty"`
	Proof ledger.ContractProof `json:"proof"`
}

// Hex is bytes that JSON shows as hex digits.
type Hex []byte

// MarshalText writes lower-case hex.
func (h Hex) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

// UnmarshalText reads hex.
func (h *Hex) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// Proven is what a proof has been found to prove.
type Proven struct {
	ChainID string
	Genesis types.Hash
	// Height is that of the block after which it holds; Time is when the validators agreed on that block.
	Height types.Height
	Time   types.Time
	// Next is the name (header hash) of the next block, which carries the state root.
	Next types.Hash
	// Account and Record are set for an account.
	Account types.AccountID
	Record  ledger.Record
	// Tx, Place and Anchor are set for a transaction; Anchor is nil when none was asked for.
	Tx     *ledger.Tx
	Place  ledger.Place
	Anchor *types.Hash
	// ContractID is set for a contract; Contract is nil when there never was one.
	ContractID types.ChannelID
	Contract   *ledger.Contract
}

// EncodeProof writes a proof file: indented JSON.
func EncodeProof(p Proof) ([]byte, error) {
	p.Format = Format
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, err
	}
	if len(b)+1 > MaxProof {
		return nil, fmt.Errorf("%w: a file of %d bytes, at most %d", ErrProof, len(b)+1, MaxProof)
	}
	return append(b, '\n'), nil
}

// DecodeProof reads a proof file strictly: apart from white space, only what EncodeProof writes. The error wraps ErrProof.
func DecodeProof(b []byte) (p Proof, err error) {
	if len(b) > MaxProof {
		return p, fmt.Errorf("%w: a file of %d bytes, at most %d", ErrProof, len(b), MaxProof)
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return Proof{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	var got bytes.Buffer
	if err := json.Compact(&got, b); err != nil {
		return Proof{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	switch want, err := json.Marshal(p); {
	case err != nil:
		return Proof{}, fmt.Errorf("%w: %w", ErrProof, err)
	case p.Format != Format:
		return Proof{}, fmt.Errorf("%w: format %.40q, want %q", ErrProof, p.Format, Format)
	case !bytes.Equal(got.Bytes(), want):
		return Proof{}, fmt.Errorf("%w: it has fields that are unknown, twice there or written in another form", ErrProof)
	}
	return p, nil
}

// Verify checks a proof against what a genesis document says, offline. The error wraps ErrProof, ErrBundle or merkle.ErrProof.
func (t Trust) VerifyProof(p Proof) (Proven, error) {
	if p.Genesis != t.Genesis {
		return Proven{}, fmt.Errorf("%w: it is of the ledger with genesis %s, the genesis document given has %s", ErrProof, p.Genesis, t.Genesis)
	}
	if p.ChainID != t.ChainID {
		return Proven{}, fmt.Errorf("%w: it is of chain %.60q, the genesis document of %q", ErrProof, p.ChainID, t.ChainID)
	}
	h, err := t.Verify(p.Chain)
	if err != nil {
		return Proven{}, err
	}
	if h.Height == 0 || p.Height != h.Height-1 {
		return Proven{}, fmt.Errorf("%w: it is about block %d, its header is of block %d; want the header of the next block", ErrProof, p.Height, h.Height)
	}
	out := Proven{ChainID: p.ChainID, Genesis: p.Genesis, Height: p.Height, Time: h.Time, Next: h.Hash}
	switch {
	case p.Account != nil && p.Transaction == nil && p.Contract == nil:
		err = p.Account.verify(h.AppHash, &out)
	case p.Transaction != nil && p.Account == nil && p.Contract == nil:
		err = p.Transaction.verify(h.AppHash, &out)
	case p.Contract != nil && p.Account == nil && p.Transaction == nil:
		err = p.Contract.verify(h.AppHash, &out)
	default:
		err = fmt.Errorf("%w: want an account, a transaction or a contract in it, exactly one", ErrProof)
	}
	if err != nil {
		return Proven{}, err
	}
	return out, nil
}

func (f *AccountFact) verify(root types.Hash, out *Proven) error {
	r, valid, err := ledger.ParseRecord(f.Record, f.Proof.ID)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProof, err)
	}
	if !valid {
		return fmt.Errorf("%w: the checksum of the record is not that of account %s", ErrProof, f.Proof.ID)
	}
	out.Account, out.Record = f.Proof.ID, r
	return ledger.VerifyAccountProof(root, r, f.Proof)
}

func (f *TransactionFact) verify(root types.Hash, out *Proven) error {
	tx, err := ledger.VerifyTxProof(root, out.Height, f.Raw, f.Proof)
	if err != nil {
		return err
	}
	out.Tx, out.Place = tx, f.Proof.Place
	if f.Anchor == nil {
		return nil
	}
	a, ok := tx.Body.(ledger.Anchor)
	if !ok || !slices.Contains(a.Hashes, *f.Anchor) {
		return fmt.Errorf("%w: the transaction does not anchor %s", ErrProof, f.Anchor)
	}
	out.Anchor = f.Anchor
	return nil
}

func (f *ContractFact) verify(root types.Hash, out *Proven) error {
	out.ContractID = f.ID
	if len(f.State) > 0 {
		c, err := ledger.ParseContract(f.State)
		if err != nil {
			return err
		}
		out.Contract = c
	}
	return ledger.VerifyContractProof(root, f.ID, out.Contract, f.Proof)
}
