package ledger

import "encoding/binary"

// MessageHead reads which message of which node a transaction of a block is, and nothing else of it; ok is false for other kinds.
func MessageHead(blockTx []byte) (node uint16, msid uint32, ok bool) {
	if len(blockTx) < messageHead || len(blockTx) > MaxMessage || blockTx[0] != blockMessage {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint16(blockTx[68:]), binary.LittleEndian.Uint32(blockTx[70:]), true
}
