package rpc

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"gopkg.in/macaroon.v2"
)

// Permission is what a method does, coarsely. Macaroons may name it as "@read" and so on.
type Permission string

const (
	// Read looks and changes nothing.
	Read Permission = "read"
	// Receive makes invoices.
	Receive Permission = "invoice"
	// Spend moves money or locks it.
	Spend Permission = "spend"
	// Operate acts in the daemon's name without moving money: peers, statements, services, timestamps.
	Operate Permission = "operate"
	// Administer stops the daemon or makes credentials.
	Administer Permission = "admin"
)

// permissions has every method of the schema. A method that is not here can't be called; a test compares with the schema.
var permissions = map[string]Permission{
	"chand.v1.Status/Get":             Read,
	"chand.v1.Account/Get":            Read,
	"chand.v1.Account/Send":           Spend,
	"chand.v1.Ledger/GetAccount":      Read,
	"chand.v1.Ledger/Submit":          Operate, // what is submitted was signed by its own account
	"chand.v1.Ledger/GetBlock":        Read,
	"chand.v1.Ledger/GetProof":        Read,
	"chand.v1.Ledger/ListNodes":       Read,
	"chand.v1.Ledger/StreamBlocks":    Read,
	"chand.v1.Ledger/WatchAccount":    Read,
	"chand.v1.Peers/Self":             Read,
	"chand.v1.Peers/Connect":          Operate,
	"chand.v1.Peers/List":             Read,
	"chand.v1.Backups/Status":         Read,
	"chand.v1.Towers/Add":             Spend, // towers are paid
	"chand.v1.Towers/Remove":          Operate,
	"chand.v1.Towers/List":            Read,
	"chand.v1.Towers/Watched":         Read,
	"chand.v1.Channels/Open":          Spend,
	"chand.v1.Channels/List":          Read,
	"chand.v1.Channels/Get":           Read,
	"chand.v1.Channels/Close":         Spend,
	"chand.v1.Routes/Find":            Read,
	"chand.v1.Routes/Scores":          Read,
	"chand.v1.Routes/ImportScores":    Operate,
	"chand.v1.Routes/GetPolicy":       Read,
	"chand.v1.Routes/SetPolicy":       Operate,
	"chand.v1.Payments/CreateInvoice": Receive,
	"chand.v1.Payments/DecodeInvoice": Read,
	"chand.v1.Payments/GetInvoice":    Read,
	"chand.v1.Payments/CancelInvoice": Receive,
	"chand.v1.Payments/Pay":           Spend,
	"chand.v1.Payments/Plan":          Read,
	"chand.v1.Payments/Cancel":        Spend,
	"chand.v1.Payments/Rebalance":     Spend,
	"chand.v1.Payments/PlanRebalance": Read,
	"chand.v1.Payments/Get":           Read,
	"chand.v1.Payments/List":          Read,
	"chand.v1.PaymentStreams/PayMany": Spend,
	"chand.v1.PaymentStreams/Stream":  Spend,
	"chand.v1.PaymentStreams/Watch":   Read,
	"chand.v1.PaymentStreams/List":    Read,
	"chand.v1.Escrows/Open":           Spend,
	"chand.v1.Escrows/Release":        Spend,
	"chand.v1.Escrows/Refund":         Spend,
	"chand.v1.Escrows/Get":            Read,
	"chand.v1.Escrows/List":           Read,
	"chand.v1.Operations/Liquidity":   Read,
	"chand.v1.Operations/Fees":        Read,
	"chand.v1.Operations/Forwards":    Read,
	"chand.v1.Operations/Export":      Read,
	"chand.v1.Operations/Deadlines":   Read,
	"chand.v1.Statements/Publish":     Operate,
	"chand.v1.Statements/Query":       Read,
	"chand.v1.Statements/Get":         Read,
	"chand.v1.Services/Sell":          Operate,
	"chand.v1.Services/Remove":        Operate,
	"chand.v1.Services/List":          Read,
	"chand.v1.Services/Fetch":         Spend,
	"chand.v1.Timestamps/Stamp":       Operate,
	"chand.v1.Timestamps/Upgrade":     Operate,
	"chand.v1.Timestamps/Verify":      Read,
	"chand.v1.Events/Subscribe":       Read,
	"chand.v1.Admin/Stop":             Administer,
	"chand.v1.Admin/BakeMacaroon":     Administer,

	"grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      Read,
	"grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Read,
}

