package itest

import (
	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/dht"
	"github.com/eschaton-network/chand/dht/memdht"
	"github.com/eschaton-network/chand/peer"
	"github.com/eschaton-network/chand/peer/mempipe"
	"github.com/eschaton-network/chand/pubsub"
	"github.com/eschaton-network/chand/pubsub/memgossip"
	"github.com/eschaton-network/chand/store"
	"github.com/eschaton-network/chand/store/memstore"
)

// Every shell and its memory twin is what the daemon asks for.
var (
	_ chand.Store     = (*store.Store)(nil)
	_ chand.Store     = (*memstore.Store)(nil)
	_ chand.Transport = (*peer.Node)(nil)
	_ chand.Transport = (*mempipe.Node)(nil)
	_ chand.Gossip    = (*pubsub.Gossip)(nil)
	_ chand.Gossip    = (*memgossip.Node)(nil)
	_ chand.Directory = (*dht.Directory)(nil)
	_ chand.Directory = (*memdht.Node)(nil)
)
