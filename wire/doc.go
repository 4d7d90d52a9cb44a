// Package wire holds the messages that two daemons exchange about their channel, and their bytes.
//
// A frame is the message type (2 bytes) and the body. Integers are big-endian and of fixed width, booleans are 0 or 1, byte
// strings and lists are preceded by their count (2 bytes). Every value has exactly one encoding, nothing may follow the
// body, and every count is checked against its limit (limits.go) and against the bytes that are left before anything is allocated.
//
// It is ring 0: no I/O, no clock, no goroutine.
package wire
