package statement

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"

	"github.com/eschaton-network/chand/types"
)

// MaxEvidence bounds what a receipt carries beside the payee's signature.
const MaxEvidence = 1024

// Receipt is the payee's signed word that the issuer of a statement paid it. A rating with one is shown apart from a mere
// opinion: it has cost something.
type Receipt struct {
	// Payee is the node that was paid.
	Payee types.NodeID `json:"payee" cbor:"payee"`
	// PaymentHash names the payment.
	PaymentHash types.Hash `json:"payment_hash" cbor:"payment_hash"`
	// Amount is in coins as decimal text, as types.Amount prints it.
	Amount string `json:"amount" cbor:"amount"`
	// Height is when the payment was settled.
	Height types.Height `json:"height" cbor:"height"`
	// Evidence may hold the preimage (32 bytes) or other proof of the payment; Verify does not judge it.
	Evidence []byte `json:"evidence,omitempty" cbor:"evidence,omitempty"`
	// Signature is the payee's (BIP 340, by its node key) over what stands above, the issuer and the ledger.
	Signature Signature `json:"signature" cbor:"sig"`
}

const receiptTag = "chand/receipt/v1"

// NewReceipt is what a payee gives to the payer with statement key issuer, for a payment of amount settled at height.
func NewReceipt(payee *btcec.PrivateKey, ledger types.Hash, issuer Key, paymentHash types.Hash, amount types.Amount, height types.Height, evidence []byte) (*Receipt, error) {
	r := &Receipt{Payee: types.NodeID(payee.PubKey().SerializeCompressed()), PaymentHash: paymentHash, Amount: amount.String(),
		Height: height, Evidence: bytes.Clone(evidence)}
	if err := r.check(); err != nil {
		return nil, err
	}
	hash := r.hash(ledger, issuer)
	sig, err := schnorr.Sign(payee, hash[:])
	if err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	r.Signature = Signature(sig.Serialize())
	return r, nil
}

// hash is what the payee signs: the receipt without its signature, the payer's key, the ledger.
func (r *Receipt) hash(ledger types.Hash, issuer Key) types.Hash {
	bare := *r
	bare.Signature = Signature{}
	b, err := encMode.Marshal(bare)
	if err != nil { // no value of the type can fail
		panic(err)
	}
	return types.TaggedHash(receiptTag, ledger[:], issuer[:], b)
}

func (r *Receipt) check() error {
	a, err := types.ParseAmount(r.Amount)
	if err != nil {
		return fmt.Errorf("%w: receipt: %w", ErrFormat, err)
	}
	if a <= 0 || a.String() != r.Amount {
		return fmt.Errorf("%w: receipt over %q: want more than 0, written as %s", ErrFormat, clip(r.Amount), a)
	}
	if _, err := r.Payee.PubKey().Parse(); err != nil {
		return fmt.Errorf("%w: receipt: payee is no node key: %w", ErrFormat, err)
	}
	if r.PaymentHash.IsZero() || len(r.Evidence) > MaxEvidence {
		return fmt.Errorf("%w: receipt: want a payment hash and at most %d bytes of evidence", ErrFormat, MaxEvidence)
	}
	return nil
}

func (r *Receipt) verify(ledger types.Hash, issuer Key) error {
	return verifyNode(r.Payee, r.hash(ledger, issuer), r.Signature, "receipt")
}

// verifyNode checks a BIP 340 signature by a node's key. The key's parity does not matter to it.
func verifyNode(node types.NodeID, hash types.Hash, signature Signature, what string) error {
	key, err := node.PubKey().Parse()
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrSignature, what, err)
	}
	sig, err := schnorr.ParseSignature(signature[:])
	if err != nil || !sig.Verify(hash[:], key) {
		return fmt.Errorf("%w: %s is not signed by node %s", ErrSignature, what, node)
	}
	return nil
}

// ShowsPreimage tells whether the evidence is the payment's preimage.
func (r *Receipt) ShowsPreimage() bool {
	return len(r.Evidence) == 32 && sha256.Sum256(r.Evidence) == r.PaymentHash
}
