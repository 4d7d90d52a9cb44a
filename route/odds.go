package route

import (
	"math/bits"

	"github.com/eschaton-network/chand/types"
)

// Odds are kept as -ln of the probability of success, in 1/natOne. They add up over the channels of a path, and least sum is best odds.
const (
	natOne = 1 << 16
	// maxNats is what "it can't succeed, as far as is known" counts: one in 3,000.
	maxNats = 8 * natOne
)

// logTable holds log2(1 + i/256) in 1/2^16. Integers only, so that every machine finds the same route.
var logTable = func() (t [257]uint64) {
	for i := range t {
		x := uint64(256+i) << 22 // 1 + i/256 in 1/2^30, below 2^31 but for the last
		if i == 256 {
			t[i] = 1 << 16
			break
		}
		for range 16 {
			x = x * x >> 30
			t[i] <<= 1
			if x >= 1<<31 {
				t[i]++
				x >>= 1
			}
		}
	}
	return t
}()

// log2 returns the binary logarithm of x > 0 in 1/2^16, with an error below 2^-15. It never falls when x rises.
func log2(x uint64) uint64 {
	n := 63 - bits.LeadingZeros64(x)
	y := x << (63 - n)
	i, rest := y>>55&0xff, y>>39&0xffff
	return uint64(n)<<16 + logTable[i] + (logTable[i+1]-logTable[i])*rest>>16
}

// nats returns ln(num/den) in 1/natOne, 0 when num <= den; both are positive.
func nats(num, den uint64) uint64 {
	if num <= den {
		return 0
	}
	const ln2 = 45426 // in 1/2^16
	return (log2(num) - log2(den)) * ln2 >> 16
}

// span is what is supposed of a channel in one direction: it can carry something between low and high, everything equally likely.
type span struct {
	low, high types.Amount
}

// nats returns -ln of the probability that the channel carries amount on top of what it carries already.
func (s span) nats(used, amount types.Amount) uint64 {
	if amount > s.high || used > s.high-amount {
		return maxNats
	}
	if used+amount <= s.low {
		return 0
	}
	return min(maxNats, nats(uint64(s.high-max(s.low, used))+1, uint64(s.high-used-amount)+1))
}

// within fits what was learnt of a channel to what can be used of it.
func (s span) within(capacity types.Amount) span {
	return span{min(s.low, capacity), min(s.high, capacity)}
}
