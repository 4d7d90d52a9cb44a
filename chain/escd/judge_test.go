package escd

import (
	"net/http"
	"strings"
	"testing"
	"time"

	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	cmt "github.com/cometbft/cometbft/types"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// closed waits until every node sees that a ledger node is closed and no validator any more, and that blocks go on.
func closed(t *testing.T, id uint16, nodes ...*Node) {
	t.Helper()
	for _, n := range nodes {
		await(t, n, "the node is closed", func() bool {
			rec, err := n.node(id)
			return err == nil && rec.Status&ledger.NodeDoubleSpend != 0 && rec.Status&ledger.NodeVIP == 0
		})
		head, _ := n.app.wait()
		awaitHeight(t, n, head.Height+3)
	}
}

// A node that signs two messages with one number is found out by whoever sees the second one, and closed by all; so is one that does
// not keep a receipt.
func TestDoubleMessageIsPunished(t *testing.T) {
	configs := several(t, "a", "b", "c")
	nodes := make([]*Node, len(configs))
	for i, c := range configs {
		nodes[i] = start(t, c)
	}
	a, c := nodes[0], nodes[2]
	submit(t, c, sendOne(t, c, types.AccountID{Node: 3}, configs[2].AccountSecret, admin, 1))
	await(t, a, "node 3 has sent a message", func() bool { rec, err := a.node(3); return err == nil && rec.Msid >= 1 })
	// mallory has the key of node 3 and signs another message 1.
	first := ledger.FirstMessageRoot(a.app.params.Genesis, 3, ledger.PublicKey(configs[2].LedgerNodeSecret))
	m := ledger.NodeMessage{Node: 3, Msid: 1, Time: types.Time(time.Now().Unix()) - 1}
	m.Sign(configs[2].LedgerNodeSecret, first)
	raw, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	forged := append([]byte(nil), raw...)
	forged[10] ^= 1
	for _, tx := range [][]byte{forged, raw} { // what is not signed by the node harms nobody
		refusal, err := a.intoMempool(tx)
		if err != nil || refusal == nil || refusal.Code != ledger.CodeMsid {
			t.Fatalf("a message whose number is taken: %v, %v", refusal, err)
		}
		head, _ := a.app.wait()
		awaitHeight(t, a, head.Height+2)
		if rec, _ := a.node(3); string(tx) == string(forged) && rec.Status&ledger.NodeDoubleSpend != 0 {
			t.Fatal("a forged message closed the node")
		}
	}
	closed(t, 3, a, nodes[1], c)
	// node 2 has promised a transaction of c's a place, and never sends the message.
	head, _ := c.app.wait()
	r := ledger.NewReceipt(ledger.Place{Node: 2, Msid: 1000, Position: 1}, head.Height, []types.Hash{types.SHA256([]byte("a transaction"))})
	r.Sign(configs[1].LedgerNodeSecret, a.app.params.Genesis)
	c.judge.promised(r)
	closed(t, 2, a, nodes[1], c)
	if res, err := http.Post("http://"+a.OfficeAddr()+"/v1/evidence", "application/octet-stream", strings.NewReader("nothing")); err != nil || res.StatusCode != http.StatusBadRequest {
		t.Errorf("evidence that is none: %v, %v", res, err)
	}
}

// A validator that signs two blocks of one height is reported by CometBFT, and closed and cut by the rules.
func TestEquivocationIsPunished(t *testing.T) {
	configs := several(t, "a", "b", "c", "d")
	nodes := make([]*Node, len(configs))
	for i, c := range configs {
		nodes[i] = start(t, c)
	}
	a := nodes[0]
	awaitHeight(t, a, 2)
	key := privKey(configs[3].LedgerNodeSecret)
	set, err := a.states.LoadValidators(2)
	if err != nil {
		t.Fatal(err)
	}
	index, val := set.GetByAddress(key.PubKey().Address())
	meta := a.comet.BlockStore().LoadBlockMeta(2)
	vote := func(of string) *cmt.Vote {
		h := types.SHA256([]byte(of))
		v := &cmt.Vote{Type: cmtproto.PrecommitType, Height: 2, Timestamp: meta.Header.Time, ValidatorAddress: val.Address, ValidatorIndex: index,
			BlockID: cmt.BlockID{Hash: h[:], PartSetHeader: cmt.PartSetHeader{Total: 1, Hash: h[:]}}}
		sig, err := key.Sign(cmt.VoteSignBytes(a.genesis.ChainID, v.ToProto()))
		if err != nil {
			t.Fatal(err)
		}
		v.Signature = sig
		return v
	}
	ev, err := cmt.NewDuplicateVoteEvidence(vote("one"), vote("other"), meta.Header.Time, set)
	if err != nil {
		t.Fatal(err)
	}
	before, err := a.Account(types.AccountID{Node: 4})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.comet.EvidencePool().AddEvidence(ev); err != nil {
		t.Fatal(err)
	}
	closed(t, 4, nodes[:3]...)
	if after, _ := a.Account(types.AccountID{Node: 4}); after.Balance > before.Balance*7/8+types.Coin {
		t.Errorf("the bond of %s coins was not cut: %s", before.Balance, after.Balance)
	}
}
