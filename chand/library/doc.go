// Package library owns the daemon's statements: it publishes ours, keeps those of others within bounds, spreads them, and
// answers and asks queries.
//
// Statements come in by three ways, and all are verified before they count: gossip (Topic), which is not stored on its way;
// synchronisation with every peer that connects and with one of the neighbours every few minutes, which brings what gossip
// missed; and answers to queries. One goroutine (the owner, in Run) changes the set and saves: what is in the set is on disk.
// Provider records in the DHT lead to our own statements.
//
// It imports the rules (packages statement and statement/query) and nothing of the daemon: what it needs of it stands in Config.
package library
