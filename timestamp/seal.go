package timestamp

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/eschaton-network/chand/types"
)

const (
	// MaxDigest bounds what may be submitted: the calendar API takes 1 to 64 bytes.
	MaxDigest = 64
	// MaxRequests bounds a round: it seals in well under a second and its tree takes 64 MiB.
	MaxRequests = 1 << 20
	// NonceSize is the length of the nonce that hides a request from its neighbours in the tree.
	NonceSize = 16
	// CommitmentSize is the length of a round's commitment: time(4) || root(32) || round(8), big-endian.
	CommitmentSize = 44
)

// ErrSeal is wrapped by every refusal to seal a round.
var ErrSeal = errors.New("round can't be sealed")

// Checkpoint is a sealed round. The zero value stands before the first one.
type Checkpoint struct {
	// Round counts from 1.
	Round uint64
	// Time is when the round was sealed; never earlier than the round before. 0..2^32-1.
	Time types.Time
	// Root commits to every request of the round and to the checkpoint before, hence to all earlier rounds.
	Root types.Hash
}

// Commitment is the message at the pending attestation of every proof of the round: the key under which a calendar is
// asked for the rest. It has the length that the reference calendar uses.
func (c Checkpoint) Commitment() []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, CommitmentSize), uint32(c.Time))
	return binary.BigEndian.AppendUint64(append(b, c.Root[:]...), c.Round)
}

// ParseCommitment is the inverse of Commitment.
func ParseCommitment(b []byte) (Checkpoint, error) {
	if len(b) != CommitmentSize {
		return Checkpoint{}, fmt.Errorf("%w: commitment of %d bytes, want %d", ErrFormat, len(b), CommitmentSize)
	}
	c := Checkpoint{Time: types.Time(binary.BigEndian.Uint32(b)), Round: binary.BigEndian.Uint64(b[36:])}
	copy(c.Root[:], b[4:36])
	return c, nil
}

// Value is the 32 bytes that go into the anchor transaction: SHA-256 of the commitment.
func (c Checkpoint) Value() types.Hash { return sha256.Sum256(c.Commitment()) }

// Batch is a sealed round with all that is needed to prove each of its requests. It is immutable.
type Batch struct {
	Checkpoint Checkpoint
	Prev       Checkpoint
	entropy    [32]byte
	digests    [][]byte
	levels     [][]byte // concatenated 32-byte nodes, leaves first
}

// Seal makes a round of the digests (each 1..MaxDigest bytes; not copied, so the caller must not change them). Every
// digest gets a nonce of its own from entropy, which must be fresh and unpredictable, so that who learns a neighbour's
// proof learns nothing of the digest. The round before becomes the first leaf: an anchor of this round proves all
// earlier ones too (see Batch.Link). A clock that went back is not followed: the round takes the later of now and
// the time of the round before.
func Seal(prev Checkpoint, digests [][]byte, now types.Time, entropy [32]byte) (*Batch, error) {
	now = max(now, prev.Time)
	if len(digests) == 0 || len(digests) > MaxRequests {
		return nil, fmt.Errorf("%w: %d requests, want 1..%d", ErrSeal, len(digests), MaxRequests)
	}
	if now > math.MaxUint32 {
		return nil, fmt.Errorf("%w: time %d is not in 0..2^32-1", ErrSeal, now)
	}
	if entropy == [32]byte{} {
		return nil, fmt.Errorf("%w: no entropy given", ErrSeal)
	}
	b := &Batch{Prev: prev, entropy: entropy, digests: digests}
	if err := b.build(); err != nil {
		return nil, err
	}
	b.Checkpoint = Checkpoint{Round: prev.Round + 1, Time: now, Root: types.Hash(b.levels[len(b.levels)-1])}
	return b, nil
}

// first is the index of the first request's leaf: 1 behind the link to the round before, if there is one.
func (b *Batch) first() int {
	if b.Prev.Round == 0 {
		return 0
	}
	return 1
}

// nonces returns the two nonces of the requests 2i and 2i+1.
func (b *Batch) nonces(i int) [2 * NonceSize]byte {
	var buf [40]byte
	copy(buf[:], b.entropy[:])
	binary.BigEndian.PutUint64(buf[32:], uint64(i))
	return sha256.Sum256(buf[:])
}

// nonce of request i.
func (b *Batch) nonce(i int) []byte {
	pair := b.nonces(i / 2)
	return pair[i%2*NonceSize : (i%2+1)*NonceSize]
}

