package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Challenge is one L402 challenge: pay the invoice, and token with the preimage is the credential.
type Challenge struct {
	// Scheme as it came: L402 or LSAT.
	Scheme, Token, Invoice string
}

// maxChallengeLine bounds what is parsed of an answer.
const maxChallengeLine = 16 << 10

// ErrNoChallenge says that a 402 answer asks for no payment that we can make.
var ErrNoChallenge = errors.New("the answer has no L402 challenge")

// write adds the header lines, the legacy one first: Aperture's client matches the literal sequence `macaroon="…",
// invoice="…"`, the specification wants version and token.
func (c Challenge) write(h http.Header) {
	h.Add("WWW-Authenticate", fmt.Sprintf(`LSAT macaroon="%s", invoice="%s"`, c.Token, c.Invoice))
	h.Add("WWW-Authenticate", fmt.Sprintf(`L402 macaroon="%s", invoice="%s", version="0", token="%s"`, c.Token, c.Invoice, c.Token))
}

// ParseChallenge finds the L402 or LSAT challenge of an answer; L402 is preferred. It reads several lines, several
// challenges in a line, parameters in any order, quoted or not, `token` or the older `macaroon`, and skips what it does not know.
func ParseChallenge(h http.Header) (Challenge, error) {
	var best Challenge
	for _, line := range h.Values("WWW-Authenticate") {
		if len(line) > maxChallengeLine {
			continue
		}
		for _, c := range scanChallenges(line) {
			token := c.params["token"]
			if token == "" {
				token = c.params["macaroon"]
			}
			if !isL402(c.scheme) || token == "" || c.params["invoice"] == "" {
				continue
			}
			if best.Token == "" || strings.EqualFold(c.scheme, "L402") && !strings.EqualFold(best.Scheme, "L402") {
				best = Challenge{c.scheme, token, c.params["invoice"]}
			}
		}
	}
	if best.Token == "" {
		return best, ErrNoChallenge
	}
	return best, nil
}

type rawChallenge struct {
	scheme string
	params map[string]string
}

// scanChallenges splits a WWW-Authenticate line (RFC 9110 section 11.6.1) leniently: a word followed by a space and not by
// "=" opens a challenge, name=value adds to it. Unquoted values may hold base64 with its "=".
func scanChallenges(s string) []rawChallenge {
	var out []rawChallenge
	for s = strings.TrimLeft(s, " \t,"); s != ""; s = strings.TrimLeft(s, " \t,") {
		end := strings.IndexAny(s, " \t,=")
		if end < 0 {
			end = len(s)
		}
		word, rest := s[:end], strings.TrimLeft(s[end:], " \t")
		if word == "" { // a stray "="
			s = s[1:]
			continue
		}
		if !strings.HasPrefix(rest, "=") {
			out = append(out, rawChallenge{word, map[string]string{}})
			s = s[end:]
			continue
		}
		var value string
		value, s = scanValue(strings.TrimLeft(rest[1:], " \t"))
		if len(out) > 0 {
			p := out[len(out)-1].params
			if name := strings.ToLower(word); p[name] == "" {
				p[name] = value
			}
		}
	}
	return out
}

// scanValue reads a quoted string with backslash escapes, or everything up to a comma or space.
func scanValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		if end := strings.IndexAny(s, ", \t"); end >= 0 {
			return s[:end], s[end:]
		}
		return s, ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:]
		case '\\':
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}
