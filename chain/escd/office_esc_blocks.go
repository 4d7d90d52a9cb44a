package escd

import (
	"fmt"
	"net/http"
	"strconv"

	cmt "github.com/cometbft/cometbft/types"

	"github.com/eschaton-network/chand/esc"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// escStored is what is kept of one block: what it did, and CometBFT's block and commit.
type escStored struct {
	*blockRecord
	head   ledger.BlockInfo
	block  *cmt.Block
	commit *cmt.Commit
}

// storedBlock reads a block; the caller must not hold CometBFT's stores.
func (n *Node) storedBlock(h types.Height) (s escStored, err error) {
	if s.blockRecord, err = n.app.journal.block(h); err != nil {
		return s, err
	}
	s.head, _ = n.app.wait()
	done, err := n.use()
	if err != nil {
		return s, err
	}
	defer done()
	blocks := n.comet.BlockStore()
	s.block = blocks.LoadBlock(int64(h))
	if s.commit = blocks.LoadBlockCommit(int64(h)); s.commit == nil {
		s.commit = blocks.LoadSeenCommit(int64(h)) // the newest block's is in no block yet
	}
	if s.block == nil || s.commit == nil || s.commit.Height != int64(h) {
		return s, fmt.Errorf("block %d: %w", h, ledger.ErrNotFound)
	}
	return s, nil
}

func (n *Node) validatorsAt(h types.Height) (*cmt.ValidatorSet, error) {
	done, err := n.use()
	if err != nil {
		return nil, err
	}
	defer done()
	return n.states.LoadValidators(int64(h))
}

func (n *Node) escBlock(h types.Height) (v esc.BlockView, err error) {
	s, err := n.storedBlock(h)
	if err != nil {
		return v, err
	}
	vals, err := n.validatorsAt(h)
	if err != nil {
		return v, err
	}
	v = esc.BlockView{Clock: n.clock(s.head), Height: h, Time: s.Time, MessageCount: len(s.messages()), StateRoot: s.parts.Root(),
		Transactions: s.parts.Transactions(), NodesRoot: s.parts.Nodes(), NowHash: s.Hash, VoteTotal: vals.TotalVotingPower(),
		Dividend: uint32(h)%n.genesis.DividendBlocks == 0}
	copy(v.OldHash[:], s.block.LastBlockID.Hash)
	copy(v.VIPHash[:], s.block.ValidatorsHash)
	for i, sig := range s.commit.Signatures {
		if _, val := vals.GetByIndex(int32(i)); sig.BlockIDFlag == cmt.BlockIDFlagCommit && val != nil {
			v.VoteYes += val.VotingPower
		}
	}
	a := n.app
	a.mu.Lock() // the roots of accounts may have to be computed
	defer a.mu.Unlock()
	if a.head.Height != h {
		return v, nil
	}
	v.Pool = a.state.Pool()
	v.Nodes = []esc.NodeView{{}} // node 0 stands for the network
	for i := 1; i <= a.state.Nodes(); i++ {
		r, err := a.state.Node(uint16(i))
		if err != nil {
			return v, err
		}
		v.Nodes = append(v.Nodes, esc.NodeView{ID: uint16(i), PublicKey: r.PublicKey, Hash: a.state.AccountsRoot(uint16(i)), MessageHash: r.MessageHash,
			Msid: r.Msid, Mtim: r.Mtim, Weight: r.Weight, Status: r.Status, Accounts: r.Accounts, Port: r.Port, IPv4: r.IPv4})
	}
	return v, nil
}

func (n *Node) escSignatures(h types.Height) (v esc.SignaturesView, err error) {
	s, err := n.storedBlock(h)
	if err != nil {
		return v, err
	}
	vals, err := n.validatorsAt(h)
	if err != nil {
		return v, err
	}
	v = esc.SignaturesView{Clock: n.clock(s.head), Height: h, Signatures: []esc.SignatureView{}, Nil: []esc.SignatureView{}}
	n.app.mu.RLock()
	defer n.app.mu.RUnlock()
	for i, sig := range s.commit.Signatures {
		_, val := vals.GetByIndex(int32(i))
		if val == nil || sig.BlockIDFlag == cmt.BlockIDFlagAbsent {
			continue
		}
		one := esc.SignatureView{PublicKey: types.Hash(val.PubKey.Bytes()), Signature: sig.Signature}
		one.Node = nodeWithKey(n.app.state, one.PublicKey)
		if sig.BlockIDFlag == cmt.BlockIDFlagCommit {
			v.Signatures = append(v.Signatures, one)
		} else {
			v.Nil = append(v.Nil, one)
		}
	}
	return v, nil
}

// maxVIPSearch bounds how many blocks are looked at for a set of validators.
const maxVIPSearch = 20_000

// escValidators finds a set of validators by its hash, from the newest block backwards.
func (o *office) escValidators(w http.ResponseWriter, r *http.Request) {
	hash, err := types.ParseHash(r.PathValue("hash"))
	if err != nil {
		bad(w, "validators: %v", err)
		return
	}
	v, err := o.n.escVIP(hash)
	reply(w, v, err)
}

func (n *Node) escVIP(hash types.Hash) (v esc.ValidatorsView, err error) {
	head, _ := n.app.wait()
	h, err := n.heightWithValidators(hash, head.Height)
	if err != nil {
		return v, err
	}
	vals, err := n.validatorsAt(h)
	if err != nil {
		return v, err
	}
	v = esc.ValidatorsView{Clock: n.clock(head), Hash: hash}
	for _, val := range vals.Validators { // by votes
		v.Keys = append(v.Keys, types.Hash(val.PubKey.Bytes()))
	}
	return v, nil
}

func (n *Node) heightWithValidators(hash types.Hash, newest types.Height) (types.Height, error) {
	done, err := n.use()
	if err != nil {
		return 0, err
	}
	defer done()
	blocks := n.comet.BlockStore()
	for h := int64(newest); h > max(int64(newest)-maxVIPSearch, 0); h-- {
		meta := blocks.LoadBlockMeta(h)
		if meta == nil {
			break
		}
		if types.Hash(meta.Header.ValidatorsHash) == hash {
			return types.Height(h), nil
		}
	}
	return 0, fmt.Errorf("validators %s in the last %d blocks: %w", hash, maxVIPSearch, ledger.ErrNotFound)
}

// messages are the messages that the block took; the direct transactions that it took count as one of node 0.
func (r *blockRecord) messages() []esc.MessageView {
	all := []esc.MessageView{}
	for _, e := range r.events {
		if e, ok := e.(ledger.MessageDone); ok && e.Code == ledger.CodeOK {
			all = append(all, esc.MessageView{Node: e.Node, Msid: e.Msid, Time: e.Time, Root: e.Root, Txs: e.Txs})
		}
	}
	if direct := len(r.roots) - len(all); direct > 0 {
		all = append(all, esc.MessageView{Msid: uint32(r.Height), Time: r.Time, Txs: uint32(direct)})
	}
	return all
}

// transactions are the bytes of every user transaction of a block, by place.
func (s escStored) transactions() map[ledger.Place][]byte {
	all := map[ledger.Place][]byte{}
	direct := ledger.Place{Msid: uint32(s.Height)}
	for _, raw := range s.block.Txs {
		if tx, ok := ledger.ParseDirect(raw); ok {
			direct.Position++
			all[direct] = tx
			continue
		}
		m, err := ledger.MessageTxs(raw)
		if err != nil {
			continue
		}
		for i, tx := range m.Txs {
			all[ledger.Place{Node: m.Node, Msid: m.Msid, Position: uint32(i + 1)}] = tx
		}
	}
	return all
}

func (n *Node) escMessages(h types.Height) (v esc.MessagesView, err error) {
	r, err := n.app.journal.block(h)
	if err != nil {
		return v, err
	}
	head, _ := n.app.wait()
	return esc.MessagesView{Clock: n.clock(head), Height: h, Time: r.Time, Root: r.parts.Transactions(), Messages: r.messages()}, nil
}

func (o *office) escMessage(w http.ResponseWriter, r *http.Request) {
	node, err1 := strconv.ParseUint(r.PathValue("node"), 10, 16)
	msid, err2 := strconv.ParseUint(r.PathValue("msid"), 10, 32)
	if err1 != nil || err2 != nil {
		bad(w, "message %.20q of node %.20q: want numbers", r.PathValue("msid"), r.PathValue("node"))
		return
	}
	v, err := o.n.escMessage(uint16(node), uint32(msid))
	if s := r.FormValue("height"); err == nil && s != "" && s != strconv.Itoa(int(v.Height)) {
		err = fmt.Errorf("message %d of node %d is in block %d, not in %.20q: %w", msid, node, v.Height, s, ledger.ErrNotFound)
	}
	reply(w, v, err)
}

// escMessage finds a node's message; node 0 stands for the direct transactions of a block.
func (n *Node) escMessage(node uint16, msid uint32) (v esc.OneMessageView, err error) {
	h := types.Height(msid)
	if node != 0 {
		if h, err = n.app.journal.message(node, msid); err != nil {
			return v, err
		}
	}
	s, err := n.storedBlock(h)
	if err != nil {
		return v, err
	}
	v = esc.OneMessageView{Clock: n.clock(s.head), Height: h, Txs: []esc.Bytes{}}
	for _, m := range s.messages() {
		if m.Node == node && m.Msid == msid {
			v.Message = m
		}
	}
	if v.Message.Txs == 0 {
		return v, fmt.Errorf("message %d of node %d: %w", msid, node, ledger.ErrNotFound)
	}
	for _, raw := range s.block.Txs {
		if direct, ok := ledger.ParseDirect(raw); ok && node == 0 {
			v.Txs = append(v.Txs, direct)
		}
		if !ledger.IsMessage(raw, node, msid) {
			continue
		}
		m, err := ledger.MessageTxs(raw)
		if err != nil || m.Root() != v.Message.Root { // another message with this number, which was not taken
			continue
		}
		v.Raw = esc.Bytes(raw)
		for _, tx := range m.Txs {
			v.Txs = append(v.Txs, tx)
		}
	}
	return v, nil
}

func (o *office) escTransaction(w http.ResponseWriter, r *http.Request) {
	place, err := ledger.ParsePlace(r.PathValue("place"))
	if err != nil {
		bad(w, "%v", err)
		return
	}
	v, err := o.n.escTransaction(place)
	reply(w, v, err)
}

// escTransaction finds a transaction by its place and proves it.
func (n *Node) escTransaction(p ledger.Place) (v esc.TransactionView, err error) {
	h := types.Height(p.Msid)
	if p.Node != 0 {
		if h, err = n.app.journal.message(p.Node, p.Msid); err != nil {
			return v, err
		}
	}
	r, err := n.app.journal.block(h)
	if err != nil {
		return v, err
	}
	fact, err := n.txFact(h, p)
	if err != nil {
		return v, err
	}
	head, _ := n.app.wait()
	return esc.TransactionView{Clock: n.clock(head), Height: h, Time: r.Time, Place: p, Raw: esc.Bytes(fact.Raw), Proof: fact.Proof, StateRoot: r.parts.Root()}, nil
}

func (n *Node) escBroadcasts(h types.Height) (v esc.BroadcastsView, err error) {
	s, err := n.storedBlock(h)
	if err != nil {
		return v, err
	}
	v = esc.BroadcastsView{Clock: n.clock(s.head), Height: h, Time: s.Time, Broadcasts: []esc.BroadcastView{}}
	places := map[types.Hash]ledger.Place{}
	for _, e := range s.events {
		if t, ok := e.(ledger.TxDone); ok && t.Code == ledger.CodeOK {
			places[t.ID] = t.Place
		}
	}
	known := map[types.Height]map[ledger.Place][]byte{h: s.transactions()}
	for _, e := range s.events {
		b, ok := e.(ledger.Broadcasted)
		if !ok {
			continue
		}
		p, in := places[b.TxID], h
		if p.Node == 0 { // direct ones are in an earlier block than the one that executes them, where the ledger delays them
			in = types.Height(p.Msid)
		}
		if known[in] == nil {
			other, err := n.storedBlock(in)
			if err != nil {
				return v, err
			}
			known[in] = other.transactions()
		}
		v.Broadcasts = append(v.Broadcasts, esc.BroadcastView{Place: p, Raw: known[in][p]})
	}
	return v, nil
}
