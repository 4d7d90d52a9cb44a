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

// chain is a ledger of one validator: real transactions, messages, proofs and signed headers. It outlives the daemon, as
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
	message []byte
	txs     ledger.BlockTxs
	bundle  []byte
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

// mine makes a block whose second message holds the anchors, and the next header, which says its state root.
func (c *chain) mine() {
	h := int64(len(c.blocks) + 1)
	m := ledger.NodeMessage{Node: 1, Msid: uint32(h)}
	for _, a := range c.made {
		if a.in == 0 {
			a.in = types.Height(h)
			m.Txs = append(m.Txs, a.raw)
		}
	}
	b := block{txs: ledger.BlockTxs{Roots: []types.Hash{{1}, m.Root(), {2}, {3}}, Parts: ledger.Parts{{1}, {2}, {3}}}}
	root := types.SHA256([]byte("a block without anchors"))
	if len(m.Txs) > 0 {
		var err error
		if b.message, err = m.Encode(); err != nil {
			panic(err)
		}
		tx, p, err := b.txs.ProveMessageTx(b.message, 1)
		if err != nil {
			panic(err)
		}
		if root, err = p.Root(types.SHA256(tx)); err != nil {
			panic(err)
		}
	}
	b.bundle = c.sign(h+1, root[:])
	c.blocks = append(c.blocks, b)
}

// sign makes the block's header and its commit.
func (c *chain) sign(h int64, appHash []byte) []byte {
	pub := c.key.PubKey()
	vals := cmt.NewValidatorSet([]*cmt.Validator{cmt.NewValidator(pub, 10)})
	some := types.SHA256([]byte("something"))
	header := &cmt.Header{
		Version: cmtversion.Consensus{Block: version.BlockProtocol}, ChainID: c.genesis.ChainID, Height: h, Time: time.Now().UTC(),
		ValidatorsHash: vals.Hash(), NextValidatorsHash: vals.Hash(), DataHash: some[:], ConsensusHash: some[:], AppHash: appHash,
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
func (c *chain) TxProof(_ context.Context, id types.Hash) (types.Height, ledger.TxProof, []byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.late > 0 {
		c.late--
		return 0, ledger.TxProof{}, nil, ledger.ErrNotFound
	}
	for i, b := range c.blocks {
		for at := uint32(1); b.message != nil; at++ {
			tx, p, err := b.txs.ProveMessageTx(b.message, at)
			if err != nil {
				break
			}
			if types.SHA256(tx) == id {
				return types.Height(i + 1), p, light.Chain{b.bundle}.Encode(), nil
			}
		}
	}
	return 0, ledger.TxProof{}, nil, ledger.ErrNotFound
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
