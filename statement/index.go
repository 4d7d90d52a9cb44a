package statement

import "github.com/eschaton-network/chand/types"

// Index keys find statements without looking at all of them. They are text, so that a store can use them as they are.
const (
	issuerPrefix    = "i/"
	subjectPrefix   = "s/"
	attributePrefix = "a/"
	indexTag        = "chand/statement/index/v1"
)

// IssuerKey is the index key of everything that an issuer says.
func IssuerKey(k Key) string { return issuerPrefix + k.String() }

// SubjectKey is the index key of everything about a subject (canonical text).
func SubjectKey(subject string) string { return subjectPrefix + subject }

// AttributeKey is the index key of everything that has an attribute at a path.
func AttributeKey(path string) string { return attributePrefix + path }

// IndexKeys lists the index keys of a statement: its issuer, its subjects, and every path of its attributes. At most
// 1 + MaxSubjects + MaxPaths.
func (s *Statement) IndexKeys() []string {
	keys := []string{IssuerKey(s.Issuer)}
	for _, subject := range s.Subjects {
		keys = append(keys, SubjectKey(subject))
	}
	for _, p := range s.Attributes.Paths() {
		keys = append(keys, AttributeKey(p))
	}
	return keys
}

// DHTKey is the key under which providers of statements with an index key announce themselves.
func DHTKey(indexKey string) types.Hash { return types.TaggedHash(indexTag, []byte(indexKey)) }
