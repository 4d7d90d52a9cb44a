package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"gopkg.in/macaroon.v2"

	"github.com/eschaton-network/chand/market"
	"github.com/eschaton-network/chand/types"
)

// Payer pays invoices of the daemon.
type Payer interface {
	// Pay pays the invoice, at most max with fees, and returns the preimage and what it cost with fees. The same key never pays
	// twice: it waits for, or returns, the outcome of the first call. An error that wraps market.ErrOutcomeUnknown means that
	// the money may or may not have gone; any other error that it has not.
	Pay(ctx context.Context, invoice string, max types.Amount, key string) (preimage types.Preimage, paid types.Amount, err error)
}

// Decode reads what an invoice asks and its payment hash, without paying.
type Decode func(invoice string) (amount types.Amount, hash types.Hash, err error)

// FetchError is why a URL was not fetched.
type FetchError struct {
	// Code is a stable word; Message what was seen; Next what to do; Money what state the money is in.
	Code, Message, Next, Money string
	cause                      error
}

func (e *FetchError) Error() string { return e.Message }
func (e *FetchError) Unwrap() error { return e.cause }

func fetchError(code string, cause error, next, money, format string, args ...any) error {
	m := fmt.Sprintf(format, args...)
	if cause != nil {
		m += ": " + cause.Error()
	}
	return &FetchError{code, m, next, money, cause}
}

const nothingPaid = "nothing was paid"

// FetchRequest is one request to a URL that may ask for money.
type FetchRequest struct {
	Method, URL string
	Header      http.Header
	Body        []byte
	// MaxPrice is the most to pay for this request, fees included.
	MaxPrice types.Amount
	// Key makes repetitions safe: with one key at most one payment is made. At most MaxKey bytes; empty: none.
	Key string
	// DryRun asks for the price only.
	DryRun bool
}

// MaxKey bounds idempotency keys.
const MaxKey = 128

// Fetched is the answer. The caller closes Response.Body.
type Fetched struct {
	Response *http.Response
	// Receipt is nil when nothing was paid for this request.
	Receipt *Receipt
	// Left is the number of requests left on the credential, when the seller tells it.
	Left uint32
	// Price is what was asked, with DryRun and status 402.
	Price types.Amount
}

// Receipt says what was paid for a request.
type Receipt struct {
	// Asked is the invoice's amount, Paid what it cost with fees.
	Asked, Paid types.Amount
	Hash        types.Hash
	Preimage    types.Preimage
	Invoice     string
	Time        time.Time
}

// Buyer gets URLs and pays their 402s. Safe for concurrent use.
type Buyer struct {
	payer  Payer
	decode Decode
	client *http.Client
	wallet *wallet
	now    func() time.Time
}

// NewBuyer returns a Buyer that keeps credentials and payments under way in the store. transport nil: the default one.
func NewBuyer(payer Payer, decode Decode, store Store, transport http.RoundTripper, now func() time.Time) *Buyer {
	if now == nil {
		now = time.Now
	}
	// Redirects are answers: a credential or a payment must not go where the caller did not point.
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &Buyer{payer, decode, client, newWallet(store), now}
}

// Fetch gets the URL, paying at most one invoice. Errors are *FetchError.
func (b *Buyer) Fetch(ctx context.Context, r FetchRequest) (*Fetched, error) {
	where, err := r.check()
	if err != nil {
		return nil, err
	}
	if err := b.wallet.bind(ctx, r); err != nil {
		return nil, err
	}
	if !r.DryRun {
		if err := b.resume(ctx, where, r.Key); err != nil {
			return nil, err
		}
	}
	h, err := b.wallet.take(where, r.Key)
	if err != nil {
		return nil, err
	}
	res, err := b.send(ctx, r, h)
	if err != nil {
		return nil, err
	}
	if h != nil && (res.StatusCode == http.StatusPaymentRequired || res.StatusCode == http.StatusUnauthorized) { // used up, or its keys are gone
		if err := b.wallet.drop(ctx, where, h); err != nil {
			drain(res)
			return nil, err
		}
		h = nil
		if res.StatusCode == http.StatusUnauthorized { // comes without a challenge
			drain(res)
			if res, err = b.send(ctx, r, nil); err != nil {
				return nil, err
			}
		}
	}
	if res.StatusCode == http.StatusPaymentRequired {
		return b.buy(ctx, where, r, res)
	}
	return b.done(ctx, where, h, res, nil)
}

