package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/eschaton-network/chand/gateway"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

// maxFetchBody is what the daemon takes as a body: 4 MiB.
const maxFetchBody = 4 << 20

func (a *app) fetchCommand() *cobra.Command {
	var r chandv1.FetchRequest
	var headers []string
	var data, output string
	var requests uint32
	c := &cobra.Command{Use: "fetch URL --max-price P", Short: "get a URL and pay when it answers 402", Args: cobra.ExactArgs(1),
		Long: "The answer's body goes to standard output, what was paid to standard error. Nothing above --max-price is paid, fees included.",
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Url = args[0]
			if err := amounts(r.MaxPrice); err != nil {
				return err
			}
			for _, h := range headers {
				name, value, ok := strings.Cut(h, ":")
				if !ok || strings.TrimSpace(name) == "" {
					return usage("-H %q: want Name: value", h)
				}
				r.Headers = append(r.Headers, &chandv1.Header{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)})
			}
			if requests > 0 {
				r.Headers = append(r.Headers, &chandv1.Header{Name: gateway.HeaderRequests, Value: fmt.Sprint(requests)})
			}
			body, err := a.body(data)
			if err != nil {
				return err
			}
			r.Body = body
			return a.fetch(cmd, &r, output)
		}}
	c.Flags().StringVar(&r.MaxPrice, "max-price", "0", "most to pay for this request, in coins")
	c.Flags().StringVarP(&r.Method, "request", "X", "", "method (default GET, or POST with -d)")
	c.Flags().StringArrayVarP(&headers, "header", "H", nil, "Name: value (may be repeated)")
	c.Flags().StringVarP(&data, "data", "d", "", "body; @FILE reads it from a file, @- from standard input")
	c.Flags().StringVarP(&output, "output", "o", "", "write the body to a file")
	c.Flags().Uint32VarP(&requests, "requests", "n", 0, "buy that many requests at once, where the seller offers it; the rest is kept for later fetches")
	c.Flags().BoolVar(&r.DryRun, "dry-run", false, "ask for the price only")
	c.Flags().StringVar(&r.IdempotencyKey, "idempotency-key", "", "with the same key at most one payment is made")
	return c
}

// body reads what -d names.
func (a *app) body(data string) ([]byte, error) {
	name, isFile := strings.CutPrefix(data, "@")
	if !isFile {
		return []byte(data), nil
	}
	in := a.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fail("file_unreadable", "check the name", "%v", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxFetchBody+1))
	if err == nil && len(b) > maxFetchBody {
		err = fmt.Errorf("more than %d bytes", maxFetchBody)
	}
	if err != nil {
		return nil, fail("file_unreadable", "send less", "the body from %s: %v", name, err)
	}
	return b, nil
}

// fetched is what is said of a fetch beside its body.
type fetched struct {
	Status       uint32 `json:"status"`
	Size         uint64 `json:"size"`
	Price        string `json:"price,omitempty"`
	Paid         string `json:"paid"`
	Fee          string `json:"fee,omitempty"`
	PaymentHash  string `json:"payment_hash,omitempty"`
	Preimage     string `json:"preimage,omitempty"`
	Invoice      string `json:"invoice,omitempty"`
	RequestsLeft uint32 `json:"requests_left"`
}

func (a *app) fetch(cmd *cobra.Command, r *chandv1.FetchRequest, output string) error {
	d, err := a.daemon()
	if err != nil {
		return err
	}
	stream, err := d.Services.Fetch(cmd.Context(), r)
	if err != nil {
		return err
	}
	defer stream.Close()
	out, finish, err := a.bodyWriter(output)
	if err != nil {
		return err
	}
	info, tail := fetched{Paid: "0"}, false
	for stream.Receive() {
		switch p := stream.Msg().Part.(type) {
		case *chandv1.FetchResponse_Head:
			info.read(p.Head)
		case *chandv1.FetchResponse_Data:
			n, err := out.Write(p.Data)
			if info.Size += uint64(n); err != nil {
				return errors.Join(finish(false), fail("file_unwritable", "see the receipt; fetch again", "%v", err))
			}
		case *chandv1.FetchResponse_Tail:
			tail = true
		}
	}
	if err := stream.Err(); err != nil || !tail {
		if err == nil {
			err = connect.NewError(connect.CodeUnavailable, errors.New("the answer broke off"))
		}
		a.receipt(info)
		return errors.Join(finish(false), err)
	}
	if err := finish(info.Status < 400); err != nil {
		return err
	}
	a.receipt(info)
	switch {
	case r.DryRun, info.Status < 400:
		return nil
	case info.Status == 402:
		return fail("payment_not_possible", "see the answer", "the server wants a payment that this daemon can't make, or refused the one made")
	}
	return fail("http_status", "see the answer", "the server answered with status %d", info.Status)
}

func (f *fetched) read(h *chandv1.FetchHead) {
	f.Status, f.Price = h.Status, h.Price
	if r := h.GetReceipt(); r != nil {
		f.Paid, f.Fee, f.PaymentHash, f.Preimage, f.Invoice, f.RequestsLeft = r.Paid, r.Fee, r.PaymentHash, r.Preimage, r.Invoice, r.RequestsLeft
	}
}

// receipt says on standard error what it cost.
func (a *app) receipt(f fetched) {
	switch {
	case f.Status == 0: // there was no answer
	case a.json:
		_ = json.NewEncoder(a.errs).Encode(f) // there is nobody left to tell
	case f.Price != "":
		fmt.Fprintf(a.errs, "price: %s coins; nothing was paid\n", clean(f.Price))
	case f.PaymentHash != "":
		fmt.Fprintf(a.errs, "paid %s coins, fee %s, payment %s; %d requests left\n", clean(f.Paid), clean(f.Fee), clean(f.PaymentHash), f.RequestsLeft)
	default:
		fmt.Fprintln(a.errs, "nothing was paid for this request")
	}
}

// bodyWriter writes to standard output, or to a file that appears only when the answer was good and whole.
func (a *app) bodyWriter(output string) (io.Writer, func(good bool) error, error) {
	if output == "" || output == "-" {
		return a.out, func(bool) error { return nil }, nil
	}
	f, err := tempBeside(output)
	if err != nil {
		return nil, nil, err
	}
	return f, func(good bool) error {
		err := f.Close()
		if good && err == nil {
			err = os.Rename(f.Name(), output)
		} else {
			err = errors.Join(err, os.Remove(f.Name()))
		}
		if err != nil {
			return fail("file_unwritable", "check the place and fetch again", "%v", err)
		}
		return nil
	}, nil
}
