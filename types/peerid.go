package types

// PeerID returns the bytes of the node's libp2p peer id (libp2p's peer.ID is a string of these), of which String is the base58 text.
func (n NodeID) PeerID() string { return string(peerIDPrefix) + string(n[:]) }

// NodeIDFromPeerID reads the bytes of a libp2p peer id. ok is false for ids of other key types. It does not check that
// the key is a curve point: libp2p did so when it authenticated the peer.
func NodeIDFromPeerID(id string) (n NodeID, ok bool) {
	if len(id) != len(peerIDPrefix)+len(n) || id[:len(peerIDPrefix)] != string(peerIDPrefix) {
		return n, false
	}
	copy(n[:], id[len(peerIDPrefix):])
	return n, true
}
