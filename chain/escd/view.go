package escd

import "github.com/eschaton-network/chand/types"

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
