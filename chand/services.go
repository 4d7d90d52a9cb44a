package chand

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/eschaton-network/chand/chand/library"
	"github.com/eschaton-network/chand/chand/stamper"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/statement"
	"github.com/eschaton-network/chand/statement/query"
	"github.com/eschaton-network/chand/timestamp"
	"github.com/eschaton-network/chand/types"
)

// Statements and timestamps have owners of their own, in the packages library and stamper. This file is what they get of the
// daemon, and what they give to its users.

func newLibrary(d *Daemon) (*library.Library, error) {
	return library.New(library.Config{
		Store: d.Store, Gossip: d.Gossip, Directory: d.Directory, Head: d.Chain.Head, Genesis: d.genesis, Blocks: d.blockAt,
		StatementSecret: d.cfg.Seed.StatementSecret(), NodeKey: d.nodeKey, Account: d.Account, AccountSecret: d.cfg.AccountSecret,
		Neighbours: d.neighbours, Clock: d.Clock, Log: d.Log,
		Accepted: func(s *statement.Statement) { d.emit("statement", "a statement about "+s.Subject(), s) },
	})
}

func newStamper(d *Daemon) (*stamper.Stamper, error) {
	return stamper.New(stamper.Config{
		Store: d.Store, Anchor: d.Anchor, Proofs: d.Proofs, Round: d.cfg.StampRound, Genesis: d.genesis,
		BlockTime: time.Duration(d.Chain.Params().BlockMillis) * time.Millisecond, Clock: d.Clock, Entropy: secrets{d}, Log: d.Log,
		Anchored: func(rounds uint64, h types.Height) {
			d.emit("timestamp", fmt.Sprintf("block %d holds the anchor of %d rounds of timestamps", h, rounds), nil)
		},
	})
}

// secrets is an io.Reader of the daemon's randomness, which others read at the same time.
type secrets struct{ d *Daemon }

func (s secrets) Read(b []byte) (int, error) {
	if err := s.d.random(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// blockAt looks up a block that this daemon has verified.
func (d *Daemon) blockAt(h types.Height) (types.Hash, types.Time, error) {
	var b ledger.BlockInfo
	if head, _ := d.Chain.Head(); h == 0 || h > head.Height {
		return b.Hash, 0, timestamp.ErrNoHeader
	}
	found := errors.New("found")
	err := d.Chain.Blocks(context.Background(), h, func(e ledger.BlockEvents) error { b = e.BlockInfo; return found }) // at most the head: never waits
	if !errors.Is(err, found) || b.Height != h {
		return b.Hash, 0, timestamp.ErrNoHeader
	}
	return b.Hash, b.Time, nil
}

// StatementKey is the key that signs our statements.
func (d *Daemon) StatementKey() statement.Key { return d.library.Key() }

// PublishStatement signs, saves and spreads a statement. The same idempotency key gives the same statement.
func (d *Daemon) PublishStatement(ctx context.Context, draft library.Draft) (library.Stored, error) {
	s, err := d.library.Publish(ctx, draft)
	return s, serviceError(err)
}

// Statement finds one that is held here.
func (d *Daemon) Statement(id statement.ID) (library.Stored, error) {
	s, err := d.library.Get(id)
	return s, serviceError(err)
}

// StatementQuery asks for statements in force.
type StatementQuery struct {
	Expression string
	// Limit is 1 to 1000; 0: 100.
	Limit int
	// Token is empty, or Page.Next of the page before, by the same daemon.
	Token string
	// From is the peer to ask. Zero: what is held here, and if that is nothing, a search of a few seconds at others.
	From types.NodeID
}

// QueryStatements answers a query; whatever others say is verified.
func (d *Daemon) QueryStatements(ctx context.Context, q StatementQuery) (library.Page, error) {
	ask := func() (library.Page, error) { return d.library.QueryAt(ctx, q.From, q.Expression, q.Limit, q.Token) }
	if q.From.IsZero() && q.Token == "" {
		ask = func() (library.Page, error) { return d.library.Search(ctx, q.Expression, q.Limit) }
	}
	p, err := ask()
	return p, serviceError(err)
}

// Stamp puts a digest into the round of timestamps that is open. When it returns, the round is saved and will be anchored. uri is
// where the rest of the proof (an OpenTimestamps file) can be asked for, expected when.
func (d *Daemon) Stamp(ctx context.Context, digest types.Hash, uri string) (ots []byte, expected types.Time, err error) {
	ots, expected, err = d.stamper.Stamp(ctx, digest, uri)
	return ots, expected, serviceError(err)
}

// Upgrade completes a proof file with what is known here.
func (d *Daemon) Upgrade(ots []byte) (stamper.Upgraded, error) {
	u, err := d.stamper.Upgrade(ots)
	return u, serviceError(err)
}

// serviceErrors are the words of this package for those of library and stamper. The first that fits counts.
var serviceErrors = []struct {
	is         error
	code, next string
}{
	{library.ErrStopped, CodeStopping, "ask again after the restart, with the same idempotency key"},
	{library.ErrBusy, CodeBusy, "try again in a moment"},
	{library.ErrNotFound, CodeNotFound, "ask another peer: chancli statement query --from PEER"},
	{library.ErrConflict, CodeConflict, "use a key of its own for each statement"},
	{query.ErrAnswer, CodeRefused, "ask another peer"},
	{library.ErrPeer, CodePeerOffline, "ask another peer"},
	{library.ErrToken, CodeInvalid, "begin with an empty page token"},
	{query.ErrQuery, CodeInvalid, "correct the expression"},
	{statement.ErrFull, CodeRefused, "wait until statements of yours end: chancli statement query"},
	{library.ErrDraft, CodeInvalid, "correct the statement"},
	{stamper.ErrStopped, CodeStopping, "stamp again after the restart"},
	{stamper.ErrBusy, CodeBusy, "try again in a moment"},
	{stamper.ErrProof, CodeInvalid, "give the file as `timestamp stamp` wrote it"},
	{timestamp.ErrFormat, CodeInvalid, "correct the calendar's address"},
}

// serviceError gives an error of library or stamper the form of this package's. Others pass as they are.
func serviceError(err error) error {
	for _, e := range serviceErrors {
		if errors.Is(err, e.is) {
			return &Error{Code: e.code, Text: err.Error(), Next: e.next, Money: noMoneyMoved, Err: err}
		}
	}
	return err
}