func (r *FetchRequest) check() (place, error) {
	u, err := url.Parse(r.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return "", fetchError("bad_url", nil, "give an http:// or https:// address", nothingPaid, "%.200q is not an address", r.URL)
	case len(r.Key) > MaxKey:
		return "", fetchError("bad_idempotency_key", nil, "choose a shorter one", nothingPaid, "the idempotency key has %d bytes, want at most %d", len(r.Key), MaxKey)
	case r.MaxPrice < 0:
		return "", fetchError("bad_max_price", nil, "give a positive amount", nothingPaid, "the limit %s is negative", r.MaxPrice)
	}
	if r.Method == "" {
		if r.Method = http.MethodGet; len(r.Body) > 0 {
			r.Method = http.MethodPost
		}
	}
	return placeOf(u), nil
}

// buy pays the challenge of a 402 answer and repeats the request.
func (b *Buyer) buy(ctx context.Context, where place, r FetchRequest, res *http.Response) (*Fetched, error) {
	c, err := ParseChallenge(res.Header)
	if err != nil { // another payment method, or none: the caller sees the answer
		return &Fetched{Response: res}, nil
	}
	amount, hash, err := b.decode(c.Invoice)
	if err == nil && amount <= 0 {
		err = errors.New("it names no amount")
	}
	if err != nil {
		drain(res)
		return nil, fetchError("bad_invoice", err, "the seller uses another network, or is wrong", nothingPaid, "the invoice of %s can't be paid", where)
	}
	if r.DryRun {
		return &Fetched{Response: res, Price: amount}, nil
	}
	drain(res)
	p := payment{Scheme: c.Scheme, Token: c.Token, Invoice: c.Invoice, Amount: amount, Max: r.MaxPrice, Hash: hash, Key: r.Key}
	switch err := p.matches(); {
	case err != nil:
		return nil, fetchError("bad_challenge", err, "do not buy there", nothingPaid, "the challenge of %s contradicts itself", where)
	case amount > r.MaxPrice:
		return nil, fetchError("price_too_high", nil, fmt.Sprintf("allow it with --max-price %s, or leave it", amount), nothingPaid,
			"%s asks %s coins, and the limit is %s", where, amount, r.MaxPrice)
	case r.paidOnce(b.wallet):
		return nil, alreadyPaid(r.Key)
	}
	// Saved first: whatever happens from here on, this invoice is the one that is asked for.
	if err := b.wallet.begin(ctx, where, p); err != nil {
		return nil, err
	}
	receipt, h, err := b.pay(ctx, where, p)
	if err != nil {
		return nil, err
	}
	b.wallet.use(h)
	res, err = b.send(ctx, r, h)
	if err != nil {
		e := new(FetchError)
		errors.As(err, &e)
		e.Money = fmt.Sprintf("%s coins were paid; the credential is kept", receipt.Paid)
		e.Next = "fetch again: it costs nothing more"
		return nil, err
	}
	return b.done(ctx, where, h, res, receipt)
}

func alreadyPaid(key string) error {
	return fetchError("already_paid", nil, "use a new idempotency key to buy again", "it was paid once under this key, and that credit was used",
		"the idempotency key %.128q was used for a payment already", key)
}

// pay makes the payment that was begun, or asks for its outcome, and keeps the credential.
func (b *Buyer) pay(ctx context.Context, where place, p payment) (*Receipt, *held, error) {
	defer b.wallet.rest(p)
	preimage, paid, err := b.payer.Pay(ctx, p.Invoice, p.Max, "fetch "+p.Hash.String())
	switch {
	case errors.Is(err, market.ErrOutcomeUnknown), err != nil && ctx.Err() != nil:
		return nil, nil, fetchError("payment_unknown", err, "fetch again: it asks for the outcome and does not pay twice (another idempotency key makes it a new purchase)",
			fmt.Sprintf("%s coins are paid or come back by themselves", p.Amount), "the outcome of the payment to %s is not known yet", where)
	case err != nil:
		if err := b.wallet.failed(context.WithoutCancel(ctx), where, p); err != nil {
			return nil, nil, err
		}
		return nil, nil, fetchError("payment_failed", err, "see the reason; nothing is lost", nothingPaid, "%s coins to %s could not be paid", p.Amount, where)
	case preimage.Hash() != p.Hash:
		return nil, nil, fetchError("bad_preimage", nil, "see the payment list", "the daemon reports it paid", "the preimage does not open the payment hash %s", p.Hash)
	}
	h, err := b.wallet.paid(context.WithoutCancel(ctx), where, p, preimage)
	if err != nil {
		return nil, nil, err
	}
	return &Receipt{p.Amount, paid, p.Hash, preimage, p.Invoice, b.now()}, h, nil
}

