package peer

import (
	"testing"

	"github.com/eschaton-network/chand/peer/peertest"
	"github.com/eschaton-network/chand/types"
)

func testSeed(i int) types.Seed {
	var s types.Seed
	s[0], s[1] = byte(i), byte(i>>8)
	return s
}

func newNode(t testing.TB, i int) *Node {
	t.Helper()
	n, err := New(Options{Key: testSeed(i).NodeKey()})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestConformance(t *testing.T) {
	bare := func(t *testing.T, f func(*testing.T)) { f(t) }
	peertest.Run(t, bare, func(t *testing.T) peertest.Fleet {
		i := 0
		return func() peertest.Transport { i++; return newNode(t, i) }
	})
}
