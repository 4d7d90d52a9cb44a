// Package tower is both ends of a watchtower: Service keeps refunds for others and publishes one when an older version of its channel
// appears on the ledger; Client gives a daemon's own to the towers of its choice and pays them.
//
// What a tower holds is one transaction for each channel, however many updates the channel has seen: the newest refund, signed by both parties.
// It is no secret that could be turned against its owner. It can supersede an older version in a dispute window, nothing else: starting a
// window takes a close key. A tower sees the balances of what it watches, and could sell that knowledge or fail to act; several can be used.
// It does not claim locks, which takes the lock key: their owner must be back before they expire.
//
// The rules of what a refund is are the ledger's (ledger.CheckRefund). Like the other sub-packages of chand this one imports rules only.
package tower
