package light

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	cmt "github.com/cometbft/cometbft/types"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

const (
	// MaxBundle bounds a bundle: one signature of about 110 bytes and one validator of about 100 for each of at most
	// CometBFT's 10,000 validators would be 2 MB.
	MaxBundle = 2 << 20
)

// ErrBundle is wrapped by every refusal of a bundle.
var ErrBundle = errors.New("bundle refused")

// Trust is what a verifier starts from: one ledger and the validators that speak for it.
type Trust struct {
	ChainID string
	// Genesis is the hash of the genesis document (package ledger).
	Genesis    types.Hash
	validators *cmt.ValidatorSet
	// height is that of the newest header verified; next the hash of the validators that it names for the block after it.
	height int64
	next   []byte
}

// Header is a block header that the ledger's validators signed.
type Header struct {
	Height types.Height
	// Time is when the PREVIOUS block was agreed on: the validators' clocks, weighed by their power.
	Time types.Time
	// AppHash is the state root after the PREVIOUS block.
	AppHash types.Hash
	// Hash is the header's own hash, the block's name.
	Hash types.Hash
}

// ParseGenesis reads a ledger's genesis document as a node serves it.
func ParseGenesis(doc []byte) (Trust, error) {
	g, err := ledger.ParseGenesis(doc)
	if err != nil {
		return Trust{}, err
	}
	return TrustOf(g)
}

// TrustOf takes the validators from a genesis document.
func TrustOf(g ledger.Genesis) (Trust, error) {
	doc, err := g.Bytes()
	if err != nil {
		return Trust{}, err
	}
	if g, err = ledger.ParseGenesis(doc); err != nil { // defaults filled in: the validators depend on them
		return Trust{}, err
	}
	hash, err := g.Hash()
	if err != nil {
		return Trust{}, err
	}
	first := Validators(g)
	vals, seen := make([]*cmt.Validator, len(first)), make(map[string]bool, len(first))
	for i, v := range first {
		if seen[string(v.Address)] {
			return Trust{}, fmt.Errorf("genesis: node %d has the key of another node", i+1)
		}
		seen[string(v.Address)] = true
		vals[i] = cmt.NewValidator(v.PubKey, v.Power)
	}
	set, err := cmt.ValidatorSetFromExistingValidators(vals)
	if err != nil {
		return Trust{}, fmt.Errorf("genesis: %w", err)
	}
	return Trust{ChainID: g.ChainID, Genesis: hash, validators: set}, nil
}

// Validators are the ledger's first validators for CometBFT. g is normal: it comes from ledger.ParseGenesis or a running node.
func Validators(g ledger.Genesis) []cmt.GenesisValidator {
	first := g.GenesisValidators()
	out := make([]cmt.GenesisValidator, len(first))
	for i, v := range first {
		key := ed25519.PubKey(v.PublicKey[:])
		out[i] = cmt.GenesisValidator{Address: key.Address(), PubKey: key, Power: v.Power, Name: fmt.Sprintf("%04X", v.Node)}
	}
	return out
}

// Encode writes a bundle: CometBFT's LightBlock in protobuf.
func Encode(sh *cmt.SignedHeader, vals *cmt.ValidatorSet) ([]byte, error) {
	p, err := (&cmt.LightBlock{SignedHeader: sh, ValidatorSet: vals}).ToProto()
	if err != nil {
		return nil, err
	}
	return p.Marshal()
}

func decode(bundle []byte) (*cmt.LightBlock, error) {
	if len(bundle) == 0 || len(bundle) > MaxBundle {
		return nil, fmt.Errorf("%w: %d bytes, want 1..%d", ErrBundle, len(bundle), MaxBundle)
	}
	var p cmtproto.LightBlock
	if err := p.Unmarshal(bundle); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBundle, err)
	}
	if again, err := p.Marshal(); err != nil || !bytes.Equal(again, bundle) {
		return nil, fmt.Errorf("%w: not in canonical form", ErrBundle)
	}
	if p.SignedHeader == nil || p.SignedHeader.Header == nil || p.SignedHeader.Commit == nil || p.ValidatorSet == nil {
		return nil, fmt.Errorf("%w: header, commit or validator set is missing", ErrBundle)
	}
	lb, err := cmt.LightBlockFromProto(&p)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBundle, err)
	}
	return lb, nil
}

func headerOf(h *cmt.Header) (Header, error) {
	if h.Height < 0 || h.Height > int64(^types.Height(0)) {
		return Header{}, fmt.Errorf("%w: height %d is out of range", ErrBundle, h.Height)
	}
	out := Header{Height: types.Height(h.Height), Time: types.Time(h.Time.Unix())}
	for _, f := range []struct {
		to   *types.Hash
		from []byte
		name string
	}{{&out.AppHash, h.AppHash, "app hash"}, {&out.Hash, h.Hash(), "hash"}} {
		if len(f.from) != len(f.to) {
			return Header{}, fmt.Errorf("%w: the %s has %d bytes, want %d", ErrBundle, f.name, len(f.from), len(f.to))
		}
		copy(f.to[:], f.from)
	}
	return out, nil
}
