package escd

import (
	"context"
	stded25519 "crypto/ed25519"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// AccountOf finds an account by the key that it has now; the one with the lowest number where several have it.
func (n *Node) AccountOf(key [32]byte) (types.AccountID, bool, error) {
	n.app.mu.RLock()
	defer n.app.mu.RUnlock()
	id, err := n.app.state.AccountOf(key)
	if errors.Is(err, ledger.ErrNotFound) {
		return id, false, nil
	}
	return id, err == nil, err
}

// OwnAccount is this daemon's account: that of the daemon's key on the ledger as verified here. It is zero until there is
// one (see WaitOwnAccount).
func (n *Node) OwnAccount() types.AccountID {
	select {
	case <-n.ownReady:
		return n.own
	default:
		return types.AccountID{}
	}
}

// WaitOwnAccount waits until the daemon has an account. A node without one in the genesis asks its peers' offices.
func (n *Node) WaitOwnAccount(ctx context.Context) (types.AccountID, error) {
	select {
	case <-n.ownReady:
		return n.own, nil
	case <-ctx.Done():
		return types.AccountID{}, ctx.Err()
	}
}

// askAgain is the pause before an office that failed is asked again for an account.
const askAgain = time.Second

// findOwnAccount looks for the account in the verified state, at each block; the peers' offices are asked for one in the meantime.
func (n *Node) findOwnAccount(ctx context.Context, key [32]byte) {
	if len(n.peers.offices()) > 0 {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		n.work.Go(func() { n.requestAccount(ctx, key) })
	}
	for {
		_, next := n.app.wait()
		if n.lookupOwn(key) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-next:
		}
	}
}

func (n *Node) lookupOwn(key [32]byte) bool {
	id, ok, err := n.AccountOf(key)
	if err != nil || !ok {
		return false
	}
	n.own = id
	close(n.ownReady)
	return true
}

// requestAccount asks one office after the other until it gets an answer. The answer is not used: the account counts when it is in the state here.
func (n *Node) requestAccount(ctx context.Context, key [32]byte) {
	for told := false; ; told = true {
		var errs []error
		for _, p := range n.peers.offices() {
			_, err := p.office.CreateAccount(ctx, key, ledger.KeyProof(n.cfg.AccountSecret))
			if err == nil || ctx.Err() != nil {
				return
			}
			errs = append(errs, err)
		}
		if !told {
			n.cfg.Logger.Warn("no account from another daemon's office yet; asking on", "err", errors.Join(errs...))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(askAgain):
		}
	}
}

// opener creates accounts for strangers, one request a key at a time.
type opener struct {
	n    *Node
	node uint16 // our ledger node, 0 if we have none
	mu   sync.Mutex
	busy map[types.Hash]chan struct{} // closed when the request under way for that key is done
	seq  sequencer
}

func newOpener(n *Node) *opener {
	node := homeNode(n.genesis, ledger.PublicKey(n.cfg.LedgerNodeSecret))
	return &opener{n: n, node: node, busy: map[types.Hash]chan struct{}{},
		seq: sequencer{n: n, id: types.AccountID{Node: node}, secret: n.cfg.AccountSecret}}
}

// open returns the account of a key, creating it when there is none. allowed is asked before anything is created.
func (o *opener) open(ctx context.Context, key [32]byte, proof [64]byte, allowed func() error) (types.AccountID, error) {
	release, err := o.acquire(ctx, key)
	if err != nil {
		return types.AccountID{}, err
	}
	defer release()
	if id, ok, err := o.n.AccountOf(key); err != nil || ok {
		return id, err
	}
	if err := allowed(); err != nil {
		return types.AccountID{}, err
	}
	if o.n.cfg.CreateAccount != nil {
		return o.n.cfg.CreateAccount(ctx, key, proof)
	}
	tx, err := o.seq.submit(ctx, ledger.CreateAccount{Node: o.node, PublicKey: key, Proof: proof})
	if err != nil {
		return types.AccountID{}, err
	}
	for {
		_, next := o.n.app.wait()
		if id, ok, err := o.n.AccountOf(key); err != nil || ok {
			return id, err
		}
		if h, _, err := o.n.FindTx(tx); err == nil {
			return types.AccountID{}, fmt.Errorf("the ledger refused to create the account in block %d", h)
		}
		select {
		case <-ctx.Done():
			o.seq.forget()
			return types.AccountID{}, ctx.Err()
		case <-next:
		}
	}
}

func (o *opener) acquire(ctx context.Context, key types.Hash) (release func(), err error) {
	for {
		o.mu.Lock()
		other := o.busy[key]
		if other == nil {
			mine := make(chan struct{})
			o.busy[key] = mine
			o.mu.Unlock()
			return func() {
				o.mu.Lock()
				delete(o.busy, key)
				o.mu.Unlock()
				close(mine)
			}, nil
		}
		o.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// checkProof wants the key's signature of the empty message.
func checkProof(key [32]byte, proof [64]byte) bool { return stded25519.Verify(key[:], nil, proof[:]) }

// sequencer numbers, chains and signs the transactions of one account, so that several can wait for one block. It must be
// the only one who signs for that account.
type sequencer struct {
	n      *Node
	id     types.AccountID
	secret [32]byte

	mu sync.Mutex
	// msid and hash are what the next transaction must carry, when ahead is true; else the state says.
	ahead bool
	msid  uint32
	hash  types.Hash
}

// submit signs and submits a transaction and returns its id. When the ledger has moved differently from what was expected (a
// transaction was lost), it starts from the state once more.
func (s *sequencer) submit(ctx context.Context, body ledger.Body) (types.Hash, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for again := false; ; again = true {
		acc, err := s.n.Account(s.id)
		if err != nil {
			return types.Hash{}, err
		}
		if !s.ahead || acc.Msid >= s.msid {
			s.msid, s.hash = acc.Msid, acc.Hash
		}
		head, _ := s.n.app.wait()
		raw, next, err := ledger.Sign(s.secret, s.hash, ledger.Head{From: s.id, Msid: s.msid, Time: head.Time}, body)
		if err != nil {
			return types.Hash{}, err
		}
		err = s.n.Submit(ctx, raw)
		if err == nil {
			s.ahead, s.msid, s.hash = true, s.msid+1, next
			return types.SHA256(raw), nil
		}
		s.ahead = false
		var refusal *ledger.Refusal
		if again || !errors.As(err, &refusal) || refusal.Code != ledger.CodeMsid && refusal.Code != ledger.CodeSignature {
			return types.Hash{}, err
		}
	}
}

// forget makes the next submit start from the state: something that was submitted did not arrive.
func (s *sequencer) forget() {
	s.mu.Lock()
	s.ahead = false
	s.mu.Unlock()
}
