// Package route knows the public channels of the network and finds paths over them: signed channel announcements and
// policies with their gossip encoding, the channel graph, path finding with what was learnt from failures, and the check
// that a hop makes before it forwards a lock.
//
// It is ring 1: values in, values out. A Graph, a Penalties and a Scratch have one owner each; nothing here locks. Whether a contract
// exists is asked through a function argument; heights and times are arguments.
package route
