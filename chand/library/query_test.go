package library_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eschaton-network/chand/chand/library"
	"github.com/eschaton-network/chand/dht/memdht"
	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/statement/query"
	"github.com/eschaton-network/chand/store/memstore"
	"github.com/eschaton-network/chand/types"
)

func TestPages(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a, b := w.start(1, memstore.New()), w.start(2, memstore.New())
		w.gossip.Lose(func(_, _ types.NodeID, _ string) bool { return true })
		for i := range 700 {
			a.say(draft("word:thing", "n", int64(i)))
		}
		for _, at := range []types.NodeID{{}, id(1)} {
			ask := a
			if !at.IsZero() {
				ask = b
			}
			seen := map[statement.ID]bool{}
			token, pages := "", 0
			for {
				p, err := ask.QueryAt(t.Context(), at, "has(attributes.n)", 300, token)
				if err != nil {
					t.Fatal(err)
				}
				if p.From != id(1) || len(p.Statements) > 300 {
					t.Fatalf("%d statements of %s", len(p.Statements), p.From)
				}
				for _, s := range p.Statements {
					seen[s.ID] = true
				}
				pages++
				if token = p.Next; token == "" {
					break
				}
			}
			if len(seen) != 700 || pages != 3 {
				t.Errorf("%d statements on %d pages, want 700 on 3", len(seen), pages)
			}
		}
	})
}

// TestLyingPeer asks a peer whose answers break the rules in turn.
func TestLyingPeer(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.start(1, memstore.New())
		liar := w.dht.Node(id(9))
		defer liar.Close()
		good := stranger(9, statement.Body{Attributes: statement.Attributes{"n": int64(1)}})
		foreign := stranger(9, statement.Body{Ledger: types.Hash{1}, Attributes: statement.Attributes{"n": int64(1)}})
		forged := bytes.Clone(good.Bytes())
		forged[len(forged)-1] ^= 1
		var answer any
		liar.Serve(library.QueryProtocol, func(context.Context, types.NodeID, []byte) ([]byte, error) {
			switch v := answer.(type) {
			case query.Answer:
				return v.Encode()
			case []byte:
				return v, nil
			}
			return nil, errors.New("no")
		})
		for name, bad := range map[string]any{
			"forged": query.Answer{Statements: [][]byte{forged}, Height: 100}, "other ledger": query.Answer{Statements: [][]byte{foreign.Bytes()}, Height: 100},
			"twice": query.Answer{Statements: [][]byte{good.Bytes(), good.Bytes()}, Height: 100}, "garbage": []byte("hello"), "failure": nil,
			"not asked for": query.Answer{Statements: [][]byte{stranger(9, statement.Body{}).Bytes()}, Height: 100},
		} {
			answer = bad
			if p, err := a.QueryAt(t.Context(), id(9), "attributes.n == 1", 10, ""); !errors.Is(err, library.ErrPeer) || len(p.Statements) != 0 {
				t.Errorf("%s: %d statements, %v", name, len(p.Statements), err)
			}
		}
		answer = query.Answer{More: true, Next: statement.ID{1}, Height: 100}
		if _, err := a.QueryAt(t.Context(), id(9), "attributes.n == 1", 10, ""); !errors.Is(err, library.ErrPeer) {
			t.Errorf("a peer that sends us in circles: %v", err)
		}
		answer = query.Failure(errors.New("too dear"), 100)
		if _, err := a.QueryAt(t.Context(), id(9), "attributes.n == 1", 10, ""); !errors.Is(err, query.ErrQuery) {
			t.Errorf("a refusal: %v", err)
		}
		answer = query.Answer{Statements: [][]byte{good.Bytes()}, Height: 100}
		p, err := a.QueryAt(t.Context(), id(9), "attributes.n == 1", 10, "")
		if err != nil || len(p.Statements) != 1 || p.From != id(9) {
			t.Errorf("a good answer: %+v, %v", p, err)
		}
		synctest.Wait()
		if _, err := a.Get(good.ID); err != nil {
			t.Error("what was found is not kept")
		}
		if _, err := a.QueryAt(t.Context(), id(55), "", 10, ""); !errors.Is(err, library.ErrPeer) {
			t.Errorf("nobody: %v", err)
		}
	})
}

