package gateway

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
)

// problem is an answer in RFC 9457 form. For 402 it says the price too, so that a machine need not read the invoice.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// Price is in coins per unit; Amount what the invoice asks for Requests units.
	Price    string `json:"price,omitempty"`
	Unit     string `json:"unit,omitempty"`
	Requests uint32 `json:"requests,omitempty"`
	Amount   string `json:"amount,omitempty"`
	Invoice  string `json:"invoice,omitempty"`
}

// problemTypes are stable names; they need not resolve (RFC 9457 section 3.1.1).
func problemType(name string) string { return "urn:chand:problem:" + name }

func (p problem) write(w http.ResponseWriter, r *http.Request) {
	cors(w.Header())
	w.Header().Set("Cache-Control", "no-store")
	if isGRPC(r) { // a trailers-only answer: gRPC clients read no body (as Aperture)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", strconv.Itoa(grpcStatus(p.Status)))
		w.Header().Set("Grpc-Message", grpcMessage(p))
		w.WriteHeader(http.StatusOK)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone
}

func isGRPC(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// grpcStatus maps as gRPC's own HTTP mapping does, but 402, for which Aperture set 13 with this message.
func grpcStatus(status int) int {
	switch status {
	case http.StatusUnauthorized:
		return 16 // UNAUTHENTICATED
	case http.StatusNotFound:
		return 12 // UNIMPLEMENTED
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return 14 // UNAVAILABLE
	}
	return 13 // INTERNAL
}

func grpcMessage(p problem) string {
	if p.Status == http.StatusPaymentRequired {
		return "payment required"
	}
	return strings.Map(func(r rune) rune { // percent-encoding is only for what is not printable ASCII
		if r < ' ' || r > '~' || r == '%' {
			return '?'
		}
		return r
	}, p.Detail)
}

// cors lets browsers of any origin pay and read: the credential is the only thing that counts (as Aperture).
func cors(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Grpc-Metadata-macaroon, Macaroon, Idempotency-Key, WWW-Authenticate, "+HeaderRequests)
	h.Set("Access-Control-Expose-Headers", "WWW-Authenticate, Payment-Receipt, "+HeaderPrice+", "+HeaderLeft)
	h.Set("Access-Control-Max-Age", "3600")
}
