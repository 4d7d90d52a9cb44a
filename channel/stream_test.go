package channel

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// TestStream: all payments of a stream come at once and as they were numbered, twice or with gaps as the sender likes.
func TestStream(t *testing.T) {
	s, env := openPair(t, 10_000, 0, wire.Rules{MaxPayment: 50})
	pay := func(first uint64, amounts ...types.Amount) wire.PayStream {
		return wire.PayStream{Stream: types.Hash{7}, First: first, Amounts: amounts}
	}
	ops := []wire.Op{pay(1, 1, 2, 3), pay(1, 50), wire.Pay{Amount: 5}, pay(900, slices.Repeat([]types.Amount{2}, wire.MaxStream)...)}
	next, fx, err := Step(s[0], Propose{ops}, env[0])
	if err != nil {
		t.Fatal(err)
	}
	msg, err := wire.Decode(wire.Encode(fx.Outbox[0]))
	if err != nil {
		t.Fatal(err)
	}
	got, fx, err := Step(s[1], Message{msg.(wire.ChannelMessage)}, env[1])
	if err != nil || !got.Current.same(&next.Current) || got.Mine() != 6+50+5+2*wire.MaxStream {
		t.Fatal(err, got.Why, got.Mine())
	}
	var seen []Notice
	for _, n := range fx.Notices {
		if _, ok := n.(Streamed); ok {
			seen = append(seen, n)
		}
	}
	if want := []Notice{Streamed(ops[0].(wire.PayStream)), Streamed(ops[1].(wire.PayStream)), Streamed(ops[3].(wire.PayStream))}; !reflect.DeepEqual(seen, want) {
		t.Errorf("noticed %v", seen)
	}
	for name, op := range map[string]wire.Op{"max payment": pay(1, 50, 51, 50), "numbers": pay(1<<63-1, 1), "nothing": pay(1)} {
		if _, _, err := Step(next, Propose{[]wire.Op{op}}, env[0]); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	big := slices.Repeat([]types.Amount{1 << 60}, 3)
	if _, err := pay(1, append(big, big...)...).Sum(); !errors.Is(err, types.ErrAmount) {
		t.Errorf("the sum beyond the supply: %v", err)
	}
}

// BenchmarkStream is an update of one full stream: made and signed, sent, verified.
func BenchmarkStream(b *testing.B) {
	s, env := openPair(b, 1_000_000_000, 0, wire.Rules{})
	op := wire.PayStream{Stream: types.Hash{7}, First: 1, Amounts: slices.Repeat([]types.Amount{1000}, wire.MaxStream)}
	b.ReportAllocs()
	for b.Loop() {
		_, fx, err := Step(s[0], Propose{[]wire.Op{op}}, env[0])
		if err != nil {
			b.Fatal(err)
		}
		msg, err := wire.Decode(wire.Encode(fx.Outbox[0]))
		if err != nil {
			b.Fatal(err)
		}
		if next, _, err := Step(s[1], Message{msg.(wire.ChannelMessage)}, env[1]); err != nil || next.Phase != PhaseOpen {
			b.Fatal(err, next.Why)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*wire.MaxStream), "ns/payment")
}
