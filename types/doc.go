// Package types holds the words that every other package uses: amounts with checked arithmetic, typed ids with
// their text forms, block heights, and the parameters of the network with their reasons.
//
// It is ring 0: no I/O, no clock, no goroutine.
package types