// resume asks for the outcome of payments for this request, or without key for any at this place, that were begun and not
// seen to end. While one is unknown nothing more is paid.
func (b *Buyer) resume(ctx context.Context, where place, key string) error {
	pending, err := b.wallet.resume(where, key)
	if err != nil {
		return err
	}
	var unknown error
	for _, p := range pending {
		_, _, err := b.pay(ctx, where, p)
		if e := new(FetchError); errors.As(err, &e) && e.Code != "payment_failed" {
			unknown = err
		}
	}
	return unknown
}

// send makes the request, with a credential if there is one.
func (b *Buyer) send(ctx context.Context, r FetchRequest, h *held) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return nil, fetchError("bad_request", err, "correct the method or the address", nothingPaid, "the request can't be made")
	}
	if len(r.Body) == 0 {
		req.Body, req.GetBody = http.NoBody, nil
	}
	for name, values := range r.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
		req.Header.Del("Host")
	}
	if h != nil {
		req.Header["Authorization"] = append([]string{h.Scheme + " " + h.Token + ":" + h.Preimage.String()}, req.Header["Authorization"]...)
	}
	if r.Key != "" && req.Header.Get("Idempotency-Key") == "" {
		req.Header.Set("Idempotency-Key", r.Key)
	}
	res, err := b.client.Do(req)
	if err != nil {
		b.wallet.unuse(h)
		return nil, fetchError("unreachable", err, "check the address and try again", nothingPaid, "%s did not answer", placeOf(req.URL))
	}
	return res, nil
}

// done books what the answer says of the credential.
func (b *Buyer) done(ctx context.Context, where place, h *held, res *http.Response, receipt *Receipt) (*Fetched, error) {
	f := &Fetched{Response: res, Receipt: receipt}
	if h == nil {
		return f, nil
	}
	left := h.Left
	n, err := strconv.ParseUint(res.Header.Get(HeaderLeft), 10, 32)
	told := err == nil
	if told {
		left = uint32(n)
	} else if left > 0 && res.StatusCode < 500 {
		left--
	}
	f.Left = left
	gone := (told || h.Limited) && left == 0 || res.StatusCode == http.StatusPaymentRequired
	if err := b.wallet.giveBack(context.WithoutCancel(ctx), where, h, left, res.StatusCode < 500, gone); err != nil {
		drain(res)
		return nil, err
	}
	return f, nil
}

// drainLimit bounds what is read of an answer that nobody wants, so that the connection can be used again.
const drainLimit = 64 << 10

func drain(res *http.Response) {
	_, _ = io.CopyN(io.Discard, res.Body, drainLimit) // what is lost is a connection
	_ = res.Body.Close()
}

// matches wants the token, when it is a macaroon of L402 version 0, to be for the invoice's payment hash.
func (p payment) matches() error {
	if strings.ContainsAny(p.Token, ": \r\n") {
		return errors.New("the token has characters that no header may carry")
	}
	m, ok := decodeMacaroon(p.Token)
	if !ok {
		return nil // some sellers use tokens of other kinds; the preimage is all that we need
	}
	if hash, err := paymentHash(m); err == nil && hash != p.Hash {
		return fmt.Errorf("the token is for payment %s, the invoice for %s", hash, p.Hash)
	}
	return nil
}

func decodeMacaroon(token string) (*macaroon.Macaroon, bool) {
	raw, ok := decodeToken(token)
	var m macaroon.Macaroon
	return &m, ok && len(raw) <= maxToken && m.UnmarshalBinary(raw) == nil
}

// digest names a request for its idempotency key.
func (r FetchRequest) digest() string {
	d := sha256.New()
	for _, part := range []string{r.Method, r.URL, hex.EncodeToString(r.Body)} {
		fmt.Fprintf(d, "%d:%s", len(part), part)
	}
	return base64.RawStdEncoding.EncodeToString(d.Sum(nil))
}
