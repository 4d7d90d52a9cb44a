package peer

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/eschaton-network/chand/types"
)

// BenchmarkRoundTrips sends frames of 200 bytes that the other node answers, with so many under way at a time.
func BenchmarkRoundTrips(b *testing.B) {
	for _, window := range []int{1, 64, 1024} {
		b.Run(fmt.Sprint("link/", window), func(b *testing.B) {
			a, c := newNode(b, 1), newNode(b, 2)
			defer a.Close()
			defer c.Close()
			back := make(chan struct{}, window)
			a.Handle(types.LinkHandler{OnFrame: func(types.NodeID, []byte) { back <- struct{}{} }})
			c.Handle(types.LinkHandler{OnFrame: func(p types.NodeID, f []byte) { _ = c.Send(p, f) }})
			if err := a.Connect(context.Background(), c.Self(), c.Addrs()[0]); err != nil {
				b.Fatal(err)
			}
			frame := make([]byte, 200)
			trips(b, window, back, func() error { return a.Send(c.Self(), frame) })
		})
		b.Run(fmt.Sprint("tcp/", window), func(b *testing.B) { rawTrips(b, window) })
	}
}

func trips(b *testing.B, window int, back <-chan struct{}, send func() error) {
	b.ResetTimer()
	for i := range b.N {
		if i >= window {
			<-back
		}
		if err := send(); err != nil {
			b.Fatal(err)
		}
	}
	for range min(window, b.N) {
		<-back
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "trips/s")
}

// rawTrips is the limit: the same over a bare TCP connection, one system call a message.
func rawTrips(b *testing.B, window int) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 200)
		for {
			if _, err := io.ReadFull(c, buf); err != nil {
				return
			}
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	back := make(chan struct{}, window)
	go func() {
		buf := make([]byte, 200)
		for {
			if _, err := io.ReadFull(c, buf); err != nil {
				return
			}
			back <- struct{}{}
		}
	}()
	frame := make([]byte, 200)
	trips(b, window, back, func() error { _, err := c.Write(frame); return err })
}
