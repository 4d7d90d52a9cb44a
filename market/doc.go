// Package market holds the rules of selling: prices, offers as values, and the metering of prepaid credit.
//
// It is ring 1: pure values in, values out. The gateway and the daemon run it.
package market
