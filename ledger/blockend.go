package ledger

// blockEnd is what this block's transactions leave to be done at its end.
type blockEnd struct {
	accepted   []requestKey
	keys       []nodeKey
	votes      map[vote]map[uint16]bool
	voted      []vote // the keys of votes, in order
	nodes      []newNode
	retrievals []retrieval
}

func (e *blockEnd) vote(v vote, voter uint16, set bool) {
	if e.votes == nil {
		e.votes = make(map[vote]map[uint16]bool)
	}
	if e.votes[v] == nil {
		e.votes[v] = make(map[uint16]bool)
		e.voted = append(e.voted, v)
	}
	e.votes[v][voter] = set
}

// endBlock does what is left at the end of a block, in the original's order.
func (s *State) endBlock(log *eventLog) {
	s.matchRequests(log)
	s.changeNodeKeys(log)
	s.countVotes(log)
	s.createNodes(log)
	s.retrieveFunds(log)
	s.sweep(log)
	s.bookProfits(log)
	s.end = blockEnd{}
}
