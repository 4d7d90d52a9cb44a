package statement

import (
	"fmt"
	"iter"
	"slices"

	"github.com/eschaton-network/chand/types"
)

// PaidFor tells whether the statement carries a receipt of one of its subjects: what it says has cost something.
// (Open has verified the payee's signature.)
func (s *Statement) PaidFor() bool {
	return s.Receipt != nil && slices.Contains(s.Subjects, "peer:"+s.Receipt.Payee.String())
}

// Tally sums up whole-number ratings.
type Tally struct {
	Count         int
	Sum, Min, Max int64
}

func (t *Tally) add(v int64) {
	if t.Count == 0 || v < t.Min {
		t.Min = v
	}
	if t.Count == 0 || v > t.Max {
		t.Max = v
	}
	t.Count++
	t.Sum += v // at most Limits.Total values of 2^53: no overflow
}

// Mean is the average as decimal text with two digits, rounded towards zero; "" when there is nothing.
func (t Tally) Mean() string {
	if t.Count == 0 {
		return ""
	}
	sign, sum := "", t.Sum
	if sum < 0 {
		sign, sum = "-", -sum
	}
	n := int64(t.Count)
	return fmt.Sprintf("%s%d.%02d", sign, sum/n, sum%n*100/n)
}

// Rating is what is said of a subject: what was paid for apart from mere opinions.
type Rating struct {
	Paid, Opinions Tally
}

// Rate tallies the whole numbers at an attribute path ("rating.quality") of statements about a subject. A payment counts
// once, however many statements show its receipt; an issuer has one opinion, the latest by validity, then by id.
func Rate(statements iter.Seq[*Statement], subject, path string) Rating {
	paid := map[types.Hash]*Statement{}
	opinion := map[Key]*Statement{}
	for s := range statements {
		if _, ok := s.Attributes.Get(path).(int64); !ok || !slices.Contains(s.Subjects, subject) {
			continue
		}
		if s.PaidFor() {
			if old := paid[s.Receipt.PaymentHash]; old == nil || later(s, old) {
				paid[s.Receipt.PaymentHash] = s
			}
		} else if old := opinion[s.Issuer]; old == nil || later(s, old) {
			opinion[s.Issuer] = s
		}
	}
	var r Rating
	for _, s := range paid {
		r.Paid.add(s.Attributes.Get(path).(int64))
	}
	for _, s := range opinion {
		r.Opinions.add(s.Attributes.Get(path).(int64))
	}
	return r
}

func later(a, b *Statement) bool {
	if a.From != b.From {
		return a.From > b.From
	}
	return compareIDs(a.ID, b.ID) > 0
}

// TrustPath is the attribute by which an issuer trusts the keys among its subjects: trust = true.
const TrustPath = "trust"

// maxTrustVisits bounds the keys that a search for a path looks at.
const maxTrustVisits = 10_000

// Trusted lists the keys that a key trusts at a height, in order.
func (x *Set) Trusted(k Key, h types.Height) []Key {
	return x.trustEdges(IssuerKey(k), h, func(s *Statement) []Key {
		var out []Key
		for _, subject := range s.Subjects {
			if to, err := ParseKey(subject); err == nil && to != k {
				out = append(out, to)
			}
		}
		return out
	})
}

// TrustedBy lists the keys that trust a key at a height, in order.
func (x *Set) TrustedBy(k Key, h types.Height) []Key {
	return x.trustEdges(SubjectKey(k.String()), h, func(s *Statement) []Key {
		if s.Issuer == k {
			return nil
		}
		return []Key{s.Issuer}
	})
}

func (x *Set) trustEdges(key string, h types.Height, ends func(*Statement) []Key) []Key {
	var out []Key
	for s := range x.Candidates([]string{key}, h, ID{}) {
		if s.Attributes.Get(TrustPath) == true {
			out = append(out, ends(s)...)
		}
	}
	slices.SortFunc(out, func(a, b Key) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(out)
}

// FindTrust returns a shortest chain of keys, each trusting the next, from one key to another with at most hops steps, or
// nil. It searches from both ends: whom the one trusts, who trusts the other, until the two sets of signed
// statements meet.
func (x *Set) FindTrust(from, to Key, hops int, h types.Height) []Key {
	if from == to {
		return []Key{from}
	}
	ahead, behind := map[Key]Key{from: from}, map[Key]Key{to: to} // key -> the neighbour it was reached from
	front, back := []Key{from}, []Key{to}
	for range hops {
		forward := len(front) <= len(back)
		edge, seen, other := back, behind, ahead
		neighbours := x.TrustedBy
		if forward {
			edge, seen, other, neighbours = front, ahead, behind, x.Trusted
		}
		var next []Key
		for _, k := range edge {
			for _, n := range neighbours(k, h) {
				if _, known := seen[n]; known {
					continue
				}
				seen[n] = k
				if _, met := other[n]; met {
					return joinTrust(ahead, behind, n)
				}
				next = append(next, n)
				if len(ahead)+len(behind) > maxTrustVisits {
					return nil
				}
			}
		}
		if len(next) == 0 {
			return nil
		}
		if forward {
			front = next
		} else {
			back = next
		}
	}
	return nil
}

func joinTrust(ahead, behind map[Key]Key, meeting Key) []Key {
	path := []Key{meeting}
	for k := meeting; ahead[k] != k; k = ahead[k] {
		path = append(path, ahead[k])
	}
	slices.Reverse(path)
	for k := meeting; behind[k] != k; k = behind[k] {
		path = append(path, behind[k])
	}
	return path
}
