package ledger

import (
	"bytes"
	"testing"

	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

// opened is a world with an open contract of 30 + 20 coins between a and b, window 5.
func opened(t tb) (*world, *pair) {
	w := newWorld(t, 2)
	a, b := w.user("a", 1, 100*coin), w.user("b", 2, 100*coin)
	p := newPair(w, "pair", a, b, 30*coin, 20*coin, 5)
	w.do(a, p.open())
	return w, p
}

func (p *pair) split(a types.Amount) []*btcwire.TxOut {
	return []*btcwire.TxOut{toAccount(p.a, a), toAccount(p.b, 50*coin-a)}
}

func TestOpenContract(t *testing.T) {
	w := newWorld(t, 2)
	a, b := w.user("a", 1, 100*coin), w.user("b", 2, 100*coin)
	p := newPair(w, "pair", a, b, 30*coin, 20*coin, 5)
	before := [2]types.Amount{w.balance(a), w.balance(b)}
	o := p.open()
	if total, err := p.body.Capacity(); err != nil || total != 50*coin {
		t.Fatal(total, err)
	}
	w.do(a, o)
	if got := before[0] - w.balance(a); got != 30*coin+Fee(a, o) {
		t.Fatalf("submitter paid %s", got)
	}
	if got := before[1] - w.balance(b); got != 20*coin {
		t.Fatalf("funder paid %s", got)
	}
	c, err := w.s.Contract(p.id)
	if err != nil || c.Capacity != 50*coin || c.Window != 5 || c.OpenedAt != w.s.Height() || c.ScriptHash != types.SHA256(p.script) {
		t.Fatalf("%+v %v", c, err)
	}
	if got := find[ContractOpened](w.events); len(got) != 1 || got[0].ID != p.id {
		t.Fatalf("%+v", w.events)
	}
	w.refuse(CodeContractExists, a, o)
	// Somebody else may submit what two have agreed on.
	third := w.user("third", 1, 10*coin)
	q := newPair(w, "other", a, b, coin, 2*coin, 5)
	q.a = third
	w.do(third, q.open())
}

func TestOpenContractRefused(t *testing.T) {
	for name, c := range map[string]struct {
		code   uint32
		change func(w *world, p *pair, o *OpenContract)
	}{
		"expired":         {CodeExpired, func(w *world, p *pair, o *OpenContract) { o.ValidUntil = w.s.Height() }},
		"funder too poor": {CodeBalance, func(w *world, p *pair, o *OpenContract) { o.Funders[1].Amount = 1000 * coin }},
		"sender too poor": {CodeBalance, func(w *world, p *pair, o *OpenContract) { o.Funders[0].Amount = 1000 * coin }},
		"unknown funder":  {CodeTargetAccount, func(w *world, p *pair, o *OpenContract) { o.Funders[1].Account.User = 99 }},
		"another ledger": {CodeFunderSignature, func(w *world, p *pair, o *OpenContract) {
			o.Signatures[0] = o.SignAsFunder(w.secrets[p.b], types.Hash{})
		}},
		"somebody else's": {CodeFunderSignature, func(w *world, p *pair, o *OpenContract) {
			o.Signatures[0] = o.SignAsFunder(w.secrets[p.a], w.s.Params().Genesis)
		}},
		"changed contract": {CodeFunderSignature, func(w *world, p *pair, o *OpenContract) { o.Window++ }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 2)
			a, b := w.user("a", 1, 100*coin), w.user("b", 2, 100*coin)
			p := newPair(w, "pair", a, b, 30*coin, 20*coin, 5)
			w.secrets[types.AccountID{Node: 2, User: 99}] = secretOf("nobody")
			o := p.open()
			c.change(w, p, &o)
			if name != "another ledger" && name != "somebody else's" && name != "changed contract" {
				o.Signatures[0] = o.SignAsFunder(w.secrets[o.Funders[1].Account], w.s.Params().Genesis)
			}
			before := w.balance(b)
			w.refuse(c.code, a, o)
			if w.balance(b) != before {
				t.Fatal("the other funder was charged")
			}
		})
	}
}

