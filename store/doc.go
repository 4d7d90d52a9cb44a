// Package store keeps a daemon's state in one bbolt file: named buckets of keys and values.
//
// What is promised: a Commit is all or nothing, and when it returned nil it survives kill -9 and power loss, as far
// as the disk keeps what it said was flushed. Commits that are called at the same time share one bbolt transaction (group
// commit): a single writer goroutine takes all that queued up while the previous flush ran, with no delay of its own.
//
// What is not: after an I/O error nobody knows what the disk holds. The store is then poisoned: every later Commit fails
// with the same error until the file is opened anew, which reads what is really there.
//
// Trusted: whoever can write the file can change balances the daemon believes in; the file is made with mode 0600. The
// file is not encrypted.
package store
