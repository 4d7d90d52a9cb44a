// Package escd runs a node of the ledger: CometBFT v0.38 in this process orders and finalises blocks, package ledger holds
// the rules, and this package keeps what they need on disk and answers for it.
//
// A daemon starts a ledger of its own (single validator), is one of the validators that a given genesis document names, or follows
// a ledger by the address of another daemon's office. All but the first have peers, with which they stay connected. Each is
// a verifying full node: it replays every block and compares every state root itself. It fetches the blocks that it lacks from
// its peers' offices, checks each like CometBFT's block sync, and then starts CometBFT, which goes on peer to peer; a
// validator that reaches nobody starts at once, since the others may be waiting for it.
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
//	POST /v1/accounts                  creates an account for a key
//	POST /v1/transactions              one transaction, or a batch, into the mempool
//
// What is on disk under Home:
//
//	genesis.json    the ledger's genesis document; pinned at the first start and never replaced
//	peers.json      the peers' p2p addresses as last seen (only a hint)
//	state.snap      the ledger's state at some height, replaced atomically
//	data/           CometBFT's blocks, states, consensus log, and the events of every block
//
// Nothing is lost by kill -9 or power loss: CometBFT syncs a block before it is applied, and on a restart replays the blocks
// after the snapshot's height into the application, which writes the same events again.
package escd
