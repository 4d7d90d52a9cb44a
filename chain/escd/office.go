package escd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

const (
	// MaxBatch and MaxBatchTxs bound one POST /v1/transactions: some thousands of transfers.
	MaxBatch    = 4 << 20
	MaxBatchTxs = 20_000
	// maxSmallBody bounds the other requests' JSON.
	maxSmallBody = 4 << 10
	// maxBlocksAnswer is where an answer of GET /v1/blocks ends; one block more may go beyond.
	maxBlocksAnswer = maxBlockBytes + 1<<20
	// maxBlocksCount bounds the blocks of one answer.
	maxBlocksCount = 1000
	// maxConns bounds open connections, maxHeavy the requests at a time that read blocks or wait for one.
	maxConns = 512
	maxHeavy = 64
	// accountTimeout bounds the creation of an account, proofTimeout the wait for a block that signs a state.
	accountTimeout = 60 * time.Second
	proofTimeout   = 30 * time.Second
)

// office answers other daemons and clients over plain HTTP. What it serves is public, what it takes is signed.
type office struct {
	n      *Node
	addr   string
	server *http.Server
	open   *opener
	opened *rate.Limiter
	heavy  chan struct{}
	done   chan struct{}
}

func openOffice(n *Node) (*office, error) {
	l, err := net.Listen("tcp", n.cfg.ListenOffice)
	if err != nil {
		return nil, fmt.Errorf("the office cannot listen on %s: %w; free the port or choose another", n.cfg.ListenOffice, err)
	}
	p := n.cfg.OpenAccounts
	o := &office{n: n, addr: l.Addr().String(), open: newOpener(n), opened: rate.NewLimiter(rate.Limit(p.PerSecond), p.Burst),
		heavy: make(chan struct{}, maxHeavy), done: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/genesis", o.getGenesis)
	mux.HandleFunc("GET /v1/info", o.getInfo)
	mux.HandleFunc("GET /v1/blocks", o.limited(o.getBlocks))
	mux.HandleFunc("GET /v1/blocks/{height}/bundle", o.limited(o.getBundle))
	mux.HandleFunc("GET /v1/transactions/{id}", o.limited(o.getTransaction))
	mux.HandleFunc("GET /v1/counts", o.limited(o.getCounts))
	mux.HandleFunc("GET /v1/accounts/{address}", o.limited(o.getAccount))
	mux.HandleFunc("POST /v1/accounts", o.limited(o.postAccount))
	mux.HandleFunc("POST /v1/transactions", o.limited(o.postTransactions))
	mux.HandleFunc("POST /v1/evidence", o.limited(o.postEvidence))
	o.routeSync(mux)
	o.escRoutes(mux)
	o.ccoinRoutes(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, Problem{Code: "not_found", Message: fmt.Sprintf("no %.10s %.100q here", r.Method, r.URL.Path),
			Next: "the office has /v1/genesis, info, blocks, accounts, transactions, evidence, counts"})
	})
	n.officeAt.Store(&o.addr)
	o.server = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      accountTimeout + 10*time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          nil,
	}
	go func() {
		defer close(o.done)
		if err := o.server.Serve(&limitListener{Listener: l, free: make(chan struct{}, maxConns)}); !errors.Is(err, http.ErrServerClosed) {
			n.cfg.Logger.Error("the office has stopped", "err", err)
		}
	}()
	return o, nil
}

func (o *office) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if o.server.Shutdown(ctx) != nil {
		o.server.Close()
	}
	<-o.done
}

// limitListener accepts no more connections than there are places.
type limitListener struct {
	net.Listener
	free chan struct{}
}

func (l *limitListener) Accept() (net.Conn, error) {
	l.free <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &limitedConn{Conn: c, free: func() { <-l.free }}, nil
}

type limitedConn struct {
	net.Conn
	once sync.Once
	free func()
}

func (c *limitedConn) Close() error {
	c.once.Do(c.free)
	return c.Conn.Close()
}

