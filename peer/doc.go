// Package peer carries frames between daemons over libp2p (TCP, Noise, yamux; QUIC on request).
//
// # Links
//
// Two daemons share at most one link: one long-lived stream of protocol /chand/channel/1. Who opens it and who accepts it
// makes no difference afterwards. A frame is its length (4 bytes, big-endian, 1..wire.MaxFrame) and its payload.
//
// A link begins with three bytes, so that two daemons that open at the same moment end with exactly one stream, the same on
// both sides:
//
//	opener              acceptor
//	open     ──────────▶
//	         ◀──────────  accept     or reject, which closes the stream
//	confirm  ──────────▶             the link is up
//
// A daemon opens only while it has no link to that peer. An acceptor that waits for an answer to an open of its own
// rejects if its node id is the smaller one; otherwise it gives up its own and accepts. The confirm tells the acceptor
// that the opener still wants this stream: only then does it replace a link that it believed to be up (whose other
// end must be gone, or the opener would not have opened).
//
// # Goroutines
//
// Each link has three: one reads and calls the handler (OnUp, OnFrame…, OnDown, in this order, and the next link of the
// same peer only begins after OnDown returned), one writes, one waits to reset the stream. Each kept peer has one that dials again. Who dials or
// accepts at the moment has one.
//
// # Trust
//
// The other end is who its node id says (Noise). Everything else it sends may be hostile: it can make us hold
// wire.MaxFrame bytes while a frame arrives, and maxQueue bytes while it does not read. Frames of impossible
// length end the link and count as a strike; maxStrikes of them ban the peer for banTime.
package peer
