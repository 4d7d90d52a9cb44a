package gateway

import (
	"context"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/eschaton-network/chand/types"
)

// place is where a credential is good: the origin and the first segment of the path, which is a service at a gateway.
type place string

func placeOf(u *url.URL) place {
	first, _, _ := strings.Cut(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	return place(strings.ToLower(u.Scheme + "://" + u.Host + "/" + first))
}

// payment is one that was begun. It stays until its outcome is known.
type payment struct {
	Scheme, Token, Invoice string
	// Amount is what the invoice asks, Max the most to pay with fees: asking for the outcome repeats the very same call.
	Amount, Max types.Amount
	Hash        types.Hash
	Key         string
}

// held is a credential that was paid for.
type held struct {
	Scheme, Token string
	Hash          types.Hash
	Preimage      types.Preimage
	// Left is the number of requests left, as far as we know, when Limited.
	Left    uint32
	Limited bool
	// Key is the idempotency key of the request for which it was bought, until that one was answered.
	Key string
}

// keyRecord says what an idempotency key was used for.
type keyRecord struct {
	Request string
	Paid    bool
}

// Buckets of the store that the buying side owns.
const (
	pendingBucket = "fetch_pending"
	heldBucket    = "fetch_held"
	keyBucket     = "fetch_key"
)

// wallet keeps payments under way, credentials and idempotency keys. Everything is in the store before it is acted on.
type wallet struct {
	store Store
	// mu makes read-and-write of the store atomic.
	mu     sync.Mutex
	out    map[types.Hash]uint32 // guarded by mu: requests under way by credential
	paying map[types.Hash]bool   // guarded by mu: payments that a call of this process waits for
}

func newWallet(store Store) *wallet {
	return &wallet{store: store, out: map[types.Hash]uint32{}, paying: map[types.Hash]bool{}}
}

func storeFailed(err error) error {
	return fetchError("storage", err, "see the daemon's log; ask for the payment before you pay again", "what was begun is kept", "the wallet could not be read or written")
}

func (w *wallet) commit(ctx context.Context, writes ...types.Write) error {
	if err := w.store.Commit(ctx, writes...); err != nil {
		return storeFailed(err)
	}
	return nil
}

func record(bucket, key string, v any) types.Write {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs of text and numbers
	}
	return types.Write{Bucket: bucket, Key: key, Value: b}
}

// bind ties an idempotency key to one request.
func (w *wallet) bind(ctx context.Context, r FetchRequest) error {
	if r.Key == "" || r.DryRun {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	k, err := w.key(r.Key)
	if err != nil {
		return err
	}
	if k.Request == "" {
		return w.commit(ctx, record(keyBucket, r.Key, keyRecord{Request: r.digest()}))
	}
	if k.Request != r.digest() {
		return fetchError("idempotency_conflict", nil, "use a new key for a new request", nothingPaid, "the idempotency key %.128q was used for another request", r.Key)
	}
	return nil
}

func (w *wallet) key(key string) (k keyRecord, err error) {
	raw, err := w.store.Get(keyBucket, key)
	if err == nil && raw != nil {
		err = json.Unmarshal(raw, &k)
	}
	if err != nil {
		return k, storeFailed(err)
	}
	return k, nil
}

// paidOnce tells whether a payment was made under the request's key.
func (r FetchRequest) paidOnce(w *wallet) bool {
	if r.Key == "" {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	k, err := w.key(r.Key)
	return err != nil || k.Paid // when we can't tell we don't pay
}

func at(where place, hash types.Hash) string { return string(where) + " " + hash.String() }

// begin saves a payment before it is made.
func (w *wallet) begin(ctx context.Context, where place, p payment) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paying[p.Hash] = true
	return w.commit(ctx, record(pendingBucket, at(where, p.Hash), p))
}

// rest says that nobody waits for the payment any more.
func (w *wallet) rest(p payment) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.paying, p.Hash)
}

