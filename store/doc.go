// Package store keeps a daemon's state in one folder: named buckets of keys and values, on the log-structured engine
// Pebble. A commit is appended to a log; what is overwritten or deleted soon never leaves memory and the log.
//
// What is promised: a Commit is all or nothing, and when it returned nil it survives kill -9 and power loss, as far
// as the disk keeps what it said was flushed. Commits that are called at the same time share one transaction, and with it one
// flush (group commit): a single writer goroutine takes all that queued up while the previous flush ran, with no delay of its own.
//
// Transactions are numbered and counted: a store that lost some between others does not open. The newest number that is known to be durable is kept beside the engine's files too (file
// CHAND), at every Close and each markEvery transactions: nor does a store open that lost some at its end. What cannot be told is a
// log that somebody cut after a kill from one that was never longer, within those transactions.
//
// What is not: after an I/O error nobody knows what the disk holds. The store is then poisoned: every later Commit fails
// with the same error until the folder is opened anew by another process, which reads what is really there.
//
// Trusted: whoever can write the files can change balances the daemon believes in; the folder is made with mode 0700. Nothing
// in it is encrypted.
package store
