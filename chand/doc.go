// Package chand runs the rules for one owner: it holds the state of channels, payments, escrows, statements, timestamps and
// of the ledger account, and does what the rule packages ask for. It knows no library; the outside comes in through deps.go.
//
// One goroutine owns one mutable thing:
//
//	goroutine   owns                                                         ends
//	runner      one channel: state, outbox, records of its locks, queue      channel over, or stop
//	account     the ledger account: number, hash chain, pending transactions stop
//	announcer   the public channel graph, our announcements                  stop
//	library     the set of statements (package library)                      stop
//	stamper     the rounds of timestamps (package stamper)                   stop
//	peers       redialling the peers of our channels                         stop
//	watcher     the height up to which all owners have processed the ledger  stop
//	payment     one sent payment, between its attempts                       decided, or stop
//
// The library has helpers beside its owner, which change nothing: two ask peers for statements that are missed, one gossips
// ours again, one renews provider records. The stamper has one while an anchor is under way. All end with their owner.
//
// A payment's record belongs to its goroutine between attempts, and to the runner of the attempt's channel from the moment
// that takes the request until it reports. A forwarded lock has one record in each of its two channels (forward.go). Every
// owner that fails to save stops the daemon: what is on disk decides at the restart, by the code that runs always.
//
// # A payment, as eight calls
//
//	Daemon.Pay            find the same payment of before, else start one                                  pay.go
//	Daemon.findWay        a channel with the payee, or a route and its onion                               way.go
//	runner.ask            the operation goes to the channel's runner                                       runner.go
//	channel.Step          a new version with all that waits, signed once                                   runner_propose.go
//	Store.Commit          state, outbox, payment and lock records in one transaction: THE COMMIT POINT     runner.go
//	Transport.Send        then the update leaves                                                           runner.go
//	runner.take           at the peer: step, save, answer: a receipt, a preimage, a failure, or onwards    incoming.go, forward.go
//	payment.succeed       the answer is saved with the step that brought it, then Pay returns              payment.go
//
// Messages that are lost cost nothing: the automaton says again what the peer has not acknowledged, and reestablished repeats
// what only the daemon knows. Notices of the automaton may repeat; every handler looks at its record first.
package chand