// resume lists the payments for a key at a place whose outcome was not seen, and that nobody waits for; the caller does.
func (w *wallet) resume(where place, key string) (out []payment, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	err = w.store.Scan(pendingBucket, string(where)+" ", func(_ string, value []byte) error {
		var p payment
		if err := json.Unmarshal(value, &p); err != nil {
			return err
		}
		if p.Key == key && !w.paying[p.Hash] {
			out = append(out, p)
		}
		return nil
	})
	if err != nil {
		return nil, storeFailed(err)
	}
	for _, p := range out {
		w.paying[p.Hash] = true
	}
	return out, nil
}

// failed forgets a payment that was not made.
func (w *wallet) failed(ctx context.Context, where place, p payment) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.commit(ctx, types.Write{Bucket: pendingBucket, Key: at(where, p.Hash)})
}

// paid turns a payment into a credential.
func (w *wallet) paid(ctx context.Context, where place, p payment, preimage types.Preimage) (*held, error) {
	h := &held{Scheme: p.Scheme, Token: p.Token, Hash: p.Hash, Preimage: preimage, Key: p.Key}
	h.Left, h.Limited = requestsOf(p.Token)
	writes := []types.Write{{Bucket: pendingBucket, Key: at(where, p.Hash)}, record(heldBucket, at(where, p.Hash), h)}
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.Key != "" {
		k, err := w.key(p.Key)
		if err != nil {
			return nil, err
		}
		k.Paid = true
		writes = append(writes, record(keyBucket, p.Key, k))
	}
	return h, w.commit(ctx, writes...)
}

// take finds a credential with something left that the requests under way do not need; nil when there is none. One that was
// bought for a request with an idempotency key waits for that request.
func (w *wallet) take(where place, key string) (found *held, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	err = w.store.Scan(heldBucket, string(where)+" ", func(_ string, value []byte) error {
		var h held
		if err := json.Unmarshal(value, &h); err != nil {
			return err
		}
		need := w.out[h.Hash]
		if h.Key != "" && h.Key != key {
			need++
		}
		if (!h.Limited || h.Left > need) && (found == nil || key != "" && h.Key == key) {
			found = &h
		}
		return nil
	})
	if err != nil {
		return nil, storeFailed(err)
	}
	if found != nil {
		w.out[found.Hash]++
	}
	return found, nil
}

// use counts a request under way; unuse ends it when the seller saw nothing of it.
func (w *wallet) use(h *held) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out[h.Hash]++
}

func (w *wallet) unuse(h *held) {
	if h == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.release(h)
}

// release needs mu.
func (w *wallet) release(h *held) {
	if w.out[h.Hash]--; w.out[h.Hash] == 0 {
		delete(w.out, h.Hash)
	}
}

// giveBack ends a request that was answered and stores what is left; served says that it got what it paid for.
func (w *wallet) giveBack(ctx context.Context, where place, h *held, left uint32, served, gone bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.release(h)
	raw, err := w.store.Get(heldBucket, at(where, h.Hash))
	if err != nil {
		return storeFailed(err)
	}
	if raw == nil {
		return nil // another request found it used up
	}
	if gone {
		return w.commit(ctx, types.Write{Bucket: heldBucket, Key: at(where, h.Hash)})
	}
	var now held
	if err := json.Unmarshal(raw, &now); err != nil {
		return storeFailed(err)
	}
	if now.Left = min(now.Left, left); served {
		now.Key = "" // what is left is for anybody
	}
	return w.commit(ctx, record(heldBucket, at(where, h.Hash), now))
}

// drop forgets a credential that the seller refused.
func (w *wallet) drop(ctx context.Context, where place, h *held) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.release(h)
	return w.commit(ctx, types.Write{Bucket: heldBucket, Key: at(where, h.Hash)})
}

// requestsOf reads our own caveat: how many requests a token is good for. Other sellers don't say.
func requestsOf(token string) (n uint32, limited bool) {
	m, ok := decodeMacaroon(token)
	if !ok {
		return 0, false
	}
	for _, c := range m.Caveats() {
		key, value, _ := strings.Cut(string(c.Id), "=")
		if !strings.HasSuffix(key, suffixRequests) {
			continue
		}
		if v, err := strconv.ParseUint(value, 10, 32); err == nil && (!limited || uint32(v) < n) {
			n, limited = uint32(v), true
		}
	}
	return n, limited
}
