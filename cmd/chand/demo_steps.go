package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/eschaton-network/chand/chand"
	"github.com/eschaton-network/chand/internal/devnet"
	"github.com/eschaton-network/chand/rpc"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

// payInvoice lets to make an invoice and from pay it. A payment that finds no route yet, or no fresh ledger, is tried again.
func payInvoice(ctx context.Context, from, to *devnet.Node, amount, memo string) (*chandv1.Payment, error) {
	var done *chandv1.Payment
	err := until(ctx, fmt.Sprintf("%s pays %s %s", from.Name, to.Name, amount), func() (bool, error) {
		inv, err := to.Payments.CreateInvoice(ctx, &chandv1.CreateInvoiceRequest{Amount: amount, Memo: memo})
		if err != nil {
			return false, err
		}
		p, err := from.Payments.Pay(ctx, &chandv1.PayRequest{Invoice: inv.Invoice})
		if stale(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		done = p
		if done.State == "failed" && slices.Contains(passing, done.Failure.GetRule()) {
			return false, nil
		}
		if done.State != "succeeded" {
			return false, fmt.Errorf("payment %s: %s %s", done.State, done.StateText, done.Failure.GetText())
		}
		return true, nil
	})
	if err != nil && done != nil {
		err = fmt.Errorf("%w (%s)", err, done.Failure.GetText())
	}
	return done, err
}

func (d *demo) payDirect(ctx context.Context) (string, error) {
	there, err := payInvoice(ctx, d.alice, d.bob, "5", "coffee")
	if err != nil {
		return "", err
	}
	if _, err := payInvoice(ctx, d.bob, d.alice, "2", "change"); err != nil {
		return "", err
	}
	return fmt.Sprintf("alice paid bob 5 and bob paid alice 2, one signature each; the receipt of the first is preimage %.16s…", there.Preimage), nil
}

func (d *demo) payOverHops(ctx context.Context) (string, error) {
	p, err := payInvoice(ctx, d.alice, d.dave, "3", "book")
	if err != nil {
		return "", err
	}
	for _, n := range []*devnet.Node{d.bob, d.carol} {
		self, err := n.Peers.Self(ctx, &chandv1.SelfRequest{})
		if err != nil {
			return "", err
		}
		if !slices.Contains(p.Route, self.Id) {
			return "", fmt.Errorf("the payment went over %v, not over %s", p.Route, n.Name)
		}
	}
	return fmt.Sprintf("alice paid dave 3 through bob and carol for a fee of %s; neither of them knows who paid whom.", p.Fee), nil
}

func (d *demo) escrow(ctx context.Context, amount string) (string, error) {
	bob, err := d.bob.Peers.Self(ctx, &chandv1.SelfRequest{})
	if err != nil {
		return "", err
	}
	e, err := patiently(ctx, "an escrow", func() (*chandv1.Escrow, error) {
		return d.alice.Escrows.Open(ctx, &chandv1.OpenEscrowRequest{Peer: bob.Id, Amount: amount, Memo: "goods"})
	})
	if err != nil {
		return "", err
	}
	for _, n := range []*devnet.Node{d.alice, d.bob} {
		if err := escrowState(ctx, n, e.Id, "held"); err != nil {
			return "", err
		}
	}
	return e.Id, nil
}

func escrowState(ctx context.Context, n *devnet.Node, id, want string) error {
	last := ""
	err := until(ctx, fmt.Sprintf("%s: escrow %.8s is %s", n.Name, id, want), func() (bool, error) {
		e, err := n.Escrows.Get(ctx, &chandv1.EscrowRequest{Id: id})
		if err != nil {
			if connect.CodeOf(err) == connect.CodeNotFound {
				return false, nil
			}
			return false, err
		}
		last = e.State + ": " + e.StateText
		return e.State == want, nil
	})
	if err != nil {
		return fmt.Errorf("%w (it is %s)", err, last)
	}
	return nil
}

func (d *demo) escrowReleased(ctx context.Context) (string, error) {
	id, err := d.escrow(ctx, "4")
	if err != nil {
		return "", err
	}
	if _, err := d.alice.Escrows.Release(ctx, &chandv1.EscrowRequest{Id: id}); err != nil {
		return "", err
	}
	for _, n := range []*devnet.Node{d.alice, d.bob} {
		if err := escrowState(ctx, n, id, "released"); err != nil {
			return "", err
		}
	}
	return "alice put 4 into an escrow with bob, and released it when the goods were there.", nil
}

func (d *demo) escrowRefunded(ctx context.Context) (string, error) {
	id, err := d.escrow(ctx, "6")
	if err != nil {
		return "", err
	}
	if _, err := d.bob.Escrows.Refund(ctx, &chandv1.EscrowRequest{Id: id}); err != nil {
		return "", err
	}
	for _, n := range []*devnet.Node{d.alice, d.bob} {
		if err := escrowState(ctx, n, id, "refunded"); err != nil {
			return "", err
		}
	}
	return "alice put 6 into another; bob could not deliver and gave it back.", nil
}

func (d *demo) service(ctx context.Context) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	served := 0 // by this server's one handler goroutine at a time: requests come one after the other
	d.website = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served++
		fmt.Fprintf(w, "quote %d for %s\n", served, r.URL.Query().Get("of"))
	}), ReadHeaderTimeout: 5 * time.Second}
	go d.website.Serve(l)
	defer d.website.Close()
	offer, err := d.carol.Services.Sell(ctx, &chandv1.SellRequest{
		Name: "quotes", Http: "http://" + l.Addr().String(), Price: "0.25/request", Description: "quotes of the day"})
	if err != nil {
		return "", err
	}
	for i := 1; i <= 10; i++ {
		var body string
		var receipt *chandv1.FetchReceipt
		err := until(ctx, fmt.Sprintf("request %d is answered", i), func() (ok bool, err error) {
			body, receipt, err = fetch(ctx, d.alice, fmt.Sprintf("%s/?of=day%d", strings.TrimSuffix(offer.Url, "/"), i), "0.3")
			if rpc.Detail(err).GetCode() == chand.CodePaymentFailed { // nothing was paid: gossip of the route takes a moment, or there are no blocks
				return false, nil
			}
			return err == nil, err
		})
		if err != nil {
			return "", err
		}
		if want := fmt.Sprintf("quote %d for day%d\n", i, i); body != want || receipt == nil || mustAmount(receipt.Paid)-mustAmount(receipt.Fee) != types.Coin/4 {
			return "", fmt.Errorf("request %d: got %q for %v, want %q for 0.25 and the fee of the way", i, body, receipt, want)
		}
	}
	return "carol sells http://…/quotes at 0.25 a request; alice's daemon answered ten 402s with payments and got ten quotes.", nil
}

