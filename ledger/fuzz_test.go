package ledger

import (
	"bytes"
	"testing"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

// FuzzDecodeTx: what decodes is encoded by exactly the same bytes, and neither Check nor Apply breaks on it.
func FuzzDecodeTx(f *testing.F) {
	w, p := opened(f)
	secret := secretOf("x")
	for _, b := range []Body{
		SendOne{To: p.a, Amount: coin}, SendMany{[]Wire{{p.a, 1}, {p.b, 2}}}, Broadcast{[]byte("x")},
		CreateAccount{Node: 1, PublicKey: PublicKey(secret), Proof: KeyProof(secret)},
		ChangeAccountKey{PublicKey: PublicKey(secret), Proof: KeyProof(secret)},
		p.open(), p.spend(p.refund(100, 1, p.split(coin)...), p.closer[0]), Anchor{make([]types.Hash, 2)},
		CreateAccount{Node: 2}, CreateNode{}, RetrieveFunds{p.b}, ChangeNodeKey{PublicKey: PublicKey(secret), Proof: KeyProof(secret)},
		SetAccountStatus{p.a, 6}, UnsetAccountStatus{p.a, 6}, SetNodeStatus{1, 8}, UnsetNodeStatus{1, 8}, LogAccount{}, AnchorPairs{make([]Pair, 2)},
		IssueCertificate{Subject: p.b, Type: 3, Expires: maxTime}, UpdateCertificate{Subject: p.b, Type: 3, Expires: maxTime}, RevokeCertificate{p.b, 3},
		Enrol{types.Hash{1}, RoleNode}, Lease{1, MinLease}, CancelLease{1, 5},
		SetPolicy{Policy{Version: 1, Enrolled: true, Admins: []types.AccountID{p.a}}, 2, make([][64]byte, 1)},
	} {
		f.Add(w.sign(p.a, b))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		tx, err := DecodeTx(raw)
		if err != nil {
			return
		}
		b := tx.Body.signed(tx.Head.marshal(tx.Body.kind()))
		b = tx.Body.tail(append(b, tx.Signature[:]...))
		if !bytes.Equal(b, raw) {
			t.Fatalf("%x decodes, but encodes as %x", raw, b)
		}
		s, err := DecodeState(bytes.NewReader(snapshot(t, w.s)), DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		checked := s.Check(raw) == nil
		done := s.Apply(s.Height()+1, s.Time(), [][]byte{Direct(raw)}).Results[0]
		if checked != (done.Code == CodeOK) {
			t.Fatalf("Check says %v, Apply %d %s", checked, done.Code, done.Text)
		}
		if err := s.Verify(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzDecodeMsgTx: what decodes has one encoding and stays within the limits.
func FuzzDecodeMsgTx(f *testing.F) {
	_, p := opened(f)
	f.Add(htlc.EncodeTx(p.seal(p.refund(100, 1, p.split(coin)...))))
	f.Add(htlc.EncodeTx(p.seal(p.final(toScript(p.script, coin)))))
	f.Fuzz(func(t *testing.T, raw []byte) {
		tx, err := DecodeMsgTx(raw)
		if err != nil {
			return
		}
		if len(tx.TxIn) > MaxSpendInputs || len(tx.TxOut) > MaxSpendOutputs || !bytes.Equal(htlc.EncodeTx(tx), raw) {
			t.Fatal("beyond the limits or not canonical")
		}
		if s, err := NewSpend(raw, nil); err == nil && Fee(p.a, s) <= 0 {
			t.Fatal("no fee")
		}
	})
}

// FuzzDecodeState: a snapshot that is accepted is sound and has one encoding.
func FuzzDecodeState(f *testing.F) {
	f.Add(snapshot(f, busy(f).s))
	f.Add(snapshot(f, newWorld(f, 1).s))
	limits := Limits{Bytes: 1 << 16, Accounts: 100, Contracts: 100, Outputs: 100}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := DecodeState(bytes.NewReader(raw), limits)
		if err != nil {
			return
		}
		if !bytes.Equal(snapshot(t, s), raw) {
			t.Fatal("another encoding")
		}
	})
}

// FuzzDecodeGetMe: the original's request is read as it is written.
func FuzzDecodeGetMe(f *testing.F) {
	f.Add(GetMe{From: admin(1), Target: admin(2)}.Sign(secretOf("x")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if g, _, err := DecodeGetMe(raw, [32]byte{}); err == nil && !bytes.Equal(g.bytes(), raw[:getMeSize]) {
			t.Fatal("another get_me")
		}
	})
}

// FuzzParseGenesis: a document that is accepted has one canonical form.
func FuzzParseGenesis(f *testing.F) {
	b, err := testGenesis(2).Bytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, raw []byte) {
		g, err := ParseGenesis(raw)
		if err != nil {
			return
		}
		b, err := g.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseGenesis(b)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := again.Bytes(); err != nil || !bytes.Equal(b, c) {
			t.Fatal("no canonical form")
		}
	})
}

// FuzzMessage: whatever is taken for a message of a block has one encoding, its root is the original's, and checking it first or seeing it
// first in the block gives the same ledger.
func FuzzMessage(f *testing.F) {
	w, p := opened(f)
	secret := secretOf("x")
	var all [][]byte
	for _, b := range []Body{
		SendOne{To: p.a, Amount: coin}, SendMany{[]Wire{{p.a, 1}, {p.b, 2}}}, Broadcast{[]byte("x")},
		CreateAccount{Node: 1, PublicKey: PublicKey(secret), Proof: KeyProof(secret)},
		p.open(), p.spend(p.refund(100, 1, p.split(coin)...), p.closer[0]), Anchor{make([]types.Hash, 2)},
		ChangeAccountKey{PublicKey: PublicKey(secret), Proof: KeyProof(secret)},
	} {
		all = append(all, w.sign(p.a, b))
	}
	f.Add(w.message(1, all...))
	f.Add(w.message(1, Connection{Port: 1, IPv4: 2}.Bytes(), AcceptAccount{Requester: p.b}.Bytes(1, 3)))
	f.Add(w.message(1))
	f.Add(w.message(1, all[0], all[0], all[2], w.sign(p.b, SendOne{To: p.a, Amount: 1})))
	f.Add(unhex(f, goldenMessage))
	state := snapshot(f, w.s)
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, txs, r := decodeMessage(raw)
		if r == nil {
			if b, err := m.Encode(); err != nil || !bytes.Equal(b, raw) {
				t.Fatal("another encoding", err)
			}
			if messageRoot(m, txs, nil) != m.Root() {
				t.Fatal("another root")
			}
		}
		checked, unseen := restore(t, state), restore(t, state)
		ok := checked.CheckMessage(raw) == nil
		if got := len(checked.OrderMessages([][]byte{raw}, 1<<30)) > 0; ok && !got {
			t.Fatal("checked, but not proposed")
		}
		a := checked.Apply(checked.Height()+1, checked.Time()+1, [][]byte{raw})
		b := unseen.Apply(unseen.Height()+1, unseen.Time()+1, [][]byte{raw})
		if ok && a.Block[0].Code != CodeOK {
			t.Fatalf("checked, but skipped: %v", a.Block[0])
		}
		if checked.Root() != unseen.Root() || len(a.Results) != len(b.Results) {
			t.Fatal("the ledgers differ")
		}
		if err := checked.Verify(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzOrderMessages: a proposal fits, repeats nothing, and is accepted by those who check it.
func FuzzOrderMessages(f *testing.F) {
	w := newWorld(f, 2)
	one := w.message(1, w.sign(admin(1), SendOne{To: admin(2), Amount: 1}))
	other := w.message(2, w.sign(admin(2), SendOne{To: admin(1), Amount: 1}))
	f.Add(one, other, Direct(other), int64(400))
	f.Add(other, one, one, int64(1<<20))
	f.Add([]byte{blockEvidence}, Direct(one), []byte{}, int64(0))
	f.Fuzz(func(t *testing.T, a, b, c []byte, limit int64) {
		limit &= 1<<40 - 1
		got := w.s.OrderMessages([][]byte{a, b, c, a}, limit)
		var size int64
		seen := map[string]bool{}
		others := false
		for _, raw := range got {
			_, _, message := MessageHead(raw)
			if message && others || seen[string(raw)] {
				t.Fatalf("%x is twice in the proposal, or behind what is not a message", raw)
			}
			size, others, seen[string(raw)] = size+blockBytes(raw), !message, true
		}
		if err := w.s.CheckProposal(got); err != nil {
			t.Fatal(err)
		}
		if size > limit {
			t.Fatalf("%d bytes, at most %d", size, limit)
		}
	})
}