func (b *Batch) build() error {
	size := 0
	for n := len(b.digests) + b.first(); ; n = (n + 1) / 2 {
		size += n
		if n == 1 {
			break
		}
	}
	all := make([]byte, 0, size*32) // one allocation for the whole tree
	if b.first() == 1 {
		v := b.Prev.Value()
		all = append(all, v[:]...)
	}
	var buf [MaxDigest + NonceSize]byte
	var pair [2 * NonceSize]byte
	for i, d := range b.digests {
		if len(d) == 0 || len(d) > MaxDigest {
			return fmt.Errorf("%w: request %d has %d bytes, want 1..%d", ErrSeal, i, len(d), MaxDigest)
		}
		if i%2 == 0 {
			pair = b.nonces(i / 2)
		}
		n := copy(buf[:], d)
		n += copy(buf[n:], pair[i%2*NonceSize:][:NonceSize])
		h := sha256.Sum256(buf[:n])
		all = append(all, h[:]...)
	}
	level := all
	b.levels = append(b.levels, level)
	for len(level) > 32 {
		start := len(all)
		for ; len(level) >= 64; level = level[64:] {
			h := sha256.Sum256(level[:64])
			all = append(all, h[:]...)
		}
		all = append(all, level...) // an odd one is carried up unchanged
		level = all[start:]
		b.levels = append(b.levels, level)
	}
	return nil
}

// Len is the number of requests.
func (b *Batch) Len() int { return len(b.digests) }

// Digest returns request i.
func (b *Batch) Digest(i int) []byte { return b.digests[i] }

// Proof returns the path of request i from its digest to the round's commitment, ending in a pending attestation with
// the calendar's address: what a calendar answers to a submission.
func (b *Batch) Proof(i int, uri string) (*Timestamp, error) {
	if i < 0 || i >= len(b.digests) {
		return nil, fmt.Errorf("round %d has no request %d, only %d", b.Checkpoint.Round, i, len(b.digests))
	}
	t := New(b.digests[i])
	leaf, err := t.Then(Op{OpAppend, b.nonce(i)}, Op{Tag: OpSHA256})
	if err != nil {
		return nil, err
	}
	return t, b.climb(leaf, i+b.first(), uri)
}

// Link returns the path from the commitment of the round before to the one of this round. Joined to the proofs of the
// round before (Timestamp.Upgrade), it lets the anchor of this round prove them as well, should theirs be lost.
// It is nil for the first round.
func (b *Batch) Link(uri string) (*Timestamp, error) {
	if b.first() == 0 {
		return nil, nil
	}
	t := New(b.Prev.Commitment())
	leaf, err := t.Then(Op{Tag: OpSHA256})
	if err != nil {
		return nil, err
	}
	return t, b.climb(leaf, 0, uri)
}

// climb adds the steps from a leaf to the commitment.
func (b *Batch) climb(t *Timestamp, i int, uri string) error {
	var ops []Op
	for _, level := range b.levels {
		switch sibling := i ^ 1; {
		case i%2 == 1:
			ops = append(ops, Op{OpPrepend, level[sibling*32 : sibling*32+32]}, Op{Tag: OpSHA256})
		case sibling*32 < len(level):
			ops = append(ops, Op{OpAppend, level[sibling*32 : sibling*32+32]}, Op{Tag: OpSHA256})
		}
		i /= 2
	}
	c := b.Checkpoint.Commitment()
	t, err := t.Then(append(ops, Op{OpPrepend, c[:4]}, Op{OpAppend, c[36:]})...)
	if err != nil {
		return err
	}
	return t.Attest(Pending{uri})
}

// batchVersion starts the stored form of a batch.
const batchVersion = 1

// Encode writes what Seal was given: version(1) || previous commitment(44) || time(4) || entropy(32) || number of
// requests || each request, length first. Decoding seals it again. It holds every nonce: keep it private.
func (b *Batch) Encode() []byte {
	out := append([]byte{batchVersion}, b.Prev.Commitment()...)
	out = binary.BigEndian.AppendUint32(out, uint32(b.Checkpoint.Time))
	out = append(out, b.entropy[:]...)
	out = putUvarint(out, uint64(len(b.digests)))
	for _, d := range b.digests {
		out = putString(out, string(d))
	}
	return out
}

// DecodeBatch reads what Encode wrote. Trailing bytes and anything that Seal would not have made are refused.
func DecodeBatch(raw []byte) (*Batch, error) {
	r := &reader{buf: raw}
	head, err := r.take(1 + CommitmentSize + 4 + 32)
	if err != nil {
		return nil, err
	}
	if head[0] != batchVersion {
		return nil, fmt.Errorf("%w: stored round of version %d, only %d is known", ErrFormat, head[0], batchVersion)
	}
	prev, err := ParseCommitment(head[1 : 1+CommitmentSize])
	if err != nil {
		return nil, err
	}
	if prev.Round == 0 && prev != (Checkpoint{}) || prev.Round == math.MaxUint64 {
		return nil, fmt.Errorf("%w: round %d before the stored one", ErrFormat, prev.Round)
	}
	now := types.Time(binary.BigEndian.Uint32(head[1+CommitmentSize:]))
	if now < prev.Time {
		return nil, fmt.Errorf("%w: stored round is older than the round before", ErrFormat)
	}
	n, err := r.uvarint()
	if err != nil {
		return nil, err
	}
	if n > MaxRequests || n > uint64(len(raw)) {
		return nil, fmt.Errorf("%w: stored round with %d requests", ErrFormat, n)
	}
	digests := make([][]byte, n)
	for i := range digests {
		if digests[i], err = r.bytes(1, MaxDigest); err != nil {
			return nil, err
		}
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	return Seal(prev, digests, now, [32]byte(head[1+CommitmentSize+4:]))
}
