package ledger

import (
	"encoding/binary"

	"github.com/eschaton-network/chand/types"
)

const (
	// dividendShift: dividends are counted on each 65,536 units of a balance.
	dividendShift = 16
	// sweepAccounts is the number of accounts in a row that one step of the sweep visits (E17).
	sweepAccounts = 32
	// dormantAfter is how long an account may be without a transaction of its own and still get dividends; after twice as long it also
	// loses a thousandth of its balance in each period (A19: one and two years).
	dormantAfter  types.Time = 365 * 24 * 3600
	wastingAfter             = 2 * dormantAfter
	wastingShare             = 1000
	secondsMillis            = 1000
)

// period is the running dividend period.
type period struct {
	// factor is the dividend on each 65,536 units.
	factor types.Amount
	// start is later than every stamp of the periods before: an account with an older RemoteChange has not had its dividend yet.
	start types.Time
}

// stamp is the time that RemoteChange gets: that of the block. Where a period begins within the same second as the block before it, it
// is one second later, so that stamps always tell periods apart.
func (s *State) stamp() types.Time { return max(s.time, s.period.start) }

// periodTime is the length of a dividend period in seconds.
func (s *State) periodTime() types.Time {
	return max(types.Time(uint64(s.genesis.DividendBlocks)*uint64(s.genesis.BlockMillis)/secondsMillis), 1)
}

// beginPeriod starts the next dividend period in each block whose number is a multiple of its length: what is in the pool is divided by
// all that the accounts hold. Contracts, outputs and stake get nothing. before is the last block's stamp.
func (s *State) beginPeriod(before types.Time) {
	if uint32(s.height)%s.genesis.DividendBlocks != 0 {
		return
	}
	var held types.Amount
	for _, n := range s.nodes {
		held += n.Weight
	}
	s.period = period{start: min(max(s.time, before+1), maxTime)}
	if parts := held >> dividendShift; parts > 0 {
		s.period.factor = s.pool / parts
	}
}

// dividendOf is what the running period changes an account's balance by, if it has not done so yet, and the maintenance fee in it. It depends
// on when the period began and on the balance, not on when it is asked.
func (s *State) dividendOf(r *Record) (change, fee types.Amount) {
	if types.Time(r.RemoteChange) >= s.period.start || r.Status&StatusDeleted != 0 {
		return 0, 0
	}
	idle := s.period.start - types.Time(r.LocalChange)
	if idle <= dormantAfter {
		change = r.Balance >> dividendShift * s.period.factor
	}
	if idle > wastingAfter {
		change -= r.Balance / wastingShare
	}
	fee = min(maintenanceFee, r.Balance+change)
	return change - fee, fee
}

// available is what an account may spend, with the dividend and the fee that come first.
func (s *State) available(id types.AccountID, r *Record) types.Amount {
	change, _ := s.dividendOf(r)
	return spendable(id, r.Balance+change)
}

// payDividend settles the running period with an account, once. Whatever changes a balance does this first.
func (s *State) payDividend(id types.AccountID) {
	r := s.peek(id)
	if types.Time(r.RemoteChange) >= s.period.start || r.Status&StatusDeleted != 0 {
		return
	}
	change, fee := s.dividendOf(r)
	r = s.record(id)
	r.RemoteChange = uint32(s.stamp())
	r.Balance += change
	n := s.node(id.Node)
	n.Weight += change
	n.profit += fee >> shareShift
	s.pool -= change
	s.touch(id)
	if change != 0 && s.log != nil {
		s.log.emit(Dividend{To: id, Amount: change})
	}
}

// sweep settles the period, in the blocks of its second half, with accounts that nothing touched: in each of these blocks and of each node
// those whose number/32 fits, so that each account has its turn once and a block's work is a small part of all accounts. It deletes
// those that are used up.
func (s *State) sweep(log *eventLog) {
	half := s.genesis.DividendBlocks / 2
	if uint32(s.height)%s.genesis.DividendBlocks < half {
		return
	}
	for i, n := range s.nodes {
		id := types.AccountID{Node: uint16(i + 1)}
		first := (uint64(s.height) + uint64(id.Node)) % uint64(half)
		for at := first * sweepAccounts; at < uint64(n.accounts.len()); at += uint64(half) * sweepAccounts {
			for user := at; user < min(at+sweepAccounts, uint64(n.accounts.len())); user++ {
				id.User = uint32(user)
				s.payDividend(id)
				s.deleteUsedUp(log, id)
			}
		}
	}
}

// append writes the period as it is hashed and stored in snapshots.
func (p *period) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(p.factor))
	return binary.LittleEndian.AppendUint64(b, uint64(p.start))
}

func (d *decoder) period(s *State) {
	s.period = period{factor: d.amount(), start: types.Time(d.amount())}
	if f := s.period.factor; f < 0 || f > Supply || s.period.start < s.genesis.Time || s.period.start > maxTime {
		d.fail("dividend factor %d since %d", f, s.period.start)
	}
}
