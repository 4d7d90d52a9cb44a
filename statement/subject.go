package statement

import (
	"fmt"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/eschaton-network/chand/types"
)

const (
	// MaxSubject bounds a subject's text: room for a long URL.
	MaxSubject = 512
	// maxSubjectType bounds the word before the colon.
	maxSubjectType = 24
)

// ParseSubject reads what a person writes as the subject of a statement and returns the canonical text "type:value":
//
//	16Uiu2HA…, peer:16Uiu2HA…       a node                     peer:16Uiu2HA…
//	0001-00000003-1234, account:…   an account of the ledger   account:0001-00000003-1234
//	bafy…, cid:bafy…                content, a statement       cid:bafy…
//	ed25519:0f…                     a statement key            ed25519:0f…
//	http://…, https://…             a web address              as it is
//	word:value                      anything else              as it is
//
// Values of the known types are checked, so that one thing has one name.
func ParseSubject(s string) (string, error) {
	if len(s) == 0 || len(s) > MaxSubject {
		return "", fmt.Errorf("%w: subject of %d bytes, want 1..%d", ErrFormat, len(s), MaxSubject)
	}
	kind, value, typed := strings.Cut(s, ":")
	if !typed {
		kind, value = guess(s), s
	}
	switch kind {
	case "":
		return "", fmt.Errorf("%w: subject %q has no type: want a peer id, a ledger address, a CID, a URL, or word:value", ErrFormat, clip(s))
	case "peer":
		n, err := types.ParseNodeID(value)
		return "peer:" + n.String(), err
	case "account":
		a, err := types.ParseAccountID(value)
		return "account:" + a.String(), err
	case "cid":
		c, err := cid.Decode(value)
		if err != nil {
			return "", fmt.Errorf("%w: subject %q: %w", ErrFormat, clip(s), err)
		}
		return "cid:" + c.String(), nil
	case "ed25519":
		k, err := ParseKey(strings.ToLower(s))
		return k.String(), err
	}
	if !isWord(kind) || value == "" || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r == 0x7f || r == 0xfffd }) {
		return "", fmt.Errorf("%w: subject %q: want word:value without spaces, the word of a-z, 0-9 and -", ErrFormat, clip(s))
	}
	return s, nil
}

// guess names the type of an untyped subject, or "".
func guess(s string) string {
	if _, err := types.ParseNodeID(s); err == nil {
		return "peer"
	}
	if _, err := types.ParseAccountID(s); err == nil {
		return "account"
	}
	if len(s) > 20 {
		if _, err := cid.Decode(s); err == nil {
			return "cid"
		}
	}
	return ""
}

func isWord(s string) bool {
	if s == "" || len(s) > maxSubjectType || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	return strings.IndexFunc(s, notWordRune) < 0
}

func notWordRune(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
}
