package types

// The values below cross the border between the daemon (chand) and its shells (store, peer, pubsub). Shells must not
// import chand, nor chand them, so both find the words here.

// Write puts Value under Key, or deletes Key when Value is nil.
type Write struct {
	Bucket, Key string
	Value       []byte
}

// LinkHandler receives what happens on links.
type LinkHandler struct {
	OnUp    func(peer NodeID)
	OnDown  func(peer NodeID)
	OnFrame func(peer NodeID, frame []byte)
}

// PeerInfo is one connected peer.
type PeerInfo struct {
	ID      NodeID
	Addr    string
	Inbound bool
}

// Verdict is what a gossip validator says of a message.
type Verdict int

const (
	// Accept: valid and new; pass it on.
	Accept Verdict = iota
	// Ignore: not useful (known, stale, not yet checkable); do not pass on, do not blame the sender.
	Ignore
	// Reject: invalid; do not pass on, blame the sender.
	Reject
)