func TestContractTerms(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.user("a", 1, 100*coin), w.user("b", 1, 100*coin)
	good := newPair(w, "pair", a, b, coin, coin, 5).body
	for name, c := range map[string]struct {
		code   uint32
		change func(b *ContractBody)
	}{
		"no funders":   {CodeLength, func(b *ContractBody) { b.Funders = nil }},
		"nine funders": {CodeLength, func(b *ContractBody) { b.Funders = make([]Funder, 9) }},
		"twice":        {CodeDuplicate, func(b *ContractBody) { b.Funders[1].Account = b.Funders[0].Account }},
		"zero":         {CodeNotPositive, func(b *ContractBody) { b.Funders[1].Amount = 0 }},
		"negative":     {CodeNotPositive, func(b *ContractBody) { b.Funders[1].Amount = -1 }},
		"overflow":     {CodeBalance, func(b *ContractBody) { b.Funders[1].Amount = Supply }},
		"no window":    {CodeContractTerms, func(b *ContractBody) { b.Window = 0 }},
		"long window":  {CodeContractTerms, func(b *ContractBody) { b.Window = MaxWindow + 1 }},
		"not a key":    {CodeContractTerms, func(b *ContractBody) { b.CloseKeys[1] = types.PubKey{5} }},
	} {
		body := good
		body.Funders = append([]Funder(nil), good.Funders...)
		c.change(&body)
		if r := body.check(); r == nil || r.Code != c.code {
			t.Errorf("%s: %v, want code %d", name, r, c.code)
		}
		if _, err := body.Capacity(); err == nil {
			t.Errorf("%s: has a capacity", name)
		}
	}
	if good.ID(types.Hash{1}) == good.ID(types.Hash{2}) {
		t.Error("the id does not depend on the ledger")
	}
}

func TestFinalClose(t *testing.T) {
	w, p := opened(t)
	before := [2]types.Amount{w.balance(p.a), w.balance(p.b)}
	s := p.spend(p.final(p.split(10*coin)...), nil)
	w.do(p.b, s)
	if w.balance(p.a) != before[0]+10*coin || w.balance(p.b) != before[1]+40*coin-Fee(p.b, s) {
		t.Fatal("wrong split")
	}
	got := find[ContractSettled](w.events)
	if len(got) != 1 || !got[0].Final || got[0].TxID != txID(s.msg) || !bytes.Equal(got[0].Refund, s.Tx) {
		t.Fatalf("%+v", w.events)
	}
	if d := find[Deposited](w.events); len(d) != 2 || d[0].Message != got[0].TxID || d[0].To != p.a {
		t.Fatalf("%+v", d)
	}
	w.refuse(CodeSettled, p.a, p.spend(p.final(p.split(20*coin)...), nil))
}

// TestDisputeWindow: an old version is posted, superseded, superseded again; the best one settles at the deadline.
func TestDisputeWindow(t *testing.T) {
	w, p := opened(t)
	old := p.spend(p.refund(100, 3, p.split(45*coin)...), p.closer[0])
	w.do(p.a, old)
	posted := w.s.Height()
	got := find[ContractPosted](w.events)
	if len(got) != 1 || got[0].Deadline != posted+5 || got[0].Epoch != 100 || got[0].Version != 3 {
		t.Fatalf("%+v", got)
	}
	w.refuse(CodeVersion, p.a, p.spend(p.refund(100, 3, p.split(46*coin)...), nil))
	w.refuse(CodeVersion, p.a, p.spend(p.refund(99, 1000, p.split(46*coin)...), nil))
	w.do(p.b, p.spend(p.refund(100, 4, p.split(20*coin)...), nil)) // no close signature needed
	if got := find[ContractPosted](w.events); len(got) != 1 || got[0].Deadline != posted+5 {
		t.Fatalf("a replacement moved the deadline: %+v", got)
	}
	before := [2]types.Amount{w.balance(p.a), w.balance(p.b)}
	best := p.spend(p.refund(101, 1, p.split(7*coin)...), nil)
	w.queue(admin(1), best) // in the last block of the window; anybody may
	if d := w.mine()[0]; d.Code != CodeOK || w.s.Height() != posted+4 {
		t.Fatal(d.Text, w.s.Height())
	}
	if len(find[ContractSettled](w.events)) != 0 {
		t.Fatal("settled too early")
	}
	w.mine()
	done := find[ContractSettled](w.events)
	if len(done) != 1 || done[0].Epoch != 101 || done[0].Version != 1 || done[0].Final {
		t.Fatalf("%+v", w.events)
	}
	if w.balance(p.a) != before[0]+7*coin || w.balance(p.b) != before[1]+43*coin {
		t.Fatal("wrong split")
	}
	w.refuse(CodeSettled, p.b, p.spend(p.refund(200, 1, p.split(coin)...), p.closer[1]))
}