// requestStreams are the methods whose request is a stream that lasts as long as the client likes.
var requestStreams = map[string]bool{"chand.v1.PaymentStreams/PayMany": true, "chand.v1.PaymentStreams/Stream": true}

// Method sets of the macaroon files that a daemon writes on its first run.
var (
	adminMethods    = []string{"@read", "@invoice", "@spend", "@operate", "@admin"}
	readonlyMethods = []string{"@read"}
	// An invoice macaroon is for shops: it makes invoices and sees whether they are paid.
	invoiceMethods = []string{"@invoice", "chand.v1.Payments/DecodeInvoice", "chand.v1.Payments/Get", "chand.v1.Status/Get"}
)

const (
	caveatMethods = "methods="
	caveatBefore  = "time-before="
	// location is shown by tools that print macaroons.
	location = "chand"
	// Bounds of what is tried for one request: honest clients send one macaroon of about 200 bytes.
	maxMacaroon    = 4096
	maxCredentials = 4
	maxCaveats     = 64
)

// Bake makes a macaroon that can do at most what methods lists, until expires (zero: no end). Entries are methods
// ("chand.v1.Payments/Pay"), services ("chand.v1.Payments/*") or permissions ("@read"). It returns hex and the caveats.
func Bake(rootKey [32]byte, methods []string, expires time.Time) (string, []string, error) {
	if len(methods) == 0 {
		return "", nil, errors.New("a macaroon needs at least one method, service/* or @permission")
	}
	for _, m := range methods {
		if !slices.ContainsFunc(methodNames(), func(name string) bool { return covers(m, name) }) {
			return "", nil, fmt.Errorf("%.80q names no method: want chand.v1.Payments/Pay, chand.v1.Payments/* or @read, @invoice, @spend, @operate, @admin", m)
		}
	}
	id := append([]byte("chand.v1 "), make([]byte, 16)...)
	rand.Read(id[9:]) // tells macaroons apart; never fails
	m, err := macaroon.New(rootKey[:], id, location, macaroon.V2)
	if err != nil {
		return "", nil, err
	}
	caveats := []string{caveatMethods + strings.Join(methods, ",")}
	if !expires.IsZero() {
		caveats = append(caveats, caveatBefore+expires.UTC().Format(time.RFC3339))
	}
	for _, c := range caveats {
		if err := m.AddFirstPartyCaveat([]byte(c)); err != nil {
			return "", nil, err
		}
	}
	b, err := m.MarshalBinary()
	return hex.EncodeToString(b), caveats, err
}

func methodNames() []string {
	var names []string
	for n := range permissions {
		names = append(names, n)
	}
	return names
}

// covers tells whether an entry of a methods caveat allows a method.
func covers(entry, method string) bool {
	if group, ok := strings.CutPrefix(entry, "@"); ok {
		return permissions[method] == Permission(group)
	}
	if service, ok := strings.CutSuffix(entry, "/*"); ok {
		return strings.HasPrefix(method, service+"/")
	}
	return entry == method
}

// authority checks macaroons.
type authority struct {
	rootKey [32]byte
	now     func() time.Time
}

// allow returns nil when one of the request's macaroons permits the method.
func (a authority) allow(method string, h http.Header) error {
	creds := macaroons(h)
	if len(creds) == 0 {
		return Error("macaroon_missing", connect.CodeUnauthenticated, "this call needs a macaroon and the request has none",
			"send `Authorization: Bearer` with the hex of HOME/admin.macaroon", "")
	}
	var last error
	for _, c := range creds {
		if last = a.check(method, c); last == nil {
			return nil
		}
	}
	return last
}

