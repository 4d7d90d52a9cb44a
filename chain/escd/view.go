package escd

import "github.com/eschaton-network/chand/types"

// Pool is the ledger's money that is in no account, contract or output at Head: fees taken and not paid out again.
func (n *Node) Pool() types.Amount {
	n.app.mu.RLock()
	defer n.app.mu.RUnlock()
	return n.app.state.Pool()
}

// Following tells whether this node follows another daemon's ledger (a verifying full node) instead of validating its own.
func (n *Node) Following() bool { return n.join != nil }