// limited refuses when too many such requests are under way, rather than queueing them.
func (o *office) limited(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case o.heavy <- struct{}{}:
			defer func() { <-o.heavy }()
			h(w, r)
		default:
			fail(w, http.StatusServiceUnavailable, Problem{Code: "busy", Message: "too many requests are under way", Next: "try again in a second"})
		}
	}
}

func fail(w http.ResponseWriter, status int, p Problem) {
	w.Header().Set("Content-Type", typeJSON)
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(p)
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", typeJSON)
	json.NewEncoder(w).Encode(v)
}

// failWith chooses the answer by the kind of error.
func failWith(w http.ResponseWriter, err error) {
	var refusal *ledger.Refusal
	var pruned *ledger.Pruned
	switch {
	case errors.As(err, &refusal) && refusal.Code == ledger.CodeBusy:
		fail(w, http.StatusServiceUnavailable, Problem{Code: "busy", LedgerCode: refusal.Code, Message: refusal.Text, Next: "nothing was charged; submit it again after the next block"})
	case errors.As(err, &refusal):
		fail(w, http.StatusUnprocessableEntity, Problem{Code: "refused", LedgerCode: refusal.Code, Message: refusal.Text, Next: "nothing was charged; correct the transaction and sign it again"})
	case errors.As(err, &pruned):
		fail(w, http.StatusNotFound, Problem{Code: "pruned", Message: err.Error(), Next: "blocks before that are kept by archive nodes only; see GET /v1/snapshots for the state itself"})
	case errors.Is(err, ledger.ErrNotFound):
		fail(w, http.StatusNotFound, Problem{Code: "not_found", Message: err.Error(), Next: "check the address, id or height; it may be in a later block"})
	case errors.Is(err, errStopped), errors.Is(err, errBehind):
		fail(w, http.StatusServiceUnavailable, Problem{Code: "not_ready", Message: err.Error(), Next: "try again in a few seconds"})
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		fail(w, http.StatusServiceUnavailable, Problem{Code: "timeout", Message: "no block came in time: " + err.Error(), Next: "the same request again is harmless; see GET /v1/info whether the ledger runs"})
	default:
		fail(w, http.StatusInternalServerError, Problem{Code: "internal", Message: err.Error(), Next: "the same request again is harmless; see the daemon's log"})
	}
}

func bad(w http.ResponseWriter, format string, args ...any) {
	fail(w, http.StatusBadRequest, Problem{Code: "bad_request", Message: fmt.Sprintf(format, args...), Next: "nothing was done; correct the request"})
}

// body reads at most max bytes; it has answered when ok is false.
func body(w http.ResponseWriter, r *http.Request, max int64) (b []byte, ok bool) {
	b, err := readSized(http.MaxBytesReader(w, r.Body, max), min(r.ContentLength, max))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		fail(w, http.StatusRequestEntityTooLarge, Problem{Code: "too_large", Message: fmt.Sprintf("the body exceeds %d bytes", max), Next: "nothing was done; send less at a time"})
	case err != nil:
		bad(w, "the body could not be read: %v", err)
	default:
		return b, true
	}
	return nil, false
}

const (
	// firstRead is what is set aside for a body before anything of it has come, readAhead how many times what has come there is room for
	// then: who announces much and sends little costs little.
	firstRead = 64 << 10
	readAhead = 16
)

