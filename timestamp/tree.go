package timestamp

import (
	"bytes"
	"fmt"
	"slices"
)

// Timestamp is a node of a proof: a message, attestations of it, and operations that lead to further messages. Nodes
// are built by Attest and Then, or decoded; the message of a child is always the operation's result.
type Timestamp struct {
	Msg          []byte
	Attestations []Attestation
	Branches     []Branch
}

// Branch is one operation and the node at its result.
type Branch struct {
	Op Op
	To *Timestamp
}

// New starts a tree at a message of 1..MaxMessage bytes (a digest).
func New(msg []byte) *Timestamp { return &Timestamp{Msg: bytes.Clone(msg)} }

// Attest adds an attestation to the node, in order, once.
func (t *Timestamp) Attest(a Attestation) error {
	if err := a.check(); err != nil {
		return err
	}
	i, found := slices.BinarySearchFunc(t.Attestations, a, compareAttestations)
	if !found {
		t.Attestations = slices.Insert(t.Attestations, i, a)
	}
	return nil
}

// Then returns the node at the end of the operations, adding what is not there.
func (t *Timestamp) Then(ops ...Op) (*Timestamp, error) {
	for _, op := range ops {
		i, found := t.branch(op)
		if !found {
			msg, err := op.apply(t.Msg)
			if err != nil {
				return nil, err
			}
			t.Branches = slices.Insert(t.Branches, i, Branch{op, &Timestamp{Msg: msg}})
		}
		t = t.Branches[i].To
	}
	return t, nil
}

func (t *Timestamp) branch(op Op) (int, bool) {
	return slices.BinarySearchFunc(t.Branches, op, func(b Branch, o Op) int { return compareOps(b.Op, o) })
}

// Merge adds everything that o proves of the same message. Nodes of o become part of t.
func (t *Timestamp) Merge(o *Timestamp) error {
	if !bytes.Equal(t.Msg, o.Msg) {
		return fmt.Errorf("timestamps of different messages (%x and %x) can't be merged", clipMsg(t.Msg), clipMsg(o.Msg))
	}
	for _, a := range o.Attestations {
		if err := t.Attest(a); err != nil {
			return err
		}
	}
	for _, b := range o.Branches {
		i, found := t.branch(b.Op)
		if !found {
			t.Branches = slices.Insert(t.Branches, i, b)
			continue
		}
		if err := t.Branches[i].To.Merge(b.To); err != nil {
			return err
		}
	}
	return nil
}

func clipMsg(m []byte) []byte { return m[:min(len(m), 44)] }

// Walk calls fn for every attestation with the message it stands on, in the order of the file.
func (t *Timestamp) Walk(fn func(msg []byte, a Attestation)) {
	t.walk(func(n *Timestamp) {
		for _, a := range n.Attestations {
			fn(n.Msg, a)
		}
	})
}

func (t *Timestamp) walk(fn func(*Timestamp)) {
	fn(t)
	for _, b := range t.Branches {
		b.To.walk(fn)
	}
}

// PendingAt lists the commitments that wait at a calendar: the messages with a pending attestation, with its address.
func (t *Timestamp) PendingAt() (msgs [][]byte, uris []string) {
	t.Walk(func(msg []byte, a Attestation) {
		if p, ok := a.(Pending); ok {
			msgs, uris = append(msgs, msg), append(uris, p.URI)
		}
	})
	return msgs, uris
}

// Upgrade joins a continuation (what a calendar answers for a commitment, or AnchorPath.Timestamp) wherever its message
// stands in the tree, and tells at how many nodes it did. Pending attestations stay, so that a better anchor (another
// chain) can still be asked for.
func (t *Timestamp) Upgrade(continuation *Timestamp) (int, error) {
	var at []*Timestamp
	t.walk(func(n *Timestamp) {
		if bytes.Equal(n.Msg, continuation.Msg) {
			at = append(at, n)
		}
	})
	for _, n := range at {
		// Merge makes nodes shared; decoding our own encoding gives every place nodes of its own.
		b, err := continuation.Encode()
		if err != nil {
			return 0, err
		}
		c, err := Decode(n.Msg, b)
		if err != nil {
			return 0, err
		}
		if err := n.Merge(c); err != nil {
			return 0, err
		}
	}
	return len(at), nil
}

