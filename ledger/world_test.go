package ledger

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"
	"github.com/btcsuite/btcd/txscript/v2"
	btcwire "github.com/btcsuite/btcd/wire/v2"

	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
)

const start types.Time = 1_800_000_000

// tb is what *testing.T and *rapid.T have in common.
type tb interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func secretOf(name string) [32]byte { return BrainKey(name) }

func testGenesis(nodes int) Genesis {
	g := Genesis{ChainID: "test", Time: start}
	for i := range nodes {
		g.Nodes = append(g.Nodes, GenesisNode{
			PublicKey: PublicKey(nodeSecret(uint16(i + 1))),
			Account0:  PublicKey(secretOf(fmt.Sprint("admin ", i+1))),
		})
	}
	return g
}

// world is a ledger with users whose secrets the test knows.
type world struct {
	t       tb
	s       *State
	secrets map[types.AccountID][32]byte
	// queued are the transactions of the next block; ahead the chains of their senders.
	queued [][]byte
	// messages go before them.
	messages [][]byte
	ahead    map[types.AccountID]Account
	events   []Event
}

func admin(node uint16) types.AccountID { return types.AccountID{Node: node} }

func nodeSecret(node uint16) [32]byte { return secretOf(fmt.Sprint("node ", node)) }

func newWorld(t tb, nodes int) *world { return worldOf(t, testGenesis(nodes)) }

func worldOf(t tb, g Genesis) *world {
	s, err := NewState(g)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, s: s, secrets: map[types.AccountID][32]byte{}, ahead: map[types.AccountID]Account{}}
	for i := range g.Nodes {
		w.secrets[admin(uint16(i+1))] = secretOf(fmt.Sprint("admin ", i+1))
	}
	return w
}

func (w *world) head(from types.AccountID) (Head, types.Hash) {
	a, ok := w.ahead[from]
	if !ok {
		var err error
		if a, err = w.s.Account(from); err != nil {
			a = Account{ID: from, Msid: 1}
		}
	}
	return Head{From: from, Msid: a.Msid, Time: w.s.Time()}, a.Hash
}

// sign makes the sender's next transaction.
func (w *world) sign(from types.AccountID, b Body) []byte {
	w.t.Helper()
	h, prev := w.head(from)
	raw, next, err := Sign(w.secrets[from], prev, h, b)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ahead[from] = Account{ID: from, Msid: h.Msid + 1, Hash: next}
	return raw
}

func (w *world) queue(from types.AccountID, b Body) {
	w.t.Helper()
	w.queued = append(w.queued, w.sign(from, b))
}

func direct(txs [][]byte) (out [][]byte) {
	for _, tx := range txs {
		out = append(out, Direct(tx))
	}
	return out
}

// block is what is queued as the transactions of a block.
func (w *world) block() [][]byte { return append(slices.Clone(w.messages), direct(w.queued)...) }

// mine applies what is queued as the next block.
func (w *world) mine() []TxDone {
	w.t.Helper()
	out := w.s.Apply(w.s.Height()+1, w.s.Time()+1, w.block())
	slices.SortFunc(out.Results, func(a, b TxDone) int { return cmp.Compare(a.Place.Position, b.Place.Position) }) // the malformed are refused before the others run
	w.queued, w.messages, w.events = nil, nil, out.Events
	clear(w.ahead)
	if err := w.s.Verify(); err != nil {
		w.t.Fatal(err)
	}
	return out.Results
}

// do executes one transaction in a block of its own and wants it accepted.
func (w *world) do(from types.AccountID, b Body) {
	w.t.Helper()
	w.refuse(CodeOK, from, b)
}

// refuse executes one transaction in a block of its own and wants this code; Check must say the same before.
func (w *world) refuse(code uint32, from types.AccountID, b Body) {
	w.t.Helper()
	raw := w.sign(from, b)
	got := CodeOK
	var r *Refusal
	if err := w.s.Check(raw); errors.As(err, &r) {
		got = r.Code
	}
	if got != code {
		w.t.Fatalf("Check says %d (%v), want %d", got, r, code)
	}
	w.queued = append(w.queued, raw)
	if done := w.mine()[0]; done.Code != code {
		w.t.Fatalf("Apply says %d %q, want %d", done.Code, done.Text, code)
	}
}

func (w *world) balance(id types.AccountID) types.Amount {
	a, err := w.s.Account(id)
	if err != nil {
		w.t.Fatal(err)
	}
	return a.Balance
}

// user creates an account with money.
func (w *world) user(name string, node uint16, money types.Amount) types.AccountID {
	w.t.Helper()
	secret := secretOf(name)
	w.do(admin(node), CreateAccount{Node: node, PublicKey: PublicKey(secret), Proof: KeyProof(secret)})
	id := types.AccountID{Node: node, User: uint32(w.s.Accounts(node) - 1)}
	w.secrets[id] = secret
	w.do(admin(node), SendOne{To: id, Amount: money - NewAccountDeposit})
	return id
}

// secp derives a secp256k1 key from a name.
func secp(name string) *btcec.PrivateKey {
	b := sha256.Sum256([]byte(name))
	k, _ := btcec.PrivKeyFromBytes(b[:])
	return k
}

func pub(k *btcec.PrivateKey) types.PubKey { return types.PubKey(k.PubKey().SerializeCompressed()) }

// pair is a contract between two accounts and the keys to it.
type pair struct {
	w      *world
	a, b   types.AccountID
	body   ContractBody
	script []byte
	id     types.ChannelID
	fund   [2]*btcec.PrivateKey
	closer [2]*btcec.PrivateKey
}

