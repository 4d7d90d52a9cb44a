// Package pubsub spreads messages to all daemons of the network: gossipsub on a libp2p host.
//
// Every message is signed by its author's node key and the signature is checked before anything else (strict
// signing); from is always the author. A message that a validator rejects counts against the peer that passed it on:
// such peers are first not gossiped to, then not published to, then not listened to.
//
// Nothing is stored: who is offline misses a message. A subscriber that falls more than deliverQueue messages behind loses the
// newest ones, rather than making the network wait; whatever must not be lost is found again through package dht.
//
// Trust: the author is who from says. Anyone may author anything, as often as the validators let it.
package pubsub