// fetch buys one request and returns the body.
func fetch(ctx context.Context, n *devnet.Node, url, maxPrice string) (string, *chandv1.FetchReceipt, error) {
	stream, err := n.Services.Fetch(ctx, &chandv1.FetchRequest{Url: url, MaxPrice: maxPrice})
	if err != nil {
		return "", nil, err
	}
	defer stream.Close()
	var body bytes.Buffer
	var head *chandv1.FetchHead
	for stream.Receive() {
		if h := stream.Msg().GetHead(); h != nil {
			head = h
		}
		body.Write(stream.Msg().GetData())
	}
	if err := stream.Err(); err != nil {
		return "", nil, err
	}
	if head.GetStatus() != http.StatusOK {
		return "", nil, fmt.Errorf("%s answered %d: %s", url, head.GetStatus(), body.String())
	}
	return body.String(), head.Receipt, nil
}

func (d *demo) statement(ctx context.Context) (string, error) {
	carol, err := d.carol.Peers.Self(ctx, &chandv1.SelfRequest{})
	if err != nil {
		return "", err
	}
	subject := "peer:" + carol.Id
	attributes, err := structpb.NewStruct(map[string]any{"rating": map[string]any{"quality": 5, "comment": "prompt and friendly"}})
	if err != nil {
		return "", err
	}
	published, err := d.bob.Statements.Publish(ctx, &chandv1.PublishStatementRequest{Subjects: []string{subject}, Attributes: attributes})
	if err != nil {
		return "", err
	}
	expression := fmt.Sprintf(`subjects.exists(s, s == %q) && attributes.rating.quality >= 4`, subject)
	err = until(ctx, "dave finds bob's rating", func() (bool, error) {
		found, err := d.dave.Statements.Query(ctx, &chandv1.QueryStatementsRequest{Expression: expression})
		if err != nil {
			return false, err
		}
		for _, s := range found.Statements {
			if s.Id == published.Id {
				return true, nil
			}
		}
		return false, nil
	})
	return fmt.Sprintf("bob signed a rating of carol; dave found it by the query\n%s", expression), err
}