// readSized is io.ReadAll for what is said to have so many bytes (below zero: not known), without copying most of them again and again.
func readSized(r io.Reader, said int64) ([]byte, error) {
	b := make([]byte, 0, min(max(said, 511), firstRead)+1) // one more, to see the end
	for {
		if len(b) == cap(b) {
			room := max(2*len(b), int(min(said+1, int64(readAhead*len(b)))))
			b = append(make([]byte, 0, room), b...)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

// wantType has answered when it returns false.
func wantType(w http.ResponseWriter, r *http.Request, wanted ...string) (string, bool) {
	got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	for _, t := range wanted {
		if err == nil && got == t {
			return t, true
		}
	}
	fail(w, http.StatusUnsupportedMediaType, Problem{Code: "content_type", Message: fmt.Sprintf("content type %.60q: want one of %q", r.Header.Get("Content-Type"), wanted),
		Next: "nothing was done; set the header"})
	return "", false
}

// heightParam reads a block height; it has answered when ok is false.
func heightParam(w http.ResponseWriter, name, s string) (h types.Height, ok bool) {
	v, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		bad(w, "%s %.20q: want a block height", name, s)
		return 0, false
	}
	return types.Height(v), true
}

func (o *office) getGenesis(w http.ResponseWriter, _ *http.Request) {
	b, err := o.n.genesis.Bytes()
	if err != nil {
		failWith(w, err)
		return
	}
	w.Header().Set("Content-Type", typeJSON)
	w.Write(b)
}

func (o *office) getInfo(w http.ResponseWriter, _ *http.Request) {
	head, fresh := o.n.Head()
	answer(w, Info{ChainID: o.n.genesis.ChainID, Genesis: o.n.trust.Genesis, BlockMillis: o.n.genesis.BlockMillis, Moniker: o.n.cfg.Moniker,
		P2P: o.n.P2PAddr(), Height: head.Height, Hash: head.Hash, Time: head.Time, Fresh: fresh, Accounts: o.opens()})
}

// opens tells whether this office opens accounts.
func (o *office) opens() bool { return o.n.cfg.OpenAccounts.Enabled && o.open.node != 0 }

func (o *office) getBundle(w http.ResponseWriter, r *http.Request) {
	h, ok := heightParam(w, "height", r.PathValue("height"))
	if !ok {
		return
	}
	b, err := o.n.Bundle(h)
	if err != nil {
		failWith(w, err)
		return
	}
	w.Header().Set("Content-Type", typeRaw)
	w.Write(b)
}

func (o *office) getTransaction(w http.ResponseWriter, r *http.Request) {
	id, err := types.ParseHash(r.PathValue("id"))
	if err != nil {
		bad(w, "transaction: %v", err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), proofTimeout)
	defer cancel()
	p, err := o.n.ProveTx(ctx, id)
	if err != nil {
		failWith(w, err)
		return
	}
	answer(w, p)
}

func (o *office) getCounts(w http.ResponseWriter, r *http.Request) {
	from, ok := heightParam(w, "from", r.FormValue("from"))
	if !ok {
		return
	}
	to, ok := heightParam(w, "to", r.FormValue("to"))
	if !ok {
		return
	}
	c, err := o.n.Counts(from, to)
	if err != nil {
		failWith(w, err)
		return
	}
	answer(w, c)
}

func (o *office) getAccount(w http.ResponseWriter, r *http.Request) {
	id, err := types.ParseAccountID(r.PathValue("address"))
	if err != nil {
		bad(w, "%v", err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), proofTimeout)
	defer cancel()
	a, err := o.n.ProveAccount(ctx, id)
	if err != nil {
		failWith(w, err)
		return
	}
	answer(w, a)
}

func (o *office) getBlocks(w http.ResponseWriter, r *http.Request) {
	from, ok := heightParam(w, "from", r.FormValue("from"))
	if !ok {
		return
	}
	done, err := o.n.use()
	if err != nil {
		failWith(w, err)
		return
	}
	defer done()
	out, blocks := writer{}, o.n.comet.BlockStore()
	if base := types.Height(blocks.Base()); max(from, 1) < base { // an empty answer would say that there are no more
		failWith(w, &ledger.Pruned{Asked: from, First: base})
		return
	}
	for h := max(int64(from), 1); h < int64(from)+maxBlocksCount && len(out.b) < maxBlocksAnswer; h++ {
		block := blocks.LoadBlock(h)
		if block == nil {
			break
		}
		commit := blocks.LoadBlockCommit(h)
		if commit == nil {
			commit = blocks.LoadSeenCommit(h)
		}
		if commit == nil || commit.Height != h {
			break
		}
		if err := encodeBlock(&out, block, commit); err != nil {
			failWith(w, err)
			return
		}
	}
	w.Header().Set("Content-Type", typeRaw)
	w.Write(out.b)
}
