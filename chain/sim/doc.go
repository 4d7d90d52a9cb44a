// Package sim is the memory twin of the settlement chain: the real ledger rules in memory, blocks made on demand or by a
// ticker, and knobs for what goes wrong on real chains. Whole networks of daemons run on one Chain in one process, also
// under testing/synctest's fake time. Each daemon gets a View of its own, which has the methods of chand.Chain.
package sim
