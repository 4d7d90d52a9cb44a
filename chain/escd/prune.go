package escd

import (
	"fmt"

	dbm "github.com/cometbft/cometbft-db"
	"github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/evidence"
	cmtstate "github.com/cometbft/cometbft/proto/tendermint/state"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
	cmt "github.com/cometbft/cometbft/types"

	"github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/types"
)

const (
	// DefaultKeepBlocks is three days of one-second blocks: as long as a daemon may be down and still read what it missed.
	DefaultKeepBlocks = 259_200
	// MinKeepBlocks lets peers that are a little behind go on block by block.
	MinKeepBlocks = 100
)

// markHeaders is the first block whose header may still be in CometBFT's stores.
const markHeaders = "headers"

// pruner forgets old blocks: CometBFT drops bodies when Commit says so, and headers that are too old for evidence; those that were
// young enough then it never looks at again, so they are dropped here. It reads CometBFT's stores beside it and belongs to
// the goroutine that commits.
type pruner struct {
	keep     types.Height // blocks, 0 for all
	journal  journal
	oldest   func() types.Height // snapshot
	blockDB  dbm.DB
	stateDB  dbm.DB
	blocks   *store.BlockStore // to read headers; its own idea of base and height is not used
	states   sm.Store
	evidence cmt.EvidenceParams
}

func (n *Node) newPruner() (*pruner, error) {
	blockDB, err := n.dbs.get(&config.DBContext{ID: "blockstore"})
	if err != nil {
		return nil, err
	}
	stateDB, err := n.dbs.get(&config.DBContext{ID: "state"})
	if err != nil {
		return nil, err
	}
	a := n.app
	return &pruner{keep: n.cfg.KeepBlocks, journal: a.journal, oldest: a.saver.kept.oldest, blockDB: blockDB, stateDB: stateDB,
		blocks: store.NewBlockStore(blockDB), states: sm.NewStore(stateDB, sm.StoreOptions{}),
		evidence: cometGenesis(n.genesis).ConsensusParams.Evidence}, nil
}

// committed is called when block h has been applied. It returns the first block that CometBFT is to keep, 0 for all that it has.
func (p *pruner) committed(h types.Height) (types.Height, error) {
	if err := p.keepChange(h - 1); err != nil {
		return 0, fmt.Errorf("keeping the change of validators in block %d: %w", h-1, err)
	}
	if p.keep == 0 || h <= p.keep {
		return 0, nil
	}
	// A restart replays from the oldest snapshot, and the block after it must be there.
	retain := min(h-p.keep+1, p.oldest()+1)
	base := types.Height(store.LoadBlockStoreState(p.blockDB).Base)
	retain = min(retain, base+pruneStep)
	if retain <= 1 {
		return 0, nil
	}
	if err := p.journal.prune(retain); err != nil {
		return 0, err
	}
	if retain <= base {
		return 0, nil
	}
	return retain, p.dropHeaders(base, h)
}

// keepChange stores the bundle of a block that names other validators for the next one, for ever: over these bundles light
// clients are led.
func (p *pruner) keepChange(h types.Height) error {
	meta := p.blocks.LoadBlockMeta(int64(h))
	if meta == nil || !light.Changed(&meta.Header) {
		return nil
	}
	raw, err := p.bundle(h, meta)
	if err != nil || raw == nil {
		return err
	}
	return p.journal.keepBundle(h, raw)
}

func (p *pruner) bundle(h types.Height, meta *cmt.BlockMeta) ([]byte, error) {
	commit := p.blocks.LoadBlockCommit(int64(h))
	if commit == nil {
		return nil, nil
	}
	vals, err := p.states.LoadValidators(int64(h))
	if err != nil {
		return nil, err
	}
	return light.Encode(&cmt.SignedHeader{Header: &meta.Header, Commit: commit}, vals)
}

// dropHeaders removes headers, commits and validators of blocks below base that are too old for evidence.
func (p *pruner) dropHeaders(base, head types.Height) error {
	from, err := p.journal.mark(markHeaders)
	if err != nil {
		return err
	}
	now := p.blocks.LoadBlockMeta(int64(head))
	if now == nil {
		return nil
	}
	blocks, states := p.blockDB.NewBatch(), p.stateDB.NewBatch()
	defer blocks.Close()
	defer states.Close()
	h := from
	for ; h < min(base, from+pruneStep); h++ {
		meta := p.blocks.LoadBlockMeta(int64(h))
		if meta == nil { // CometBFT has dropped it
			continue
		}
		if !evidence.IsEvidenceExpired(int64(head), now.Header.Time, int64(h), meta.Header.Time, p.evidence) {
			break
		}
		// The keys are CometBFT's own; a test holds them against its stores.
		for _, key := range []string{"H:%v", "C:%v", "EC:%v"} {
			if err := blocks.Delete(fmt.Appendf(nil, key, h)); err != nil {
				return err
			}
		}
		if err := p.dropValidators(states, h); err != nil {
			return err
		}
	}
	if h == from {
		return nil
	}
	if err := states.Write(); err != nil {
		return err
	}
	if err := blocks.Write(); err != nil {
		return err
	}
	return p.journal.db.Set(markKey(markHeaders), heightBytes(h))
}

// dropValidators removes a height's entry of the validators, unless it is a set that later heights refer to.
func (p *pruner) dropValidators(b dbm.Batch, h types.Height) error {
	key := fmt.Appendf(nil, "validatorsKey:%v", h)
	raw, err := p.stateDB.Get(key)
	if err != nil || raw == nil {
		return err
	}
	var v cmtstate.ValidatorsInfo
	if err := v.Unmarshal(raw); err != nil {
		return err
	}
	if v.ValidatorSet != nil {
		return nil
	}
	return b.Delete(key)
}
