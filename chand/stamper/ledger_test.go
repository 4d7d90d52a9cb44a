package stamper_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	cmtkey "github.com/cometbft/cometbft/crypto/ed25519"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	cmtversion "github.com/cometbft/cometbft/proto/tendermint/version"
	cmt "github.com/cometbft/cometbft/types"
	"github.com/cometbft/cometbft/version"

	"github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/internal/offline"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/timestamp"
	"github.com/eschaton-network/chand/types"
)

// chain is a ledger of one validator: real transactions, real data_hash trees, real signed headers. It outlives the daemon, as
// do the accountant's records of keys.
type chain struct {
	t       testing.TB
	genesis ledger.Genesis
	hash    types.Hash
	trust   light.Trust
	key     cmtkey.PrivKey
	secret  [32]byte

	mu     sync.Mutex
	made   map[string]*anchor // by key
	blocks []block
	refuse func(key string) error // nil: nothing
	late   int                    // so many questions for a path fail first
	halted bool
}

type anchor struct {
	values []types.Hash
	raw    []byte
	in     types.Height
}

type block struct {
	txs    [][]byte
	bundle []byte
}

func newChain(t testing.TB) *chain {
	secret := ledger.BrainKey("validator of the test")
	g := ledger.Genesis{ChainID: "stamps", Time: types.Time(time.Now().Unix()), BlockMillis: 1000, Nodes: []ledger.GenesisNode{{
		PublicKey: ledger.PublicKey(secret), Account0: ledger.PublicKey(ledger.BrainKey("account")),
	}}}
	c := &chain{t: t, genesis: g, secret: ledger.BrainKey("account"), key: cmtkey.PrivKey(ed25519.NewKeyFromSeed(secret[:])), made: map[string]*anchor{}}
	var err error
	if c.hash, err = g.Hash(); err != nil {
		t.Fatal(err)
	}
	if c.trust, err = light.TrustOf(g); err != nil {
		t.Fatal(err)
	}
	return c
}

// Anchor keeps the contract of stamper.Config.Anchor: one transaction a key, in the next block.
func (c *chain) Anchor(ctx context.Context, key string, values []types.Hash) ([]byte, error) {
	c.mu.Lock()
	if c.refuse != nil {
		if err := c.refuse(key); err != nil {
			c.mu.Unlock()
			return nil, err
		}
	}
	a := c.made[key]
	if a == nil {
		raw, _, err := ledger.Sign(c.secret, types.SHA256([]byte(key)), ledger.Head{From: types.AccountID{Node: 1}, Msid: uint32(len(c.made)) + 1, Time: 1}, ledger.Anchor{Hashes: values})
		if err != nil {
			c.mu.Unlock()
			return nil, err
		}
		a = &anchor{values: values, raw: raw}
		c.made[key] = a
	}
	if fmt.Sprint(a.values) != fmt.Sprint(values) {
		c.mu.Unlock()
		return nil, errors.New("the key was used for another anchor")
	}
	c.mu.Unlock()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
		c.mu.Lock()
		in := a.in
		c.mu.Unlock()
		if in != 0 {
			return a.raw, nil
		}
	}
}

// run makes a block every second with the anchors that wait among other transactions.
func (c *chain) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.mu.Lock()
			if !c.halted {
				c.mine()
			}
			c.mu.Unlock()
		}
	}
}

func (c *chain) mine() {
	h := int64(len(c.blocks) + 1)
	b := block{txs: [][]byte{fmt.Appendf(nil, "first of block %d", h)}}
	for _, a := range c.made {
		if a.in == 0 {
			a.in = types.Height(h)
			b.txs = append(b.txs, a.raw)
		}
	}
	b.txs = append(b.txs, []byte("another"), []byte("last"))
	var txs cmt.Txs
	for _, tx := range b.txs {
		txs = append(txs, tx)
	}
	b.bundle = c.sign(h, txs.Hash())
	c.blocks = append(c.blocks, b)
}

// sign makes the block's header and its commit.
func (c *chain) sign(h int64, dataHash []byte) []byte {
	pub := c.key.PubKey()
	vals := cmt.NewValidatorSet([]*cmt.Validator{cmt.NewValidator(pub, 10)})
	some := types.SHA256([]byte("something"))
	header := &cmt.Header{
		Version: cmtversion.Consensus{Block: version.BlockProtocol}, ChainID: c.genesis.ChainID, Height: h, Time: time.Now().UTC(),
		ValidatorsHash: vals.Hash(), NextValidatorsHash: vals.Hash(), DataHash: dataHash, ConsensusHash: some[:], AppHash: some[:],
		LastResultsHash: some[:], EvidenceHash: some[:], LastCommitHash: some[:], ProposerAddress: pub.Address(),
	}
	id := cmt.BlockID{Hash: header.Hash(), PartSetHeader: cmt.PartSetHeader{Total: 1, Hash: some[:]}}
	vote := &cmt.Vote{Type: cmtproto.PrecommitType, Height: h, BlockID: id, Timestamp: header.Time, ValidatorAddress: pub.Address()}
	sig, err := c.key.Sign(cmt.VoteSignBytes(c.genesis.ChainID, vote.ToProto()))
	if err != nil {
		panic(err)
	}
	vote.Signature = sig
	commit := &cmt.Commit{Height: h, BlockID: id, Signatures: []cmt.CommitSig{vote.CommitSig()}}
	bundle, err := light.Encode(&cmt.SignedHeader{Header: header, Commit: commit}, vals)
	if err != nil {
		panic(err)
	}
	return bundle
}

// TxProof keeps the contract of stamper.Proofs.
func (c *chain) TxProof(id types.Hash) (types.Height, []timestamp.Step, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.late > 0 {
		c.late--
		return 0, nil, ledger.ErrNotFound
	}
	for i, b := range c.blocks {
		ids := make([]types.Hash, len(b.txs))
		at := -1
		for k, tx := range b.txs {
			if ids[k] = types.SHA256(tx); ids[k] == id {
				at = k
			}
		}
		if at >= 0 {
			_, steps, err := timestamp.DataHashPath(ids, at)
			return types.Height(i + 1), steps, err
		}
	}
	return 0, nil, ledger.ErrNotFound
}

// Bundle keeps the contract of stamper.Proofs.
func (c *chain) Bundle(h types.Height) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blocks[h-1].bundle, nil
}

// anchors counts the transactions that were made, and the values in them.
func (c *chain) anchors() (txs, values int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.made {
		values += len(a.values)
	}
	return len(c.made), values
}

// verify judges a proof as a stranger would who has the genesis document and nothing else.
func (c *chain) verify(t testing.TB, digest [32]byte, ots []byte) timestamp.Result {
	t.Helper()
	r, err := offline.Headers{Trust: c.trust}.Verify(digest, ots)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