// Encode writes the tree without its first message, as calendars answer.
func (t *Timestamp) Encode() ([]byte, error) { return t.append(nil, MaxDepth) }

// Decode reads a tree that starts at msg, as a calendar answered it; trailing bytes are refused.
func Decode(msg, b []byte) (*Timestamp, error) {
	if len(b) > MaxFile || len(msg) == 0 || len(msg) > MaxMessage {
		return nil, fmt.Errorf("%w: %d bytes on a message of %d, want at most %d on 1..%d", ErrFormat, len(b), len(msg), MaxFile, MaxMessage)
	}
	r := &reader{buf: b, work: maxWork}
	t, err := r.timestamp(bytes.Clone(msg), MaxDepth)
	if err != nil {
		return nil, err
	}
	return t, r.end()
}

const (
	forkMark        = 0xff // another item follows after this one
	attestationMark = 0x00
)

func (t *Timestamp) append(dst []byte, depth int) ([]byte, error) {
	left := len(t.Attestations) + len(t.Branches)
	if left == 0 {
		return nil, fmt.Errorf("%w: a path ends without an attestation", ErrFormat)
	}
	if depth == 0 {
		return nil, fmt.Errorf("%w: path of more than %d steps", ErrFormat, MaxDepth)
	}
	mark := func() {
		if left--; left > 0 {
			dst = append(dst, forkMark)
		}
	}
	for _, a := range t.Attestations {
		mark()
		dst = appendAttestation(append(dst, attestationMark), a)
	}
	var err error
	for _, b := range t.Branches {
		mark()
		dst = append(dst, b.Op.Tag)
		if b.Op.binary() {
			dst = putString(dst, string(b.Op.Arg))
		}
		if dst, err = b.To.append(dst, depth-1); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

func (r *reader) timestamp(msg []byte, depth int) (*Timestamp, error) {
	if depth == 0 {
		return nil, fmt.Errorf("%w: path of more than %d steps", ErrFormat, MaxDepth)
	}
	t := &Timestamp{Msg: msg}
	for range maxItems {
		mark, err := r.byte()
		if err != nil {
			return nil, err
		}
		tag := mark
		if mark == forkMark {
			if tag, err = r.byte(); err != nil {
				return nil, err
			}
		}
		if err := r.item(t, tag, depth); err != nil {
			return nil, err
		}
		if mark != forkMark {
			return t, nil
		}
	}
	return nil, fmt.Errorf("%w: more than %d items at one message", ErrFormat, maxItems)
}

// item reads one attestation or one operation with the tree behind it into t.
func (r *reader) item(t *Timestamp, tag byte, depth int) error {
	if tag == attestationMark {
		a, err := r.attestation()
		if err != nil {
			return err
		}
		return t.Attest(a)
	}
	op := Op{Tag: tag}
	if op.binary() {
		arg, err := r.bytes(1, MaxMessage)
		if err != nil {
			return err
		}
		op.Arg = bytes.Clone(arg)
	}
	result, err := op.apply(t.Msg)
	if err != nil {
		return err
	}
	if r.work -= len(result) + nodeCost; r.work < 0 {
		return fmt.Errorf("%w: its operations produce more than %d bytes", ErrFormat, maxWork)
	}
	child, err := r.timestamp(result, depth-1)
	if err != nil {
		return err
	}
	i, found := t.branch(op)
	if found { // the same step twice: two writers merged carelessly
		return t.Branches[i].To.Merge(child)
	}
	t.Branches = slices.Insert(t.Branches, i, Branch{op, child})
	return nil
}

const (
	// nodeCost is charged for every step beside its result, for the memory that a node takes.
	nodeCost = 64
	// maxItems bounds what hangs on one message, so that keeping it sorted stays cheap; honest proofs have a handful.
	maxItems = 1024
)
