package ledger

import "slices"

// pageBits fixes the size of the pages that accounts are kept in: 512 records, 48 KiB. Large enough that a list of millions costs
// nothing besides its records, small enough that the copy which the first change after a Freeze makes takes microseconds.
const (
	pageBits    = 9
	pageRecords = 1 << pageBits
)

// records is a list of account records in pages, all full but the last. A page that a frozen view holds too is copied before it is
// changed.
type records struct {
	pages [][]Record
	own   []bool // own[p]: no frozen view holds page p
	n     int
}

func (l *records) len() int { return l.n }

// at returns a record to be read, nil when there is none.
func (l *records) at(i uint32) *Record {
	if int64(i) >= int64(l.n) {
		return nil
	}
	return &l.pages[i>>pageBits][i&(pageRecords-1)]
}

// change returns a record to be changed, nil when there is none.
func (l *records) change(i uint32) *Record {
	if int64(i) >= int64(l.n) {
		return nil
	}
	p := i >> pageBits
	if !l.own[p] {
		l.pages[p] = append(make([]Record, 0, cap(l.pages[p])), l.pages[p]...)
		l.own[p] = true
	}
	return &l.pages[p][i&(pageRecords-1)]
}

// append adds a record. The first page grows as needed, because there may be thousands of nodes with few accounts.
func (l *records) append(r Record) {
	p := l.n >> pageBits
	if p == len(l.pages) {
		var page []Record
		if p > 0 {
			page = make([]Record, 0, pageRecords)
		}
		l.pages, l.own = append(l.pages, page), append(l.own, true)
	}
	if page := l.pages[p]; len(page) == cap(page) {
		l.pages[p] = append(make([]Record, 0, min(max(2*len(page), 1), pageRecords)), page...)
		l.own[p] = true
	}
	l.pages[p] = append(l.pages[p], r) // a frozen view does not see what is beyond its length
	l.n++
}

// freeze returns a view that is never changed; both go on with the same pages.
func (l *records) freeze() records {
	clear(l.own)
	return records{pages: slices.Clone(l.pages), own: make([]bool, len(l.pages)), n: l.n}
}
