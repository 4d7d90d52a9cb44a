package ledger

import (
	"encoding/binary"

	"github.com/oasisprotocol/curve25519-voi/curve"
)

// maxPoints bounds the remembered points of public keys: 200 bytes each, so 13 MB when all places are taken and 512 kB when few are. It
// is all that two bytes of a key can name; of 4,096 busy accounts one in sixteen shares its place with another.
const maxPoints = 1 << 16

// keyPoint is a public key and the point that it encodes. It never changes.
type keyPoint struct {
	key   [32]byte
	point curve.EdwardsPoint
}

// newKeyPoint decodes a key (ZIP-215: any encoding), which costs a square root; nil when it is no point.
func newKeyPoint(key *[32]byte) *keyPoint {
	p := &keyPoint{key: *key}
	if _, err := p.point.SetCompressedY((*curve.CompressedEdwardsY)(key)); err != nil {
		return nil
	}
	return p
}

// pointTable remembers the points of keys that signed lately: each key has one place, the last that wants it has it. It changes speed,
// never results. It belongs to the lock of the State: transactions take their points from it before they are verified without the lock,
// and bring what had to be decoded afterwards.
type pointTable struct{ places []*keyPoint }

func (t *pointTable) get(key *[32]byte) *keyPoint {
	if t.places == nil {
		return nil
	}
	if p := t.places[pointPlace(key)]; p != nil && p.key == *key {
		return p
	}
	return nil
}

func (t *pointTable) put(p *keyPoint) {
	if t.places == nil {
		t.places = make([]*keyPoint, maxPoints)
	}
	t.places[pointPlace(&p.key)] = p
}

// pointPlace needs no better hash: whoever makes keys for one place slows nobody but the few who share it.
func pointPlace(key *[32]byte) int { return int(binary.LittleEndian.Uint16(key[:])) }

// lend gives transactions whose signatures are to be verified the points that are known.
func (t *pointTable) lend(txs []*Tx) {
	for _, tx := range txs {
		if v := &tx.verdict; !v.known {
			v.point = t.get(&v.key)
		}
	}
}

// collect keeps the points that had to be decoded, of keys with a signature that holds: what anybody can make up displaces nothing.
func (t *pointTable) collect(txs []*Tx) {
	for _, tx := range txs {
		v := &tx.verdict
		if v.point != nil && v.holds {
			t.put(v.point)
		}
		v.point = nil
	}
}
