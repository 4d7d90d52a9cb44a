package ledger

import (
	"encoding/binary"

	"github.com/eschaton-network/chand/types"
)

// MessageHead reads which message of which node a transaction of a block is, and nothing else of it; ok is false for other kinds.
func MessageHead(blockTx []byte) (node uint16, msid uint32, ok bool) {
	if len(blockTx) < messageHead || len(blockTx) > MaxMessage || blockTx[0] != blockMessage {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint16(blockTx[68:]), binary.LittleEndian.Uint32(blockTx[70:]), true
}

// FirstMessageRoot stands for the root of the message before a node's first one, in what the first one's signature covers. key is
// the key that the node was created with.
func FirstMessageRoot(genesis types.Hash, node uint16, key types.Hash) types.Hash {
	return initialMessageHash(genesis, node, key)
}
