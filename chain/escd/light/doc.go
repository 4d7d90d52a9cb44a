// Package light checks what a ledger node says, with nothing but the ledger's genesis document: no node, no network, no
// clock. A bundle (signed header, commit, validator set) proves a block's header, whose AppHash is the state root after the block
// before; from there the proofs of package ledger lead to an account, a contract or a transaction. Proof is all of it in one file.
//
// The genesis document names the first validators. Where they have changed since, a chain of bundles leads from one set to the next
// (Trust.Advance). No clock bounds how old a set may be: a light client that goes by a clock protects itself from validators who left,
// took their stake along and then sign another history, by not listening to sets older than the unbonding time. A proof of what
// happened years ago would be worth nothing then. So the rule here is another: a set speaks for the next one only with more than two
// thirds of its power, which is what could have signed another history at the time itself, and nothing that it signs later can
// take back what a verifier has accepted. Who fears keys of those who left long ago starts from a later header that he knows
// (TrustIn) instead of the genesis document.
package light
