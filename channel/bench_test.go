package channel_test

import (
	"fmt"
	"testing"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// bench is two open sides without a disk.
func benchPair(b *testing.B) (x, y *party) {
	w := newWorld(b)
	x, y = w.party("alice", 1000*types.Coin), w.party("bob", 1000*types.Coin)
	ready(x, y, 600*types.Coin, 400*types.Coin, wire.Rules{})
	return x, y
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

type outcome struct {
	s  channel.State
	fx channel.Effects
}

func do(s channel.State, in channel.Input, env channel.Env) outcome {
	next, fx, err := channel.Step(s, in, env)
	if err != nil {
		panic(err)
	}
	return outcome{next, fx}
}

// BenchmarkUpdate is one payment: signed by one side, verified and acknowledged by the other; /state with both encoded states.
func BenchmarkUpdate(b *testing.B) {
	for _, encode := range []bool{false, true} {
		name := "rules"
		if encode {
			name = "rules+wire+state"
		}
		b.Run(name, func(b *testing.B) {
			x, y := benchPair(b)
			ex, ey := x.env(), y.env()
			b.ReportAllocs()
			for b.Loop() {
				ox := do(x.s, channel.Propose{Ops: []wire.Op{wire.Pay{Amount: 1}}}, ex)
				var u wire.Message = ox.fx.Outbox[0]
				if encode {
					ox.s.Encode()
					u = must(wire.Decode(wire.Encode(u)))
				}
				oy := do(y.s, channel.Message{Msg: u.(wire.ChannelMessage)}, ey)
				if encode {
					oy.s.Encode()
				}
				oa := do(ox.s, channel.Message{Msg: oy.fx.Send[0].(wire.ChannelMessage)}, ex)
				x.s, y.s = oa.s, oy.s
			}
		})
	}
}

// BenchmarkLocks adds and settles batches of locks, in two updates.
func BenchmarkLocks(b *testing.B) {
	for _, n := range []int{1, 50, 483} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x, y := benchPair(b)
			ex, ey := x.env(), y.env()
			add := make([]wire.Op, n)
			pre := make([]types.Preimage, n)
			for i := range add {
				pre[i] = types.Preimage(types.SHA256([]byte(fmt.Sprint(i))))
				add[i] = wire.AddLock{Amount: 1000, Hash: pre[i].Hash(), Expiry: 1000, Onion: make([]byte, wire.OnionSize)}
			}
			round := func(ops []wire.Op) {
				ox := do(x.s, channel.Propose{Ops: ops}, ex)
				oy := do(y.s, channel.Message{Msg: ox.fx.Outbox[0]}, ey)
				x.s, y.s = do(ox.s, channel.Message{Msg: oy.fx.Send[0].(wire.ChannelMessage)}, ex).s, oy.s
			}
			b.ReportAllocs()
			for b.Loop() {
				round(add)
				x.s = do(x.s, channel.Message{Msg: &wire.Reveal{ID: x.s.ID, Preimages: pre}}, ex).s
				round(x.s.Settleable())
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "us/lock")
		})
	}
}
