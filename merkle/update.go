package merkle

import "github.com/eschaton-network/chand/types"

// updateSpan is about how many leaves one call of run rehashes in Update. Of each level it fetches 64 bytes for each of them at most, which
// is what the innermost cache of a processor holds.
const updateSpan = 512

// Update replaces the leaves with these indexes, which ascend and are below Len, by what leaf gives, and rehashes all above them. Pages are
// rehashed at the same time where run allows it; leaf must be safe for that.
func (t *Tree) Update(indexes []uint32, leaf func(i int) types.Hash, run Run) {
	if len(indexes) == 0 {
		return
	}
	if len(t.dirty) > 0 {
		t.Root()
	}
	level := 0
	for changed := indexes; level == 0 || level+1 < len(t.levels); level += pageBits {
		spans := pageSpans(changed)
		above := make([][]uint32, len(spans)-1)
		run.each(len(above), func(k int) {
			span := changed[spans[k]:spans[k+1]]
			if level == 0 {
				t.levels[0].fetch(span, 0)
				for _, i := range span {
					*t.levels[0].at(int(i)) = leaf(int(i))
				}
			}
			above[k] = t.climb(level, span)
		})
		changed = nil
		for _, a := range above {
			changed = append(changed, a...)
		}
	}
}

// pageSpans cuts ascending indexes into pieces of about updateSpan that have no page in common; it returns where they start, and the end.
func pageSpans(indexes []uint32) []int {
	spans := []int{0}
	for i := updateSpan; i < len(indexes); i++ {
		if i-spans[len(spans)-1] >= updateSpan && indexes[i]>>pageBits != indexes[i-1]>>pageBits {
			spans = append(spans, i)
		}
	}
	return append(spans, len(indexes))
}

// climb rehashes pageBits levels above nodes of a level and returns the nodes changed in the last of them.
func (t *Tree) climb(level int, nodes []uint32) []uint32 {
	changed := append([]uint32(nil), nodes...)
	for k := level; k < level+pageBits && k+1 < len(t.levels); k++ {
		below, above, n := &t.levels[k], &t.levels[k+1], 0
		above.fetch(changed, 1)
		for _, i := range changed {
			p := i / 2
			if n > 0 && changed[n-1] == p {
				continue
			}
			*above.at(int(p)) = below.parent(int(p))
			changed[n] = p
			n++
		}
		changed = changed[:n]
	}
	return changed
}

// fetch reads something of the nodes with indexes i>>shift and so brings them, and their siblings beside them, into the processor's caches,
// many at the same time. Without it each write to a node waits for memory alone: hashing writes so much that the processor can't get
// ahead of a write that waits. It is not inlined, because its result is nobody's.
//
//go:noinline
func (l *level) fetch(indexes []uint32, shift int) (read byte) {
	for _, i := range indexes {
		read |= l.at(int(i >> shift))[0]
	}
	return read
}
