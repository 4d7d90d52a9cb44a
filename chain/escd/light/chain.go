package light

import (
	"encoding/binary"
	"fmt"
)

const (
	// MaxChain bounds the bundles of a chain: validators change once a dividend period at most (12 days by default), so this
	// is more than thirty years of changes.
	MaxChain = 1024
	// MaxChainBytes bounds their sizes together: 127 validators (the most that a genesis document allows) take some 25 kB a bundle.
	MaxChainBytes = 8 << 20
)

// Chain leads from the genesis document to a header: bundles of headers in order, each of which the validators trusted so far
// vouch for. Only where the validators changed too much in between there are others before the last.
type Chain [][]byte

// Verify checks a chain and returns the header that it ends at. The error wraps ErrBundle.
func (t Trust) Verify(c Chain) (Header, error) {
	if err := c.check(); err != nil {
		return Header{}, err
	}
	for i, b := range c {
		next, lb, err := t.Advance(b)
		if err != nil {
			return Header{}, err
		}
		if i == len(c)-1 {
			return headerOf(lb.Header)
		}
		t = next
	}
	return Header{}, fmt.Errorf("%w: the chain is empty", ErrBundle)
}

func (c Chain) check() error {
	size := 0
	for _, b := range c {
		size += len(b)
	}
	if len(c) == 0 || len(c) > MaxChain || size > MaxChainBytes {
		return fmt.Errorf("%w: a chain of %d bundles with %d bytes, want 1..%d with at most %d", ErrBundle, len(c), size, MaxChain, MaxChainBytes)
	}
	return nil
}

// Lead finds a short chain to the header of a bundle, given the bundles at which the validators changed, in order; those that are
// not before the header are not looked at. From what is trusted it always goes as far as possible. The error wraps ErrBundle.
func (t Trust) Lead(changes Chain, target []byte) (Chain, error) {
	last, err := decode(target)
	if err != nil {
		return nil, err
	}
	for i, b := range changes {
		lb, err := decode(b)
		if err != nil {
			return nil, err
		}
		if lb.Height >= last.Height {
			changes = changes[:i]
			break
		}
	}
	var out Chain
	for {
		_, _, err := t.Advance(target)
		if err == nil {
			out = append(out, target)
			return out, out.check()
		}
		far := len(changes) - 1
		for ; far >= 0; far-- {
			if next, _, err := t.Advance(changes[far]); err == nil {
				t = next
				break
			}
		}
		if far < 0 {
			return nil, fmt.Errorf("no chain of headers known here leads from block %d to block %d: %w", t.height, last.Height, err)
		}
		out, changes = append(out, changes[far]), changes[far+1:]
	}
}

// Encode writes the chain: each bundle behind its length in four bytes, little-endian.
func (c Chain) Encode() []byte {
	var out []byte
	for _, b := range c {
		out = append(binary.LittleEndian.AppendUint32(out, uint32(len(b))), b...)
	}
	return out
}

// ParseChain reads what Encode wrote. The bundles share b's memory. The error wraps ErrBundle.
func ParseChain(b []byte) (Chain, error) {
	var c Chain
	for len(b) > 0 {
		if len(b) < 4 || len(c) == MaxChain {
			return nil, fmt.Errorf("%w: a chain with something missing at its end, or of more than %d bundles", ErrBundle, MaxChain)
		}
		n := binary.LittleEndian.Uint32(b)
		b = b[4:]
		if n == 0 || uint64(n) > uint64(len(b)) {
			return nil, fmt.Errorf("%w: a bundle of %d bytes in a chain with %d more", ErrBundle, n, len(b))
		}
		c, b = append(c, b[:n:n]), b[n:]
	}
	return c, c.check()
}
