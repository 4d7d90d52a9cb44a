package oracle

import (
	"errors"
	"fmt"
	"strings"

	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/types"
)

// AnnouncementSchema marks announcements, AttestationSchema attestations.
var (
	AnnouncementSchema = statement.SchemaID("chand/oracle/announcement/v1")
	AttestationSchema  = statement.SchemaID("chand/oracle/attestation/v1")
)

var (
	// ErrAnnouncement is wrapped by every error about a statement that is no valid announcement.
	ErrAnnouncement = errors.New("not a valid oracle announcement")
	// ErrAttestation is wrapped when a preimage or statement does not attest to an outcome of the announcement.
	ErrAttestation = errors.New("not a valid oracle attestation")
	// ErrFraudProof is wrapped when a fraud proof proves nothing.
	ErrFraudProof = errors.New("not a proof of fraud")
)

const (
	// MaxOutcomes is what fits a statement of statement.MaxSize with names of usual length.
	MaxOutcomes = 100
	// MaxOutcome bounds an outcome's name, MaxEventText the event's wording.
	MaxOutcome   = 64
	MaxEventText = 2048

	preimageTag = "chand/oracle/preimage/v1"
	eventTag    = "chand/oracle/event/v1"
)

// Outcome is one way in which an event can end.
type Outcome struct {
	Name string
	// Hash is SHA-256 of the preimage that the oracle publishes if this happens.
	Hash types.Hash
}

// Event is what an oracle promises to answer.
type Event struct {
	// Text is the exact wording, with the source that decides. 1..MaxEventText bytes.
	Text string
	// Outcomes are 2..MaxOutcomes with different names and hashes.
	Outcomes []Outcome
	// AnswerBy is the last block by which the oracle will answer.
	AnswerBy types.Height
	// AnswerTime is the same as clock time, for people; 0 when not given.
	AnswerTime types.Time
	// Default is the name of the outcome that holds when there is no answer; empty: stakes go back.
	Default string
}

// Announcement is a verified statement that promises to answer an event.
type Announcement struct {
	Event
	Statement *statement.Statement
}

// Preimages derives one preimage for each of n outcomes from an oracle's secret and a nonce of the event. The nonce must be
// different for each event; both together restore the preimages, so that only they need a backup.
func Preimages(secret, nonce [32]byte, n int) []types.Preimage {
	out := make([]types.Preimage, n)
	for i := range out {
		out[i] = types.Preimage(types.TaggedHash(preimageTag, secret[:], nonce[:], []byte{byte(i >> 8), byte(i)}))
	}
	return out
}

// Outcomes pairs names with the hashes of preimages.
func Outcomes(names []string, preimages []types.Preimage) ([]Outcome, error) {
	if len(names) != len(preimages) {
		return nil, fmt.Errorf("%w: %d outcomes with %d preimages", ErrAnnouncement, len(names), len(preimages))
	}
	out := make([]Outcome, len(names))
	for i := range out {
		out[i] = Outcome{names[i], preimages[i].Hash()}
	}
	return out, nil
}

// Subject is the subject under which announcements of the very same wording are found.
func (e Event) Subject() string {
	return "event:" + types.TaggedHash(eventTag, []byte(e.Text)).String()
}

func (e Event) check() error {
	if len(e.Text) == 0 || len(e.Text) > MaxEventText {
		return fmt.Errorf("%w: event text of %d bytes, want 1..%d", ErrAnnouncement, len(e.Text), MaxEventText)
	}
	if len(e.Outcomes) < 2 || len(e.Outcomes) > MaxOutcomes {
		return fmt.Errorf("%w: %d outcomes, want 2..%d", ErrAnnouncement, len(e.Outcomes), MaxOutcomes)
	}
	if e.AnswerBy == 0 || e.AnswerTime < 0 || e.AnswerTime > statement.MaxInt {
		return fmt.Errorf("%w: no block named by which it is answered, or no time (%d)", ErrAnnouncement, e.AnswerTime)
	}
	names, hashes := map[string]bool{}, map[types.Hash]bool{}
	for _, o := range e.Outcomes {
		if len(o.Name) == 0 || len(o.Name) > MaxOutcome || strings.TrimSpace(o.Name) != o.Name {
			return fmt.Errorf("%w: outcome %.80q: want 1..%d bytes without blanks around", ErrAnnouncement, o.Name, MaxOutcome)
		}
		if names[o.Name] || hashes[o.Hash] || o.Hash.IsZero() {
			return fmt.Errorf("%w: outcome %q has the name or the hash of another", ErrAnnouncement, o.Name)
		}
		names[o.Name], hashes[o.Hash] = true, true
	}
	if e.Default != "" && !names[e.Default] {
		return fmt.Errorf("%w: default %.80q is none of the outcomes", ErrAnnouncement, e.Default)
	}
	return nil
}

