package main

import (
	"errors"
	"math/rand/v2"

	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"

	"github.com/eschaton-network/chand/internal/bigledger"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// sender is an account of the benchmark's own, with the head of its chain as the office has it. One goroutine at a time uses it.
type sender struct {
	key  ed25519.PrivateKey
	id   types.AccountID
	msid uint32
	prev types.Hash
}

// signedTx is a transaction that may be sent; next is what its sender's chain goes on with then.
type signedTx struct {
	raw  []byte
	from *sender
	next types.Hash
}

// accepted moves the sender on.
func (tx *signedTx) accepted() {
	tx.from.msid++
	tx.from.prev = tx.next
}

// sign makes the sender's next transaction. It moves a copy of the sender on.
func (s *sender) sign(ahead *sender, body ledger.Body, now types.Time) (signedTx, error) {
	h := ledger.Head{From: s.id, Msid: ahead.msid, Time: now}
	signed, err := ledger.SignedBytes(h, body)
	if err != nil {
		return signedTx{}, err
	}
	sig := [64]byte(ed25519.Sign(s.key, append(ahead.prev[:len(ahead.prev):len(ahead.prev)], signed...)))
	ahead.msid, ahead.prev = ahead.msid+1, ledger.NextHash(ahead.prev, sig)
	raw, err := ledger.Assemble(h, body, sig)
	return signedTx{raw, s, ahead.prev}, err
}

// plantedSenders are the first n accounts of a ledger that package bigledger made.
func plantedSenders(s *ledger.State, n int) ([]*sender, error) {
	out := make([]*sender, n)
	var failed error
	parallel(n, func(i int) {
		secret := bigledger.Secret(i)
		id := types.AccountID{Node: 1, User: uint32(i + 1)}
		a, err := s.Account(id)
		if err != nil {
			failed = err
			return
		}
		out[i] = &sender{key: ed25519.NewKeyFromSeed(secret[:]), id: id, msid: a.Msid, prev: a.Hash}
	})
	return out, failed
}

// signRounds makes `each` transactions of every sender, on all cores: round after round, each sender once a round.
func signRounds(senders []*sender, each int, now types.Time, body func(r *rand.Rand) ledger.Body) ([]signedTx, error) {
	out := make([]signedTx, each*len(senders))
	errs := make([]error, len(senders))
	parallel(len(senders), func(k int) {
		s := senders[k]
		ahead := *s
		r := rand.New(rand.NewPCG(uint64(k), uint64(s.msid)))
		for i := range each {
			if out[i*len(senders)+k], errs[k] = s.sign(&ahead, body(r), now); errs[k] != nil {
				return
			}
		}
	})
	return out, errors.Join(errs...)
}

// raws are the bytes of transactions.
func raws(txs []signedTx) [][]byte {
	out := make([][]byte, len(txs))
	for i := range txs {
		out[i] = txs[i].raw
	}
	return out
}

// payOne pays one of so many accounts of each of so many nodes, by chance.
func payOne(nodes, accounts int) func(*rand.Rand) ledger.Body {
	return func(r *rand.Rand) ledger.Body { return ledger.SendOne{To: somebody(r, nodes, accounts), Amount: 1} }
}

func somebody(r *rand.Rand, nodes, accounts int) types.AccountID {
	return types.AccountID{Node: uint16(1 + r.IntN(nodes)), User: uint32(1 + r.IntN(accounts))}
}

// payMany pays so many different accounts of node 1: every stride-th from a random one on.
func payMany(wires, accounts int) func(*rand.Rand) ledger.Body {
	stride := max(accounts/wires, 1)
	return func(r *rand.Rand) ledger.Body {
		first := r.IntN(accounts)
		body := ledger.SendMany{Wires: make([]ledger.Wire, wires)}
		for i := range body.Wires {
			body.Wires[i] = ledger.Wire{To: types.AccountID{Node: 1, User: uint32(1 + (first+i*stride)%accounts)}, Amount: 1}
		}
		return body
	}
}