// TestReplaceAtDeadline: the deadline's own block still takes a replacement.
func TestReplaceAtDeadline(t *testing.T) {
	w, p := opened(t)
	w.do(p.a, p.spend(p.refund(100, 1, p.split(45*coin)...), p.closer[0]))
	for range 4 {
		w.mine()
	}
	w.do(p.b, p.spend(p.refund(100, 2, p.split(5*coin)...), nil))
	if done := find[ContractSettled](w.events); len(done) != 1 || done[0].Version != 2 {
		t.Fatalf("%+v", w.events)
	}
}

// TestFinalInWindow: an agreed close ends a dispute at once, and the deadline does nothing more.
func TestFinalInWindow(t *testing.T) {
	w, p := opened(t)
	w.do(p.a, p.spend(p.refund(100, 1, p.split(45*coin)...), p.closer[0]))
	w.do(p.a, p.spend(p.final(p.split(25*coin)...), nil))
	for range 6 {
		if w.mine(); len(w.events) != 0 {
			t.Fatalf("%+v", w.events)
		}
	}
}

func TestSpendRefused(t *testing.T) {
	soon := func(w *world) uint32 { return uint32((w.s.Time() + MaxEpochAhead) / 60) }
	for name, c := range map[string]struct {
		code uint32
		make func(w *world, p *pair) *Spend
	}{
		"no close signature": {CodeCloseSignature, func(w *world, p *pair) *Spend { return p.spend(p.refund(100, 1, p.split(coin)...), nil) }},
		"foreign close key":  {CodeCloseSignature, func(w *world, p *pair) *Spend { return p.spend(p.refund(100, 1, p.split(coin)...), secp("thief")) }},
		"epoch in future":    {CodeEpoch, func(w *world, p *pair) *Spend { return p.spend(p.refund(soon(w)+2, 1, p.split(coin)...), p.closer[0]) }},
		"too much":           {CodeConservation, func(w *world, p *pair) *Spend { return p.spend(p.final(toAccount(p.a, 51*coin)), nil) }},
		"too little":         {CodeConservation, func(w *world, p *pair) *Spend { return p.spend(p.final(toAccount(p.a, 50*coin-1)), nil) }},
		"unknown target": {CodeTargetAccount, func(w *world, p *pair) *Spend {
			return p.spend(p.final(toAccount(types.AccountID{Node: 1, User: 77}, 50*coin)), nil)
		}},
		"one signature": {CodeScript, func(w *world, p *pair) *Spend {
			p.fund[1] = p.fund[0]
			return p.spend(p.final(p.split(coin)...), nil)
		}},
		"changed after signing": {CodeScript, func(w *world, p *pair) *Spend {
			tx := p.seal(p.final(p.split(coin)...))
			tx.TxOut[0].Value, tx.TxOut[1].Value = tx.TxOut[1].Value, tx.TxOut[0].Value
			return rawSpend(p.w.t, tx, p.id, nil)
		}},
		"other script": {CodeScript, func(w *world, p *pair) *Spend {
			tx := p.seal(p.final(p.split(coin)...))
			tx.TxIn[0].Witness[3] = []byte{txscript.OP_TRUE}
			return rawSpend(p.w.t, tx, p.id, nil)
		}},
		"bit 31 clear": {CodeMalformedSpend, func(w *world, p *pair) *Spend {
			tx := p.refund(100, 1, p.split(coin)...)
			tx.TxIn[0].Sequence = 7
			return p.spend(tx, p.closer[0])
		}},
		"lock time": {CodeLockTime, func(w *world, p *pair) *Spend {
			tx := p.refund(100, 1, p.split(coin)...)
			tx.LockTime = uint32(w.s.Height() + 1)
			return p.spend(tx, p.closer[0])
		}},
		"lock time in seconds": {CodeLockTime, func(w *world, p *pair) *Spend {
			tx := p.refund(100, 1, p.split(coin)...)
			tx.LockTime = uint32(w.s.Time() + 1000)
			return p.spend(tx, p.closer[0])
		}},
		"unknown contract": {CodeUnknownInput, func(w *world, p *pair) *Spend {
			tx := p.seal(p.final(p.split(coin)...))
			tx.TxIn[0].PreviousOutPoint.Hash[0] ^= 1
			return rawSpend(p.w.t, tx, p.id, nil)
		}},
		"wrong index": {CodeUnknownInput, func(w *world, p *pair) *Spend {
			tx := p.seal(p.final(p.split(coin)...))
			tx.TxIn[0].PreviousOutPoint.Index = 1
			return rawSpend(p.w.t, tx, p.id, nil)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w, p := opened(t)
			w.refuse(c.code, p.a, c.make(w, p))
			if got, err := w.s.Contract(p.id); err != nil || got.Posted != nil || got.Settled != nil {
				t.Fatal("the contract changed")
			}
		})
	}
}

