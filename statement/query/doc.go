// Package query asks sets of statements with CEL expressions (https://cel.dev), bounded in compile size, evaluation
// cost and answer size, and holds the messages by which one daemon asks another. Names and functions of the language
// stand in docs/statements.md; Compile's errors list them.
//
// It is ring 1: no I/O, no clock, no goroutine.
package query
