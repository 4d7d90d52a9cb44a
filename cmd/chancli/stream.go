package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

// maxLine bounds a line of standard input: the longest invoice fits.
const maxLine = 16 << 10

// inputLines gives the lines of standard input that are not empty. more tells whether another one is there already.
func (a *app) inputLines(each func(line string, more bool) error) error {
	in := bufio.NewReaderSize(a.in, maxLine)
	for {
		b, err := in.ReadSlice('\n')
		if line := strings.TrimSpace(string(b)); line != "" && (err == nil || errors.Is(err, io.EOF)) {
			if err := each(line, in.Buffered() > 0); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return usage("standard input: %v: want lines of at most %d bytes", err, maxLine)
		}
	}
}

// payMany pays an invoice of each line of standard input over one call, and prints outcomes as payments end.
func (a *app) payMany(cmd *cobra.Command, r *chandv1.PayRequest) error {
	d, err := a.daemon()
	if err != nil {
		return err
	}
	s, err := d.Streams.PayMany(cmd.Context())
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() { // ends with the input, or with the call
		var tag uint64
		err := a.inputLines(func(invoice string, _ bool) error {
			tag++
			return s.Send(&chandv1.PayManyRequest{Payments: []*chandv1.TaggedPayment{{Tag: tag,
				Pay: &chandv1.PayRequest{Invoice: invoice, MaxFee: r.MaxFee, TimeoutSeconds: r.TimeoutSeconds}}}})
		})
		sent <- errors.Join(err, s.CloseRequest())
	}()
	var bad, all int
	for {
		answer, err := s.Receive()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		for _, o := range answer.Outcomes {
			all++
			if o.Payment.GetState() != "succeeded" {
				bad++
			}
			if err := a.show(o, func() { a.outcome(o) }); err != nil {
				return err
			}
		}
	}
	if err := <-sent; err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if bad > 0 {
		return fail("payment_failed", "see each line", "%d of %d payments did not succeed", bad, all)
	}
	return nil
}

func (a *app) outcome(o *chandv1.PaymentOutcome) {
	p := o.Payment
	why := cmp.Or(o.Error.GetMessage(), p.GetFailure().GetText())
	fmt.Fprintln(a.out, strings.TrimRight(fmt.Sprintf("%d %s %s %s %s", o.Tag, cmp.Or(p.GetState(), "refused"), p.GetAmount(), p.GetHash(), clean(why)), " "))
}

func (a *app) streamCommand() *cobra.Command {
	c := &cobra.Command{Use: "stream", Short: "streams of small payments to a peer"}
	var first chandv1.StreamRequest
	send := &cobra.Command{Use: "send PEER", Args: cobra.ExactArgs(1), Short: "send the amounts on standard input, one a line",
		Long: "Sends the amounts on standard input, one a line, over a channel with the peer, many under one signature. With --key the stream goes on\n" +
			"where it was: the first answer tells the number of the next payment.",
		RunE: func(cmd *cobra.Command, args []string) error {
			first.To = args[0]
			return a.sendStream(cmd, &first)
		}}
	send.Flags().StringVar(&first.Memo, "memo", "", "what it is for; stays on this side")
	send.Flags().StringVar(&first.IdempotencyKey, "key", "", "name by which the stream is found again (empty: a new one)")
	var r chandv1.ListStreamsRequest
	list := &cobra.Command{Use: "list", Short: "streams sent and received", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Streams.List(cmd.Context(), &r)
		if err != nil {
			return err
		}
		return a.show(v, func() {
			var rows [][]string
			for _, p := range v.Streams {
				rows = append(rows, []string{clock(p.Changed), p.Direction, p.State, strconv.FormatUint(p.Payments, 10), p.Total, short(p.Peer), short(p.Id), p.Memo})
			}
			a.table("no streams yet", []string{"TIME", "DIRECTION", "STATE", "PAYMENTS", "TOTAL", "PEER", "STREAM", "MEMO"}, rows)
			a.more(v.NextPageToken)
		})
	}}
	list.Flags().StringVar(&r.Direction, "direction", "", "sent or received (empty: both)")
	pageFlags(list, &r.Limit, &r.PageToken)
	var w chandv1.WatchStreamsRequest
	watch := &cobra.Command{Use: "watch", Short: "payments that come in over streams, until interrupted", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		d, err := a.daemon()
		if err != nil {
			return err
		}
		in, err := d.Streams.Watch(cmd.Context(), &w)
		if err != nil {
			return err
		}
		return follow(a, cmd, in, func(p *chandv1.PaymentStream) {
			fmt.Fprintf(a.out, "%s %s: %d payments, %s\n", short(p.Id), short(p.Peer), p.Payments, p.Total)
		})
	}}
	watch.Flags().StringVar(&w.Id, "id", "", "only this stream")
	c.AddCommand(send, list, watch)
	return c
}

// sendStream sends what standard input has, in messages of what came together, and prints how far both sides have it.
func (a *app) sendStream(cmd *cobra.Command, first *chandv1.StreamRequest) error {
	d, err := a.daemon()
	if err != nil {
		return err
	}
	s, err := d.Streams.Stream(cmd.Context())
	if err != nil {
		return err
	}
	if err := s.Send(first); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	sent := make(chan error, 1)
	go func() { // ends with the input, or with the call
		var list []string
		flush := func() error {
			if len(list) == 0 {
				return nil
			}
			m := &chandv1.StreamRequest{Amounts: list}
			list = nil
			return s.Send(m)
		}
		err := a.inputLines(func(amount string, more bool) error {
			if err := amounts(amount); err != nil {
				return err
			}
			if list = append(list, amount); more && len(list) < streamMessage {
				return nil
			}
			return flush()
		})
		sent <- errors.Join(err, flush(), s.CloseRequest())
	}()
	for {
		answer, err := s.Receive()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		if err := a.show(answer, func() { fmt.Fprintf(a.out, "paid up to number %d: %s\n", answer.Paid, answer.Total) }); err != nil {
			return err
		}
	}
	if err := <-sent; err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// streamMessage is how many amounts go into one message.
const streamMessage = 1000