func (a authority) check(method, text string) error {
	bad := func(why string) error {
		return Error("macaroon_invalid", connect.CodeUnauthenticated, "the macaroon is not valid: "+why,
			"take HOME/admin.macaroon of this very daemon", "")
	}
	if len(text) > 2*maxMacaroon {
		return bad("too long")
	}
	b, err := hex.DecodeString(text)
	if err != nil {
		return bad("not hex")
	}
	var m macaroon.Macaroon
	if err := m.UnmarshalBinary(b); err != nil || len(m.Caveats()) > maxCaveats {
		return bad("not a macaroon")
	}
	caveats, err := m.VerifySignature(a.rootKey[:], nil)
	if err != nil {
		return bad("its signature is wrong")
	}
	limited := false
	for _, c := range caveats {
		if list, ok := strings.CutPrefix(c, caveatMethods); ok {
			limited = true
			if !slices.ContainsFunc(strings.Split(list, ","), func(e string) bool { return covers(e, method) }) {
				return Error("not_permitted", connect.CodePermissionDenied, fmt.Sprintf("the macaroon does not permit %s, only %s", method, list),
					"use a macaroon that permits it", "")
			}
		} else if end, ok := strings.CutPrefix(c, caveatBefore); ok {
			t, err := time.Parse(time.RFC3339, end)
			if err != nil {
				return bad("its time-before is not a time")
			}
			if !a.now().Before(t) {
				return Error("macaroon_expired", connect.CodeUnauthenticated, "the macaroon was valid until "+end, "bake a new one", "")
			}
		} else { // whoever added it relies on it
			return bad(fmt.Sprintf("it has a condition that this daemon does not know: %.80q", c))
		}
	}
	if !limited {
		return bad("it names no methods")
	}
	return nil
}

// macaroons lists what may be a macaroon, in hex: `Authorization: Bearer`, `Authorization: Macaroon`, and the metadata
// `macaroon` as gRPC clients send it (also under the prefix of gRPC gateways).
func macaroons(h http.Header) []string {
	var out []string
	for _, v := range h.Values("Authorization") {
		scheme, token, _ := strings.Cut(v, " ")
		if strings.EqualFold(scheme, "bearer") || strings.EqualFold(scheme, "macaroon") {
			out = append(out, strings.TrimSpace(token))
		}
	}
	out = append(out, h.Values("Macaroon")...)
	out = append(out, h.Values("Grpc-Metadata-Macaroon")...)
	return out[:min(len(out), maxCredentials)]
}

// guard authorises before anything of the body is read, for all three protocols.
func (a authority) guard(next http.Handler) http.Handler {
	errs := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := strings.TrimPrefix(r.URL.Path, "/")
		var err error
		if _, known := permissions[method]; !known {
			err = Error("unknown_method", connect.CodeUnimplemented, fmt.Sprintf("there is no method %.80q", method),
				"methods are chand.v1.Payments/Pay and so on; `chancli help` and the schema list them", "")
		} else {
			err = a.allow(method, r.Header)
		}
		if err != nil {
			w.Header().Set("Connection", "close") // HTTP/1: do not read what follows
			_ = errs.Write(w, r, err)             // the client is gone
			return
		}
		next.ServeHTTP(w, r)
	})
}

// bearer adds the macaroon to every call of a client.
type bearer string

func (b bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		if r.Spec().IsClient {
			r.Header().Set("Authorization", "Bearer "+string(b))
		}
		return next(ctx, r)
	}
}

func (b bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, s connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, s)
		conn.RequestHeader().Set("Authorization", "Bearer "+string(b))
		return conn
	}
}

func (b bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// Allow returns nil when one of a request's macaroons permits the method, like "chand.v1.Account/Send": for other HTTP servers of the
// daemon.
func Allow(rootKey [32]byte, method string, h http.Header) error {
	return authority{rootKey, time.Now}.allow(method, h)
}
