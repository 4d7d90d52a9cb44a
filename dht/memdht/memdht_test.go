package memdht_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eschaton-network/chand/dht/dhttest"
	"github.com/eschaton-network/chand/dht/memdht"
	"github.com/eschaton-network/chand/types"
)

func id(i int) types.NodeID {
	var s types.Seed
	s[0] = byte(i + 1)
	return s.NodeID()
}

func TestConformance(t *testing.T) {
	dhttest.Run(t, synctest.Test, func(t *testing.T, n int) (nodes []dhttest.Node) {
		w := memdht.New()
		for i := range n {
			d := w.Node(id(i))
			t.Cleanup(func() { _ = d.Close() })
			nodes = append(nodes, dhttest.Node{Directory: d, ID: id(i)})
		}
		return nodes
	})
}

func TestRecordsExpireAndHandlersTimeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, key := memdht.New(), types.SHA256([]byte("k"))
		a, b := w.Node(id(0)), w.Node(id(1))
		defer a.Close()
		defer b.Close()
		if err := a.Provide(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		for _, want := range []int{1, 0} {
			if got, err := b.Providers(t.Context(), key, 9); err != nil || len(got) != want {
				t.Errorf("%v, %v; want %d", got, err, want)
			}
			time.Sleep(48 * time.Hour)
		}
		b.Serve("hangs", func(ctx context.Context, _ types.NodeID, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if _, err := a.Ask(context.Background(), id(1), "hangs", nil); err == nil {
			t.Error("a handler that hangs gave an answer")
		}
	})
}