func (d *demo) stamp(ctx context.Context) (string, error) {
	file := filepath.Join(d.net.Dir, "contract.txt")
	content := []byte("The party of the first part delivers the goods.\n")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return "", err
	}
	digest := sha256.Sum256(content)
	stamped, err := d.alice.Timestamps.Stamp(ctx, &chandv1.StampRequest{Digest: fmt.Sprintf("%x", digest)})
	if err != nil {
		return "", err
	}
	proof := stamped.Ots
	err = until(ctx, "the proof is anchored", func() (bool, error) {
		up, err := d.alice.Timestamps.Upgrade(ctx, &chandv1.UpgradeRequest{Ots: proof})
		if err != nil {
			return false, err
		}
		proof = up.Ots
		return up.Complete, nil
	})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(file+".ots", proof, 0o600); err != nil {
		return "", err
	}
	sentence, err := verifyOffline(d.alice.Home, digest, proof)
	if err != nil {
		return "", err
	}
	digest[0] ^= 1
	if _, err := verifyOffline(d.alice.Home, digest, proof); err == nil {
		return "", errors.New("the proof holds for another file too: it proves nothing")
	}
	return "alice stamped a file. Without any daemon: " + sentence, nil
}

func (d *demo) closeAgreed(ctx context.Context) (string, error) {
	if _, err := d.bob.Channels.Close(ctx, &chandv1.CloseChannelRequest{Id: d.second}); err != nil {
		return "", err
	}
	for _, n := range []*devnet.Node{d.alice, d.bob} {
		if err := channelState(ctx, n, d.second, "closed"); err != nil {
			return "", err
		}
	}
	return "alice and bob closed their second channel in agreement: one transaction, paid out at once.", nil
}

// cheat lets mallory publish, from a copy of her home made before she paid bob, the version in which she still had the money.
func (d *demo) cheat(ctx context.Context) (string, error) {
	if err := d.mallory.Stop(); err != nil {
		return "", err
	}
	if err := devnet.CopyHome(d.mallory.Home, d.mallory.Home+"-old"); err != nil {
		return "", err
	}
	if err := d.mallory.Restart(ctx); err != nil {
		return "", err
	}
	if _, err := payInvoice(ctx, d.mallory, d.bob, "30", "a bicycle"); err != nil {
		return "", err
	}
	if err := d.mallory.Stop(); err != nil {
		return "", err
	}
	// The copy is an honest daemon that knows nothing of the payment and reaches nobody who could tell.
	old, err := d.net.Start(ctx, "mallory-old", "--ledger-join", d.join, "--peer-dial=false", "--peer-listen", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	if _, err := old.Channels.Close(ctx, &chandv1.CloseChannelRequest{Id: d.malloryBob, Force: true}); err != nil {
		return "", err
	}
	if err := channelState(ctx, d.bob, d.malloryBob, "closed"); err != nil {
		return "", err
	}
	if err := channelState(ctx, old, d.malloryBob, "closed"); err != nil {
		return "", err
	}
	d.mallory = old
	return "mallory paid bob 30 for a bicycle, then published the version from before. bob's watcher replaced it within the\ndispute window by the newest one: mallory has 20 of her 50 coins back, bob his 40. Nobody was punished, nobody cheated.", nil
}