// TestSearch finds by the DHT what neither gossip nor a neighbour brings.
func TestSearch(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.gossip.Lose(func(_, _ types.NodeID, _ string) bool { return true })
		a, b := w.start(1, memstore.New()), w.start(2, memstore.New())
		s := a.say(draft("http://example.org/", "rating", int64(5)))
		time.Sleep(time.Second) // provided
		p, err := b.Search(t.Context(), `subject == "http://example.org/" && attributes.rating >= 3`, 10)
		if err != nil || len(p.Statements) != 1 || p.Statements[0].ID != s.ID || p.From != id(1) {
			t.Fatalf("%+v, %v", p, err)
		}
		synctest.Wait()
		if b.count("has(attributes.rating)") != 1 {
			t.Error("what was found is not kept")
		}
		began := time.Now()
		if p, err := b.Search(t.Context(), `subject == "word:nobody-speaks-of-it"`, 10); err != nil || len(p.Statements) != 0 || p.From != id(2) {
			t.Errorf("%+v, %v", p, err)
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("searching for nothing took %s", took)
		}
		if p, err := b.Search(t.Context(), "", 10); err != nil || len(p.Statements) == 0 || p.From != id(2) {
			t.Errorf("what is held here: %v", err)
		}
	})
}

// TestServingIsBounded: a peer that asks without end is told to wait, others are not.
func TestServingIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.start(1, memstore.New())
		greedy, other := w.dht.Node(id(8)), w.dht.Node(id(9))
		defer greedy.Close()
		defer other.Close()
		request, err := query.Request{Expression: "valid"}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		ask := func(n *memdht.Node) string {
			raw, err := n.Ask(t.Context(), id(a.i), library.QueryProtocol, request)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := query.DecodeAnswer(raw)
			if err != nil {
				t.Fatal(err)
			}
			return answer.Error
		}
		refused := 0
		for range 400 {
			if ask(greedy) != "" {
				refused++
			}
		}
		if refused < 150 || refused > 250 {
			t.Errorf("%d of 400 requests were refused, want about half", refused)
		}
		if text := ask(other); text != "" {
			t.Errorf("another peer: %s", text)
		}
		time.Sleep(11 * time.Second)
		if text := ask(greedy); text != "" {
			t.Errorf("later: %s", text)
		}
		raw, err := other.Ask(t.Context(), id(a.i), library.QueryProtocol, []byte("garbage"))
		if err != nil {
			t.Fatal(err)
		}
		if answer, err := query.DecodeAnswer(raw); err != nil || answer.Error == "" {
			t.Errorf("garbage was answered by %+v, %v", answer, err)
		}
	})
}

// TestProvidesAgain: provider records end after two days; ours are renewed, also those of who was alone at first.
func TestProvidesAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := w.start(1, memstore.New())
		s := a.say(draft("word:thing", "n", int64(1)))
		other := w.dht.Node(id(9))
		defer other.Close()
		held := func() []types.NodeID {
			list, err := other.Providers(t.Context(), statement.DHTKey(statement.SubjectKey(s.Subject())), 5)
			if err != nil {
				t.Fatal(err)
			}
			return list
		}
		if list := held(); len(list) != 0 {
			t.Fatalf("provided to nobody: %v", list)
		}
		a.PeerUp(id(9))
		synctest.Wait()
		if list := held(); !slices.Equal(list, []types.NodeID{id(1)}) {
			t.Errorf("once there is a peer: %v", list)
		}
		time.Sleep(50 * time.Hour)
		if list := held(); !slices.Equal(list, []types.NodeID{id(1)}) {
			t.Errorf("after two days: %v", list)
		}
	})
}
