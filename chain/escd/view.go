package escd

import (
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// Pool is the ledger's money that is in no account, contract or output at Head: fees taken and not paid out again.
func (n *Node) Pool() types.Amount {
	n.app.mu.RLock()
	defer n.app.mu.RUnlock()
	return n.app.state.Pool()
}

// Following tells whether this node is not a validator of the ledger now, but a verifying full node.
func (n *Node) Following() bool {
	head, _ := n.app.wait()
	done, err := n.use()
	if err != nil { // catching up: a validator that is alone never has to
		return true
	}
	defer done()
	set, err := n.states.LoadValidators(int64(head.Height) + 1)
	return err != nil || !set.HasAddress(n.key().Address())
}

// Record returns an account as the original stores it, and the block after which it is in this state.
func (n *Node) Record(id types.AccountID) (ledger.Record, types.Height, error) {
	n.app.mu.RLock()
	defer n.app.mu.RUnlock()
	r, err := n.app.state.Record(id)
	return r, n.app.state.Height(), err
}

// Nodes lists the ledger's nodes, number 1 first, and the validators that CometBFT was told of last, after a block.
func (n *Node) Nodes() ([]ledger.Node, []ledger.Validator, types.Height) {
	n.app.mu.RLock()
	defer n.app.mu.RUnlock()
	s := n.app.state
	nodes := make([]ledger.Node, s.Nodes())
	for i := range nodes {
		var err error
		if nodes[i], err = s.Node(uint16(i + 1)); err != nil { // all of them are there
			panic(err)
		}
	}
	return nodes, s.Validators(), s.Height()
}

// Block returns what a block did. ErrNotFound (package ledger) when it is not there yet, *ledger.Pruned when it is no longer.
func (n *Node) Block(h types.Height) (ledger.BlockEvents, error) {
	r, err := n.app.journal.block(h)
	if err != nil {
		return ledger.BlockEvents{}, err
	}
	return ledger.BlockEvents{BlockInfo: r.BlockInfo, Events: r.events}, nil
}
