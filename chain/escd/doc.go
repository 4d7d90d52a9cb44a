// Package escd runs a node of the ledger: CometBFT v0.38 in this process orders and finalises blocks, package ledger holds
// the rules, and this package keeps what they need on disk and answers for it.
//
// A daemon starts a ledger of its own (single validator), is one of the validators that a given genesis document names, or follows
// a ledger by the address of another daemon's office. All but the first have peers, with which they stay connected. Each is
// a verifying full node: it compares every state root itself. It fetches the blocks that it lacks from its peers' offices,
// or a snapshot where these are too many or no longer to be had, checks everything against the validators that it knows, and then
// starts CometBFT, which goes on peer to peer; a validator that reaches nobody starts at once, since the others may be
// waiting for it.
//
// The office is plain HTTP for other daemons, light clients and load generators:
//
//	GET  /v1/info                      chain, genesis hash, p2p address, height
//	GET  /v1/genesis                   the genesis document
//	GET  /v1/blocks?from=H             blocks with commits, binary
//	GET  /v1/blocks/{height}/bundle    signed header, for light.Trust.Advance
//	GET  /v1/accounts/{address}        proof of an account, for light.Trust.VerifyProof
//	GET  /v1/transactions/{id}         proof of a transaction, for light.Trust.VerifyProof
//	GET  /v1/counts?from=H&to=H        transactions by block
//	GET  /v1/snapshots                 snapshots of the state; below it anchors and chunks, for state sync
//	GET  /v1/changes?after=H           signed headers over which a verifier is led, binary
//	POST /v1/accounts                  creates an account for a key
//	POST /v1/transactions              one transaction, or a batch, into the mempool
//
// What is on disk under Home:
//
//	genesis.json    the ledger's genesis document; pinned at the first start and never replaced
//	peers.json      the peers' p2p addresses as last seen (only a hint)
//	data/           CometBFT's blocks, states and consensus log, the newest snapshots, what the validator signed last
//	events.db/      what every block did, for daemons and proofs
//	data.next/      while a state sync makes new data; data.old/ while it takes the old one's place
//
// Nothing is lost by kill -9 or power loss: CometBFT syncs a block before it is applied, and on a restart replays the blocks
// after the snapshot's height into the application, which writes the same events again.
package escd
