package statement

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/eschaton-network/chand/types"
)

var (
	// ErrKnown says that the set holds the statement already.
	ErrKnown = errors.New("statement is known already")
	// ErrExpired says that the statement's last height has passed.
	ErrExpired = errors.New("statement has expired")
	// ErrRetired says that its issuer has superseded or revoked the statement.
	ErrRetired = errors.New("statement was superseded or revoked by its issuer")
	// ErrFull says that a bound of the set is reached.
	ErrFull = errors.New("no room for more statements")
)

// Limits bound a Set.
type Limits struct {
	// Total is the most statements held; PerIssuer the most of one issuer, so that one key can't crowd out the rest.
	Total, PerIssuer int
}

// DefaultLimits hold some 100 MB in the worst case of large statements, 20 MB usually.
var DefaultLimits = Limits{Total: 20_000, PerIssuer: 2_000}

// Set holds accepted statements with an index, and applies the rules of time:
//
//   - A statement is in force at a height in its range at which no statement of the same issuer that is in its own range
//     supersedes or revokes it. So supersession is undone when the newer one ends before the older one; revocation
//     has no end.
//   - What can never again be in force is dropped, and refused when it comes again; but one that supersedes or revokes
//     others is kept to its own end, or they would come back.
//
// It has no locks: one goroutine changes it, while nobody reads. Reads change nothing, so they may run side by side.
type Set struct {
	limits  Limits
	byID    map[ID]*Statement
	index   map[string][]ID // sorted; "" lists all
	issuers map[Key]int
	retirer map[ID][]*Statement // who names this id, of any issuer
}

// NewSet makes an empty set.
func NewSet(l Limits) *Set {
	return &Set{limits: l, byID: map[ID]*Statement{}, index: map[string][]ID{}, issuers: map[Key]int{}, retirer: map[ID][]*Statement{}}
}

// Len is the number of statements held.
func (x *Set) Len() int { return len(x.byID) }

// Get returns a statement that is held, in force or not, or nil.
func (x *Set) Get(id ID) *Statement { return x.byID[id] }

// Add takes a verified statement (from Open) at the height now. It returns the statements that were dropped because this
// one retires them for good; the caller deletes them from storage with the same write that adds this one.
// Errors: ErrKnown, ErrExpired, ErrRetired, ErrFull; nothing has changed then.
func (x *Set) Add(s *Statement, now types.Height) (dropped []*Statement, err error) {
	switch {
	case x.byID[s.ID] != nil:
		return nil, fmt.Errorf("%w: %s", ErrKnown, s.ID)
	case s.Until != 0 && s.Until < now:
		return nil, fmt.Errorf("%w: %s was valid until block %d, now is %d", ErrExpired, s.ID, s.Until, now)
	case x.done(s, now):
		return nil, fmt.Errorf("%w: %s", ErrRetired, s.ID)
	case len(x.byID) >= x.limits.Total:
		return nil, fmt.Errorf("%w: %d are held, of at most %d", ErrFull, len(x.byID), x.limits.Total)
	case x.issuers[s.Issuer] >= x.limits.PerIssuer:
		return nil, fmt.Errorf("%w: %d of issuer %s are held, of at most %d", ErrFull, x.issuers[s.Issuer], s.Issuer, x.limits.PerIssuer)
	}
	x.byID[s.ID] = s
	x.issuers[s.Issuer]++
	for _, k := range append(s.IndexKeys(), "") {
		ids := x.index[k]
		i, _ := slices.BinarySearchFunc(ids, s.ID, compareIDs)
		x.index[k] = slices.Insert(ids, i, s.ID)
	}
	for _, id := range s.retires() {
		x.retirer[id] = append(x.retirer[id], s)
		if old := x.byID[id]; old != nil && x.done(old, now) {
			x.remove(old)
			dropped = append(dropped, old)
		}
	}
	return dropped, nil
}

func (s *Statement) retires() []ID {
	ids := slices.Concat(s.Supersedes, s.Revokes)
	slices.SortFunc(ids, compareIDs)
	return slices.Compact(ids)
}

func compareIDs(a, b ID) int { return bytes.Compare(a[:], b[:]) }

// done tells whether the statement is superseded or revoked for all its time to come, and retires no other.
func (x *Set) done(s *Statement, now types.Height) bool {
	return len(s.Supersedes)+len(s.Revokes) == 0 && slices.ContainsFunc(x.retirer[s.ID], func(r *Statement) bool {
		return r.Issuer == s.Issuer && r.From <= now && (r.Until == 0 || s.Until != 0 && r.Until >= s.Until)
	})
}

// InForce tells whether the set holds the statement and it is valid, neither superseded nor revoked, at the height.
func (x *Set) InForce(id ID, h types.Height) bool {
	s := x.byID[id]
	return s != nil && s.ValidAt(h) && !slices.ContainsFunc(x.retirer[id], func(r *Statement) bool {
		return r.Issuer == s.Issuer && r.ValidAt(h)
	})
}

// Expire drops and returns what can never again be in force. It looks at every statement: call it every some blocks.
func (x *Set) Expire(now types.Height) []*Statement {
	var gone []*Statement
	for _, id := range x.index[""] {
		if s := x.byID[id]; s.Until != 0 && s.Until < now || x.done(s, now) {
			gone = append(gone, s)
		}
	}
	for _, s := range gone {
		x.remove(s)
	}
	return gone
}

// Remove drops a statement by the caller's own policy. It tells whether it was there.
func (x *Set) Remove(id ID) bool {
	s := x.byID[id]
	if s != nil {
		x.remove(s)
	}
	return s != nil
}

func (x *Set) remove(s *Statement) {
	delete(x.byID, s.ID)
	if x.issuers[s.Issuer]--; x.issuers[s.Issuer] == 0 {
		delete(x.issuers, s.Issuer)
	}
	for _, k := range append(s.IndexKeys(), "") {
		ids := x.index[k]
		if i, found := slices.BinarySearchFunc(ids, s.ID, compareIDs); found {
			ids = slices.Delete(ids, i, i+1)
		}
		if len(ids) == 0 {
			delete(x.index, k)
		} else {
			x.index[k] = ids
		}
	}
	for _, id := range s.retires() {
		rest := slices.DeleteFunc(x.retirer[id], func(r *Statement) bool { return r == s })
		if len(rest) == 0 {
			delete(x.retirer, id)
		} else {
			x.retirer[id] = rest
		}
	}
}

// Candidates yields the statements in force at the height that stand under any of the index keys (no keys: all), in
// the order of their ids, beginning after the id given (zero: from the start). The set must not change meanwhile.
func (x *Set) Candidates(keys []string, h types.Height, after ID) iter.Seq[*Statement] {
	var ids []ID
	switch len(keys) {
	case 0:
		ids = x.index[""]
	case 1:
		ids = x.index[keys[0]]
	default:
		for _, k := range keys {
			ids = append(ids, x.index[k]...)
		}
		slices.SortFunc(ids, compareIDs)
		ids = slices.Compact(ids)
	}
	if !after.IsZero() {
		i, found := slices.BinarySearchFunc(ids, after, compareIDs)
		if found {
			i++
		}
		ids = ids[i:]
	}
	return func(yield func(*Statement) bool) {
		for _, id := range ids {
			if x.InForce(id, h) && !yield(x.byID[id]) {
				return
			}
		}
	}
}

// Count is the number of statements under an index key, in force or not: what a scan of it costs at most.
func (x *Set) Count(key string) int { return len(x.index[key]) }
