package escd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	cmtmerkle "github.com/cometbft/cometbft/crypto/merkle"
	"github.com/cometbft/cometbft/crypto/tmhash"
	cmtversion "github.com/cometbft/cometbft/proto/tendermint/version"
	sm "github.com/cometbft/cometbft/state"
	cmt "github.com/cometbft/cometbft/types"
	"github.com/cometbft/cometbft/version"

	"github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// Plant makes a home of which s is the ledger after block 1, as if that block had led there: a node started in it goes on with
// block 2. The configured node must be the only validator of the genesis. It is for measurements and tests that need a ledger of
// many accounts at once; nobody else would believe that block.
func Plant(c Config, s *ledger.State) error {
	if err := prepareHome(c.Home); err != nil {
		return err
	}
	g := s.Genesis()
	if s.Height() != 1 || len(g.Nodes) != 1 || g.Nodes[0].PublicKey != ledger.PublicKey(c.LedgerNodeSecret) {
		return errors.New("want the state after block 1 of a ledger whose only node is the configured one")
	}
	if err := writeGenesis(c.Home, g); err != nil {
		return err
	}
	state, last, err := plantedBlock(c, s)
	if err != nil {
		return err
	}
	raw, err := light.Encode(last.SignedHeader, last.ValidatorSet)
	if err != nil {
		return err
	}
	next := filepath.Join(c.Home, nextDir)
	kept, err := openSnapshots(filepath.Join(next, snapshotDir), c.Logger)
	if err != nil {
		return err
	}
	if err := kept.write(context.Background(), s.Freeze(), func() error { return nil }); err != nil {
		return err
	}
	if err := bootStores(next, state, last.Commit); err != nil {
		return err
	}
	done := &synced{Height: 1, Nanos: last.Time.UnixNano(), Hash: types.Hash(last.Hash()), AppHash: types.Hash(last.AppHash),
		Bundles: []keptBundle{{1, raw}}}
	if err := os.RemoveAll(filepath.Join(c.Home, dataDir)); err != nil {
		return err
	}
	if err := done.finish(c.Home); err != nil {
		return err
	}
	return settle(c.Home)
}

// plantedBlock signs block 1 and gives CometBFT's state after it.
func plantedBlock(c Config, s *ledger.State) (sm.State, *cmt.LightBlock, error) {
	doc := cometGenesis(s.Genesis())
	state, err := sm.MakeGenesisState(doc)
	if err != nil {
		return state, nil, err
	}
	root := s.Root()
	first, err := ledger.NewState(s.Genesis())
	if err != nil {
		return state, nil, err
	}
	before := first.Root()
	none := cmtmerkle.HashFromByteSlices(nil)
	h := &cmt.Header{Version: cmtversion.Consensus{Block: version.BlockProtocol, App: state.Version.Consensus.App}, ChainID: doc.ChainID, Height: 1,
		Time: s.Time().Std(), LastCommitHash: none, DataHash: none, EvidenceHash: none, LastResultsHash: none,
		ValidatorsHash: state.Validators.Hash(), NextValidatorsHash: state.NextValidators.Hash(), ConsensusHash: state.ConsensusParams.Hash(),
		AppHash: before[:], ProposerAddress: state.Validators.GetProposer().Address}
	commit := &cmt.Commit{Height: 1, BlockID: cmt.BlockID{Hash: h.Hash(), PartSetHeader: cmt.PartSetHeader{Total: 1, Hash: tmhash.Sum(h.Hash())}},
		Signatures: []cmt.CommitSig{{BlockIDFlag: cmt.BlockIDFlagCommit, ValidatorAddress: h.ProposerAddress, Timestamp: h.Time.Add(time.Second)}}} // the next block's time
	if commit.Signatures[0].Signature, err = privKey(c.LedgerNodeSecret).Sign(commit.VoteSignBytes(doc.ChainID, 0)); err != nil {
		return state, nil, err
	}
	last := &cmt.LightBlock{SignedHeader: &cmt.SignedHeader{Header: h, Commit: commit}, ValidatorSet: state.Validators.Copy()}
	state.LastValidators, state.Validators = state.Validators, state.NextValidators
	state.NextValidators = state.NextValidators.CopyIncrementProposerPriority(1)
	state.LastBlockHeight, state.LastBlockTime, state.LastBlockID = 1, h.Time, commit.BlockID
	state.LastHeightValidatorsChanged, state.LastResultsHash, state.AppHash = 3, none, root[:]
	return state, last, last.ValidateBasic(doc.ChainID)
}
