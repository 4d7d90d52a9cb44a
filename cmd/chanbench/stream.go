package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/eschaton-network/chand/internal/devnet"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

const (
	// streamAmount is one micropayment: a millionth of a coin.
	streamAmount = "0.000001"
	// streamMessage is how many the client sends at once.
	streamMessage = 1000
	// streamBytes is what a micropayment takes at least on each of two disks, twice: in the update, and in the record of it.
	streamBytes = 4 * 3
)

// streamed measures micropayments of one stream in one channel, each of them on disk on both sides before it counts.
func (b *bench) streamed(ctx context.Context, from, to *devnet.Node, window time.Duration) error {
	nodes := []*devnet.Node{from, to}
	b.say("stream: micropayments for %s", window)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	self, err := to.Peers.Self(ctx, &chandv1.SelfRequest{})
	if err != nil {
		return err
	}
	s, err := from.Streams.Stream(ctx)
	if err != nil {
		return err
	}
	if err := s.Send(&chandv1.StreamRequest{To: self.Id}); err != nil {
		return err
	}
	opened, err := s.Receive()
	if err != nil {
		return err
	}
	wait := b.profileAll(ctx, "stream", nodes, window)
	busy, err := usedBy(nodes)
	if err != nil {
		return err
	}
	start := time.Now()
	sent := make(chan error, 1)
	go func() { // ends with the window, or with the call
		m := &chandv1.StreamRequest{Amounts: slices.Repeat([]string{streamAmount}, streamMessage)}
		var err error
		for err == nil && time.Since(start) < window {
			err = s.Send(m)
		}
		sent <- errors.Join(err, s.CloseRequest())
	}()
	var paid uint64
	for {
		answer, err := s.Receive()
		if err != nil {
			break // what ended it stands in the other half's error, or the payments are missing below
		}
		paid = answer.Paid
	}
	elapsed := time.Since(start)
	done, statErr := usedBy(nodes)
	if err := errors.Join(<-sent, statErr, wait()); err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	if paid == 0 {
		return errors.New("stream: no payment was acknowledged")
	}
	if err := received(ctx, to, opened.Id, paid); err != nil {
		return err
	}
	b.rate("stream.per_s", float64(paid)/elapsed.Seconds(), limit{b.limits.bandwidth / streamBytes, "synced bytes: a payment in the update and in its record, on both sides"})
	b.cost("stream.cpu_us", micros(b.beyond(done-busy, elapsed, len(nodes)))/float64(paid), "us", limit{micros(b.limits.signOnce) / 4096, "one signature for 4,096 payments"})
	return nil
}

// received wants the receiver to have counted the payments of a stream.
func received(ctx context.Context, by *devnet.Node, id string, want uint64) error {
	list, err := by.Streams.List(ctx, &chandv1.ListStreamsRequest{Direction: "received", Limit: 1000})
	if err != nil {
		return err
	}
	for _, p := range list.Streams {
		if p.Id == id && p.Payments == want {
			return nil
		}
	}
	return fmt.Errorf("stream: %d payments are paid, but the receiver has not counted them", want)
}