func newPair(w *world, name string, a, b types.AccountID, mine, theirs types.Amount, window uint32) *pair {
	p := &pair{w: w, a: a, b: b}
	for i := range 2 {
		p.fund[i], p.closer[i] = secp(fmt.Sprint(name, "fund", i)), secp(fmt.Sprint(name, "close", i))
	}
	p.script = script2of2(w.t, p.fund)
	p.body = ContractBody{
		Funders: []Funder{{a, mine}, {b, theirs}}, ScriptHash: types.SHA256(p.script),
		CloseKeys: [2]types.PubKey{pub(p.closer[0]), pub(p.closer[1])},
		Window:    window, ValidUntil: w.s.Height() + 100, Salt: types.SHA256([]byte(name)),
	}
	p.id = p.body.ID(w.s.Params().Genesis)
	return p
}

func script2of2(t tb, keys [2]*btcec.PrivateKey) []byte {
	t.Helper()
	s, err := txscript.NewScriptBuilder().AddOp(txscript.OP_2).
		AddData(keys[0].PubKey().SerializeCompressed()).AddData(keys[1].PubKey().SerializeCompressed()).
		AddOp(txscript.OP_2).AddOp(txscript.OP_CHECKMULTISIG).Script()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// open is the transaction of a as submitter with b's consent.
func (p *pair) open() OpenContract {
	g := p.w.s.Params().Genesis
	o := OpenContract{ContractBody: p.body}
	for _, f := range p.body.Funders {
		if f.Account != p.a {
			o.Signatures = append(o.Signatures, p.body.SignAsFunder(p.w.secrets[f.Account], g))
		}
	}
	return o
}

func toAccount(id types.AccountID, a types.Amount) *btcwire.TxOut {
	return btcwire.NewTxOut(int64(a), htlc.AccountScript(id))
}

func toScript(script []byte, a types.Amount) *btcwire.TxOut {
	return btcwire.NewTxOut(int64(a), htlc.P2WSH(types.SHA256(script)))
}

// refund is a transaction with this place in the order of versions.
func (p *pair) refund(epoch, version uint32, outs ...*btcwire.TxOut) *btcwire.MsgTx {
	tx := btcwire.NewMsgTx(int32(epoch))
	in := btcwire.NewTxIn(&btcwire.OutPoint{Hash: htlc.OutPoint(p.id, 0).Hash}, nil, nil)
	in.Sequence = 1<<31 | version
	tx.AddTxIn(in)
	for _, o := range outs {
		tx.AddTxOut(o)
	}
	return tx
}

// final is an agreed close.
func (p *pair) final(outs ...*btcwire.TxOut) *btcwire.MsgTx {
	return p.refund(2, 0x7fffffff, outs...)
}

// seal signs a refund with both keys.
func (p *pair) seal(tx *btcwire.MsgTx) *btcwire.MsgTx {
	capacity := int64(p.body.capacity())
	fetch := txscript.NewCannedPrevOutputFetcher(htlc.P2WSH(p.body.ScriptHash), capacity)
	hashes := txscript.NewTxSigHashes(tx, fetch)
	wit := btcwire.TxWitness{nil}
	for _, k := range p.fund {
		sig, err := txscript.RawTxInWitnessSignature(tx, hashes, 0, capacity, p.script, txscript.SigHashAll, k)
		if err != nil {
			p.w.t.Fatal(err)
		}
		wit = append(wit, sig)
	}
	tx.TxIn[0].Witness = append(wit, p.script)
	return tx
}

func (p *pair) spend(tx *btcwire.MsgTx, closer *btcec.PrivateKey) *Spend {
	return rawSpend(p.w.t, p.seal(tx), p.id, closer)
}

func rawSpend(t tb, tx *btcwire.MsgTx, id types.ChannelID, closer *btcec.PrivateKey) *Spend {
	t.Helper()
	var sig *[64]byte
	if closer != nil {
		s := SignClose(closer, id)
		sig = &s
	}
	s, err := NewSpend(htlc.EncodeTx(tx), sig)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// cltvScript lets a key spend after a height.
func cltvScript(t tb, k *btcec.PrivateKey, height int64) []byte {
	t.Helper()
	s, err := txscript.NewScriptBuilder().AddInt64(height).AddOp(txscript.OP_CHECKLOCKTIMEVERIFY).AddOp(txscript.OP_DROP).
		AddData(k.PubKey().SerializeCompressed()).AddOp(txscript.OP_CHECKSIG).Script()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// spendScript signs input i of tx, a P2WSH output with this script.
func signInput(t tb, tx *btcwire.MsgTx, i int, script []byte, value types.Amount, fetch txscript.PrevOutputFetcher, k *btcec.PrivateKey) {
	t.Helper()
	hashes := txscript.NewTxSigHashes(tx, fetch)
	h, err := txscript.CalcWitnessSigHash(script, hashes, txscript.SigHashAll, tx, i, int64(value))
	if err != nil {
		t.Fatal(err)
	}
	sig := append(ecdsa.Sign(k, h).Serialize(), byte(txscript.SigHashAll))
	tx.TxIn[i].Witness = btcwire.TxWitness{sig, script}
}

func find[E Event](events []Event) (found []E) {
	for _, e := range events {
		if x, ok := e.(E); ok {
			found = append(found, x)
		}
	}
	return found
}

// contents is the state root without what every block changes: its height and what it carried.
func contents(s *State) types.Hash {
	s.rehash()
	p := s.parts
	p[partHead], p[partTransactions] = types.Hash{}, types.Hash{}
	return p.Root()
}