// TestLockTimePasses: what nLockTime held back is accepted in the first block above it, and a final one at any time.
func TestLockTimePasses(t *testing.T) {
	w, p := opened(t)
	tx := p.refund(100, 1, p.split(coin)...)
	tx.LockTime = uint32(w.s.Height() + 2)
	s := p.spend(tx, p.closer[1])
	w.refuse(CodeLockTime, p.a, s)
	w.refuse(CodeLockTime, p.a, s)
	w.do(p.a, s)
	final := p.final(p.split(coin)...)
	final.LockTime = uint32(w.s.Height() + 1000)
	w.do(p.a, p.spend(final, nil))
}

func TestSpendForm(t *testing.T) {
	_, p := opened(t)
	for name, c := range map[string]struct {
		code   uint32
		change func(tx *btcwire.MsgTx)
	}{
		"version 1":        {CodeMalformedSpend, func(tx *btcwire.MsgTx) { tx.Version = 1 }},
		"negative version": {CodeMalformedSpend, func(tx *btcwire.MsgTx) { tx.Version = -5 }},
		"no outputs":       {CodeMalformedSpend, func(tx *btcwire.MsgTx) { tx.TxOut = nil }},
		"signature script": {CodeMalformedSpend, func(tx *btcwire.MsgTx) { tx.TxIn[0].SignatureScript = []byte{1} }},
		"same input twice": {CodeDuplicate, func(tx *btcwire.MsgTx) { tx.TxIn = append(tx.TxIn, tx.TxIn[0]) }},
		"free script":      {CodeMalformedSpend, func(tx *btcwire.MsgTx) { tx.TxOut[0].PkScript = []byte{txscript.OP_TRUE} }},
		"short account":    {CodeMalformedSpend, func(tx *btcwire.MsgTx) { tx.TxOut[0].PkScript = tx.TxOut[0].PkScript[:7] }},
		"zero value":       {CodeNotPositive, func(tx *btcwire.MsgTx) { tx.TxOut[0].Value = 0 }},
		"negative value":   {CodeNotPositive, func(tx *btcwire.MsgTx) { tx.TxOut[0].Value = -1 }},
		"overflow":         {CodeConservation, func(tx *btcwire.MsgTx) { tx.TxOut[0].Value = int64(Supply); tx.TxOut[1].Value = int64(Supply) }},
		"65 inputs": {CodeMalformedSpend, func(tx *btcwire.MsgTx) {
			for i := range 64 {
				in := *tx.TxIn[0]
				in.PreviousOutPoint.Index = uint32(i + 1)
				tx.TxIn = append(tx.TxIn, &in)
			}
		}},
		"1025 outputs": {CodeMalformedSpend, func(tx *btcwire.MsgTx) {
			for range 1023 {
				tx.TxOut = append(tx.TxOut, tx.TxOut[0])
			}
		}},
		"too long": {CodeLength, func(tx *btcwire.MsgTx) { tx.TxIn[0].Witness = append(tx.TxIn[0].Witness, make([]byte, MaxSpend)) }},
	} {
		tx := p.seal(p.final(p.split(coin)...))
		c.change(tx)
		_, err := NewSpend(htlc.EncodeTx(tx), nil)
		if r, _ := err.(*Refusal); r == nil || r.Code != c.code {
			t.Errorf("%s: %v, want code %d", name, err, c.code)
		}
	}
	good := htlc.EncodeTx(p.seal(p.final(p.split(coin)...)))
	if _, err := DecodeMsgTx(append(good, 0)); err == nil {
		t.Error("trailing byte accepted")
	}
	var bare bytes.Buffer
	tx := p.final(p.split(coin)...)
	if err := tx.SerializeNoWitness(&bare); err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeMsgTx(bare.Bytes()); err == nil {
		t.Error("a transaction without witness form accepted")
	}
}