// Announce signs an announcement with the oracle's statement key. Of body, ledger, blocks, times and validity are used,
// and subjects are added behind the event's own.
func Announce(body statement.Body, e Event, secret [32]byte) (Announcement, error) {
	if err := e.check(); err != nil {
		return Announcement{}, err
	}
	outcomes := make([]any, len(e.Outcomes))
	for i, o := range e.Outcomes {
		outcomes[i] = map[string]any{"name": o.Name, "hash": o.Hash.String()}
	}
	event := map[string]any{"text": e.Text, "outcomes": outcomes, "answer_by": int64(e.AnswerBy)}
	if e.AnswerTime != 0 {
		event["answer_time"] = int64(e.AnswerTime)
	}
	if e.Default != "" {
		event["default"] = e.Default
	}
	body.Subjects = append([]string{e.Subject()}, body.Subjects...)
	body.Schema, body.Attributes = AnnouncementSchema, statement.Attributes{"event": event}
	s, err := statement.Sign(body, secret)
	if err != nil {
		return Announcement{}, err
	}
	return ParseAnnouncement(s)
}

// ParseAnnouncement reads an announcement from a verified statement. Attributes that it does not know are refused, so
// that what people see is all that was promised.
func ParseAnnouncement(s *statement.Statement) (Announcement, error) {
	a := Announcement{Statement: s}
	if s.Schema != AnnouncementSchema {
		return a, fmt.Errorf("%w: statement %s has another schema", ErrAnnouncement, s.ID)
	}
	event, ok := s.Attributes["event"].(map[string]any)
	if !ok || len(s.Attributes) != 1 {
		return a, fmt.Errorf("%w: statement %s does not hold one event", ErrAnnouncement, s.ID)
	}
	f := fields{m: event}
	a.Text = f.text("text")
	a.AnswerBy = types.Height(f.number("answer_by", 1<<32-1))
	a.AnswerTime = types.Time(f.optionalNumber("answer_time"))
	a.Default = f.optionalText("default")
	list, _ := event["outcomes"].([]any)
	f.used++
	for _, x := range list {
		m, _ := x.(map[string]any)
		o := fields{m: m}
		name := o.text("name")
		h, err := types.ParseHash(o.text("hash"))
		if err != nil || h.String() != m["hash"] || !o.complete() {
			return a, fmt.Errorf("%w: statement %s: an outcome must have a name and a hash of 64 lower-case hex digits", ErrAnnouncement, s.ID)
		}
		a.Outcomes = append(a.Outcomes, Outcome{name, h})
	}
	if !f.complete() {
		return a, fmt.Errorf("%w: statement %s: event must have text, outcomes and answer_by, may have answer_time and default, and nothing else", ErrAnnouncement, s.ID)
	}
	if err := a.check(); err != nil {
		return a, err
	}
	if s.Subject() != a.Subject() {
		return a, fmt.Errorf("%w: statement %s: its subject must be %s", ErrAnnouncement, s.ID, a.Subject())
	}
	if s.Until != 0 && s.Until < a.AnswerBy {
		return a, fmt.Errorf("%w: statement %s ends at block %d, before it is answered (%d)", ErrAnnouncement, s.ID, s.Until, a.AnswerBy)
	}
	return a, nil
}

// fields reads attributes and remembers whether all were there and as they should be.
type fields struct {
	m    map[string]any
	used int
	bad  bool
}

func (f *fields) text(name string) string {
	s, ok := f.m[name].(string)
	f.used, f.bad = f.used+1, f.bad || !ok
	return s
}

func (f *fields) number(name string, most int64) int64 {
	n, ok := f.m[name].(int64)
	f.used, f.bad = f.used+1, f.bad || !ok || n < 0 || n > most
	return n
}

// An optional field is never there with the value that stands for its absence: one meaning, one form.
func (f *fields) optionalText(name string) string {
	if _, there := f.m[name]; !there {
		return ""
	}
	s := f.text(name)
	f.bad = f.bad || s == ""
	return s
}

func (f *fields) optionalNumber(name string) int64 {
	if _, there := f.m[name]; !there {
		return 0
	}
	n := f.number(name, statement.MaxInt)
	f.bad = f.bad || n == 0
	return n
}

func (f *fields) complete() bool { return !f.bad && f.used == len(f.m) }
