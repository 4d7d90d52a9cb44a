package wire

// Sizes that a peer can make us hold. Each bounds memory and time before anything is verified.
const (
	// MaxFrame is the largest channel message: an update with MaxOps adds, each with an onion packet of 1,366 bytes, fits.
	MaxFrame = 1 << 20
	// MaxOps bounds the operations of one update.
	MaxOps = 483
	// MaxStream bounds the payments in one PayStream: enough that its header and the signature weigh nothing, and an update that
	// holds only one is still made, checked and acknowledged within a millisecond.
	MaxStream = 4096
	// MaxLocks bounds the locks open in one channel: as many outputs as a Lightning commitment may carry (BOLT 2: 483 each way).
	MaxLocks = 966
	// MaxText bounds free text in messages.
	MaxText = 512
	// OnionSize is the size of a Sphinx packet, as in BOLT 4 (docs/onion.md).
	OnionSize = 1366
	// MaxPolicy bounds a signed policy (package route); the size it has now, and some room.
	MaxPolicy = 256
	// MaxReason bounds an onion-encrypted failure (BOLT 4: 292 bytes, ours may carry longer text).
	MaxReason = 1024
	// MaxGossip is the largest gossip message.
	MaxGossip = 64 << 10
	// MaxQuery is the largest request or answer of the query protocols.
	MaxQuery = 1 << 20
)
