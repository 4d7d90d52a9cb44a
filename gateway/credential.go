package gateway

import (
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
)

// credential is one token with the preimage that came with it. An empty preimage may stand in a caveat of the token.
type credential struct {
	token    []byte
	preimage string
}

// maxCredentials bounds what is tried for one request: honest clients send one, in up to three headers.
const maxCredentials = 8

// credentials lists what the request offers as payment, in all forms in use: `Authorization: L402|LSAT token[,token…]:preimage`
// (several lines are read), `Grpc-Metadata-Macaroon` and `Macaroon` in hex with a preimage caveat. present tells whether
// anything looked like a credential, readable or not; other Authorization schemes belong to the backend.
func credentials(h http.Header) (creds []credential, present bool) {
	for _, line := range h.Values("Authorization") {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !isL402(scheme) {
			continue
		}
		present = true
		tokens, preimage, ok := strings.Cut(strings.TrimSpace(rest), ":")
		if !ok {
			continue
		}
		for t := range strings.SplitSeq(tokens, ",") {
			if b, ok := decodeToken(strings.TrimSpace(t)); ok && len(creds) < maxCredentials {
				creds = append(creds, credential{b, strings.TrimSpace(preimage)})
			}
		}
	}
	for _, name := range []string{"Grpc-Metadata-Macaroon", "Macaroon"} {
		for _, v := range h.Values(name) {
			present = true
			if b, err := hex.DecodeString(strings.TrimSpace(v)); err == nil && len(creds) < maxCredentials {
				creds = append(creds, credential{token: b})
			}
		}
	}
	return creds, present
}

func isL402(scheme string) bool {
	return strings.EqualFold(scheme, "L402") || strings.EqualFold(scheme, "LSAT")
}

// decodeToken reads standard and URL-safe base64, padded or not.
func decodeToken(s string) ([]byte, bool) {
	if s == "" || len(s) > maxToken*2 {
		return nil, false
	}
	s = strings.TrimRight(s, "=")
	enc := base64.RawStdEncoding
	if strings.ContainsAny(s, "-_") {
		enc = base64.RawURLEncoding
	}
	b, err := enc.DecodeString(s)
	return b, err == nil
}

// strip removes what is between the buyer and the gateway before the request goes to the backend.
func strip(h http.Header) {
	kept := h.Values("Authorization")
	h.Del("Authorization")
	for _, line := range kept {
		if scheme, _, _ := strings.Cut(strings.TrimSpace(line), " "); !isL402(scheme) {
			h.Add("Authorization", line)
		}
	}
	h.Del("Grpc-Metadata-Macaroon")
	h.Del("Macaroon")
	h.Del(HeaderRequests)
}
