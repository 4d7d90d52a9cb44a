package chand

import (
	"sync"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/types/keytable"
)

const (
	// tableAfter is how many good signatures of a key are seen before its table is made: a table saves about half of a verification and
	// costs some twenty, so that keys that take turns and crowd each other out cost no more than without.
	tableAfter = 64
	// maxTables bounds the tables that are kept, some 14 MB.
	maxTables = 128
	// maxMet bounds the keys that are counted; when there are more, counting starts over.
	maxMet = 4096
)

// signers keeps tables of the keys whose signatures come often: peers' funding keys and payees. Safe for concurrent use.
type signers struct {
	mu     sync.Mutex
	tables map[types.PubKey]*keytable.Table // guarded by mu
	order  []types.PubKey                   // guarded by mu; of tables, the oldest first
	count  map[types.PubKey]int             // guarded by mu; of keys without a table
}

// table returns the table of a key, or nil.
func (s *signers) table(key types.PubKey) *keytable.Table {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tables[key]
}

// met counts a good signature of a key, and makes its table when they are many.
func (s *signers) met(key types.PubKey) {
	if !s.due(key) {
		return
	}
	pub, err := key.Parse()
	if err != nil {
		return // it has verified signatures, so it parses
	}
	table := keytable.New(pub)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tables[key] != nil {
		return // somebody else was faster
	}
	delete(s.count, key)
	if s.tables == nil {
		s.tables = make(map[types.PubKey]*keytable.Table)
	}
	if len(s.order) == maxTables {
		delete(s.tables, s.order[0])
		s.order = s.order[1:]
	}
	s.tables[key] = table
	s.order = append(s.order, key)
}

// due tells once for each key that a table is to be made.
func (s *signers) due(key types.PubKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tables[key] != nil {
		return false
	}
	if s.count == nil || len(s.count) >= maxMet {
		s.count = make(map[types.PubKey]int)
	}
	s.count[key]++
	return s.count[key]%tableAfter == 0
}
