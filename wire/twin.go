package wire

import "github.com/eschaton-network/chand/types"

// TwinAsk asks the daemon at the other end of a link to prove that it runs. The nonce comes from another daemon with the same identity, which asked
// the sender who is at the other end of this link.
type TwinAsk struct{ Nonce types.Hash }

// TwinProof answers TwinAsk. Instance is drawn at each start; Sig is the node key's, over TwinDigest.
type TwinProof struct {
	Nonce, Instance types.Hash
	Sig             Sig
}

// TwinDigest is what a TwinProof signs.
func TwinDigest(node types.NodeID, nonce, instance types.Hash) types.Hash {
	return types.TaggedHash("chand/twin", append(append(append([]byte(nil), node[:]...), nonce[:]...), instance[:]...))
}

func (*TwinAsk) MessageType() uint16      { return TypeTwinAsk }
func (m *TwinAsk) size() int              { return 32 }
func (m *TwinAsk) append(b []byte) []byte { return append(b, m.Nonce[:]...) }
func (m *TwinAsk) read(r *reader)         { m.Nonce = r.hash() }

func (*TwinProof) MessageType() uint16 { return TypeTwinProof }
func (m *TwinProof) size() int         { return 2*32 + 64 }
func (m *TwinProof) read(r *reader)    { m.Nonce, m.Instance, m.Sig = r.hash(), r.hash(), r.sig() }

func (m *TwinProof) append(b []byte) []byte {
	return append(append(append(b, m.Nonce[:]...), m.Instance[:]...), m.Sig[:]...)
}
