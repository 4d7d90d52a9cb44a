package channel_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/btcsuite/btcd/btcec/v2"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// tb is what *testing.T, *testing.F, *testing.B and *rapid.T have in common.
type tb interface {
	Helper()
	Fatalf(string, ...any)
	Logf(string, ...any)
}

const genesisTime types.Time = 1_800_000_000

var testTiming = types.Timing{Inclusion: 2, Downtime: 3, Window: 8}

// world is a real ledger with one rich account that submits everything, so that the parties' accounts show what contracts paid.
type world struct {
	t       tb
	ledger  *ledger.State
	bank    types.AccountID
	secrets map[types.AccountID][32]byte
	pending []chainTx
	events  []ledger.Event // of the last block
	// delay says how many blocks later a submission gets in.
	delay   func(by *party) types.Height
	refused []string // what the ledger said of refused transactions
}

type chainTx struct {
	at   types.Height
	body ledger.Body
	key  string
	by   *party
}

func secret(name string) [32]byte { return ledger.BrainKey(name) }

func newWorld(t tb) *world {
	t.Helper()
	s, err := ledger.NewState(ledger.Genesis{ChainID: "test", Time: genesisTime, Nodes: []ledger.GenesisNode{{
		PublicKey: ledger.PublicKey(secret("node")), Account0: ledger.PublicKey(secret("bank"))}}})
	if err != nil {
		t.Fatalf("ledger: %v", err)
	}
	w := &world{t: t, ledger: s, bank: types.AccountID{Node: 1}, secrets: map[types.AccountID][32]byte{{Node: 1}: secret("bank")}}
	return w
}

// apply makes a block of transactions of the bank.
func (w *world) apply(bodies ...ledger.Body) []ledger.TxDone {
	w.t.Helper()
	acc, err := w.ledger.Account(w.bank)
	if err != nil {
		w.t.Fatalf("bank: %v", err)
	}
	msid, prev := acc.Msid, acc.Hash
	var txs [][]byte
	for _, b := range bodies {
		raw, next, err := ledger.Sign(w.secrets[w.bank], prev, ledger.Head{From: w.bank, Msid: msid, Time: w.ledger.Time()}, b)
		if err != nil {
			w.t.Fatalf("sign %T: %v", b, err)
		}
		txs, prev, msid = append(txs, ledger.Direct(raw)), next, msid+1
	}
	out := w.ledger.Apply(w.ledger.Height()+1, w.ledger.Time()+1, txs)
	w.events = out.Events
	return out.Results
}

func (w *world) account(name string, money types.Amount) types.AccountID {
	w.t.Helper()
	id := types.AccountID{Node: 1, User: uint32(w.ledger.Accounts(1))}
	w.secrets[id] = secret(name)
	for _, b := range []ledger.Body{
		ledger.CreateAccount{Node: 1, PublicKey: ledger.PublicKey(secret(name)), Proof: ledger.KeyProof(secret(name))},
		ledger.SendOne{To: id, Amount: money},
	} {
		if r := w.apply(b)[0]; r.Code != ledger.CodeOK {
			w.t.Fatalf("account %s: %s", name, r.Text)
		}
	}
	return id
}

func (w *world) balance(id types.AccountID) types.Amount {
	a, err := w.ledger.Account(id)
	if err != nil {
		w.t.Fatalf("balance: %v", err)
	}
	return a.Balance
}

// mine makes a block of what is due and feeds it to everybody awake.
func (w *world) mine(parties ...*party) {
	w.t.Helper()
	var now, later []chainTx
	for _, tx := range w.pending {
		if tx.at <= w.ledger.Height()+1 {
			now = append(now, tx)
		} else {
			later = append(later, tx)
		}
	}
	w.pending = later
	bodies := make([]ledger.Body, len(now))
	for i := range now {
		bodies[i] = now[i].body
	}
	for i, r := range w.apply(bodies...) {
		if r.Code != ledger.CodeOK {
			w.refused = append(w.refused, fmt.Sprintf("%s: %s", now[i].by.name, r.Text))
		}
	}
	for _, p := range parties {
		p.missed = append(p.missed, w.events)
		p.heights = append(p.heights, w.ledger.Height())
		if !p.asleep {
			p.catchUp()
		}
	}
}

// party is one side of one channel: the automaton and a caller that does what a daemon does.
type party struct {
	w       *world
	name    string
	account types.AccountID
	keys    channel.Keys
	peer    *party

	s       channel.State
	disk    []byte
	outbox  map[uint32][]byte
	inbox   [][]byte
	linked  bool
	asleep  bool
	missed  [][]ledger.Event
	heights []types.Height
	height  types.Height
	log     []string         // what happened, for scenarios
	notices []channel.Notice // since the last take
	history []channel.Signed // every version ever held: what a cheater could publish
	onNote  func(channel.Notice)
	renewAt uint32 // version number at which a new epoch begins; 0: as it is meant
}

func testKeys(name string) channel.Keys {
	k := func(what string) *btcec.PrivateKey {
		h := types.SHA256([]byte(name + what))
		priv, _ := btcec.PrivKeyFromBytes(h[:])
		return priv
	}
	return channel.Keys{Fund: k("fund"), Close: k("close"), Lock: k("lock")}
}

func pub(k *btcec.PrivateKey) types.PubKey { return types.PubKey(k.PubKey().SerializeCompressed()) }

func (w *world) party(name string, money types.Amount) *party {
	return &party{w: w, name: name, account: w.account(name, money), keys: testKeys(name), outbox: map[uint32][]byte{}, linked: true}
}

func (p *party) partyKeys() wire.PartyKeys {
	return wire.PartyKeys{Fund: pub(p.keys.Fund), Close: pub(p.keys.Close), Lock: pub(p.keys.Lock), Account: p.account}
}

func (p *party) env() channel.Env {
	genesis := p.w.ledger.Params().Genesis
	return channel.Env{Height: p.height, Now: genesisTime + types.Time(p.height), Keys: p.keys, Genesis: genesis, RenewAt: p.renewAt,
		FundSign: func(b ledger.ContractBody) [64]byte { return b.SignAsFunder(p.w.secrets[p.account], genesis) }}
}

// open runs an opening up to the first messages; deliver and mine finish it.
func open(a, b *party, mine, theirs types.Amount, rules wire.Rules) {
	a.peer, b.peer = b, a
	a.height, b.height = a.w.ledger.Height(), a.w.ledger.Height()
	o := wire.Open{Temp: types.SHA256([]byte(a.name + b.name)), Mine: mine, Theirs: theirs, Timing: testTiming, Rules: rules, Keys: a.partyKeys(),
		ValidUntil: a.height + 100, Salt: types.SHA256([]byte("salt"))}
	s, fx, err := channel.NewOpening(types.NodeID(b.partyKeys().Fund), o, 7, a.env())
	if err != nil {
		a.w.t.Fatalf("NewOpening: %v", err)
	}
	a.carryOut(s, fx)
	msg := b.next().(*wire.Open)
	s, fx, err = channel.AcceptOpening(types.NodeID(a.partyKeys().Fund), msg, rules, b.partyKeys(), 8, b.env())
	if err != nil {
		a.w.t.Fatalf("AcceptOpening: %v", err)
	}
	b.carryOut(s, fx)
}

// ready opens a channel completely.
func ready(a, b *party, mine, theirs types.Amount, rules wire.Rules) {
	open(a, b, mine, theirs, rules)
	deliverAll(a, b)
	a.w.mine(a, b)
	deliverAll(a, b)
	if !a.s.Ready() || !b.s.Ready() {
		a.w.t.Fatalf("not ready: %s %s, refused %v", a.s.Phase, b.s.Phase, a.w.refused)
	}
	a.notices, b.notices = nil, nil
}

// step feeds one input and carries out the effects, in their order.
func (p *party) step(in channel.Input) error {
	before := p.s.Encode()
	next, fx, err := channel.Step(p.s, in, p.env())
	if !bytes.Equal(before, p.s.Encode()) {
		p.w.t.Fatalf("%s: Step changed the state it was given (%T)", p.name, in)
	}
	if err != nil {
		if fx.Save || len(fx.Send)+len(fx.Chain)+len(fx.Notices)+len(fx.Outbox) > 0 {
			p.w.t.Fatalf("%s: effects beside error %v", p.name, err)
		}
		return err
	}
	p.carryOut(next, fx)
	return nil
}

func (p *party) carryOut(next channel.State, fx channel.Effects) {
	if fx.Save {
		p.disk = next.Encode()
		for _, u := range fx.Outbox {
			p.outbox[u.Version] = wire.Encode(u)
		}
	}
	for v := range p.outbox {
		if v <= fx.OutboxAcked {
			delete(p.outbox, v)
		}
	}
	if next.Held.Number > 0 && (len(p.history) == 0 || next.Held.Number != p.s.Held.Number || next.Held.Epoch != p.s.Held.Epoch) {
		p.history = append(p.history, next.Held)
	}
	p.s = next
	if fx.Resend > 0 {
		for _, v := range slices.Sorted(maps.Keys(p.outbox)) {
			if v >= fx.Resend {
				p.post(p.outbox[v])
			}
		}
	}
	for _, m := range fx.Send {
		p.mustBeSaved(m)
		p.log = append(p.log, "sends "+describe(m))
		p.post(wire.Encode(m))
	}
	for _, a := range fx.Chain {
		p.submit(a)
	}
	p.notices = append(p.notices, fx.Notices...)
	for _, n := range fx.Notices {
		p.log = append(p.log, describeNotice(n))
		if p.onNote != nil {
			p.onNote(n)
		}
	}
}

// mustBeSaved holds channels.md 2.3: what a signature or acknowledgement commits to is on disk before it is sent.
func (p *party) mustBeSaved(m wire.Message) {
	disk, err := channel.Decode(p.disk)
	if err != nil {
		p.w.t.Fatalf("%s: disk: %v", p.name, err)
	}
	ok := true
	switch m := m.(type) {
	case *wire.Update:
		ok = disk.Current.Number >= m.Version && p.outbox[m.Version] != nil
	case *wire.Ack:
		ok = disk.Held.Number >= m.Version
	case *wire.Yield:
		ok = disk.Turn >= m.Turn
	case *wire.CloseSign:
		ok = disk.Phase >= channel.PhaseFinishing
	case *wire.Resync:
		ok = disk.Offered == m.State.Epoch
	case *wire.Agree:
		ok = disk.Held.Epoch >= m.Epoch
	case *wire.OpenFund, *wire.OpenRefund:
		ok = disk.Held.Number >= 1
	}
	if !ok {
		p.w.t.Fatalf("%s: %s left before it was saved", p.name, describe(m))
	}
}

func (p *party) post(frame []byte) {
	if p.linked && p.peer.linked {
		p.peer.inbox = append(p.peer.inbox, frame)
	}
}

func (p *party) next() wire.Message {
	if len(p.inbox) == 0 {
		return nil
	}
	m, err := wire.Decode(p.inbox[0])
	if err != nil {
		p.w.t.Fatalf("%s: %v", p.name, err)
	}
	p.inbox = p.inbox[1:]
	return m
}

// deliver gives p its next message; false when there is none.
func (p *party) deliver() bool {
	m := p.next()
	if m == nil {
		return false
	}
	if err := p.step(channel.Message{Msg: m.(wire.ChannelMessage)}); err != nil && !errors.Is(err, channel.ErrIgnored) && !errors.Is(err, channel.ErrPhase) {
		p.w.t.Fatalf("%s: %s: %v", p.name, describe(m), err)
	}
	return true
}

func deliverAll(parties ...*party) {
	for again := true; again; {
		again = false
		for _, p := range parties {
			for !p.asleep && p.deliver() {
				again = true
			}
		}
	}
}

func (p *party) submit(a channel.ChainAction) {
	tx := chainTx{at: p.w.ledger.Height() + 1, by: p}
	if p.w.delay != nil {
		tx.at += p.w.delay(p)
	}
	switch a := a.(type) {
	case channel.OpenContract:
		tx.body, tx.key = ledger.OpenContract{ContractBody: a.Body, Signatures: a.FundSigs}, "open"+p.s.ID.String()
	case channel.Spend:
		var closeSig *[64]byte
		if len(a.CloseSig) > 0 {
			c := [64]byte(a.CloseSig)
			closeSig = &c
		}
		sp, err := ledger.NewSpend(a.Tx, closeSig)
		if err != nil {
			p.w.t.Fatalf("%s: %s: %v", p.name, a.Why, err)
		}
		tx.body, tx.key = sp, string(a.Tx)
		p.log = append(p.log, "submits "+a.Why)
	}
	for _, t := range p.w.pending {
		if t.key == tx.key && t.by == p {
			return // pending already
		}
	}
	p.w.pending = append(p.w.pending, tx)
}

func (p *party) catchUp() {
	for len(p.missed) > 0 {
		events := p.missed[0]
		p.height = p.heights[0]
		p.missed, p.heights = p.missed[1:], p.heights[1:]
		if p.disk == nil {
			continue
		}
		if err := p.step(channel.Block{Events: events}); err != nil {
			p.w.t.Fatalf("%s: block: %v", p.name, err)
		}
	}
}

// cut breaks the link and loses what is on it.
func cut(a, b *party) {
	a.linked, b.linked = false, false
	a.inbox, b.inbox = nil, nil
	for _, p := range []*party{a, b} {
		if err := p.step(channel.LinkDown{}); err != nil {
			a.w.t.Fatalf("link down: %v", err)
		}
	}
}

func join(a, b *party) {
	a.linked, b.linked = true, true
	for _, p := range []*party{a, b} {
		if err := p.step(channel.LinkUp{}); err != nil {
			a.w.t.Fatalf("link up: %v", err)
		}
	}
}

// crash throws away memory and the link.
func (p *party) crash() {
	s, err := channel.Decode(p.disk)
	if err != nil {
		p.w.t.Fatalf("%s: disk: %v", p.name, err)
	}
	if !bytes.Equal(s.Encode(), p.disk) {
		p.w.t.Fatalf("%s: decode and encode differ", p.name)
	}
	p.s = s
	cut(p, p.peer)
}

func describe(m wire.Message) string {
	switch m := m.(type) {
	case *wire.Update:
		s := fmt.Sprintf("update %d", m.Version)
		for _, op := range m.Ops {
			switch o := op.(type) {
			case wire.Pay:
				s += fmt.Sprintf(" pay %s", o.Amount)
			case wire.PayStream:
				s += fmt.Sprintf(" pay %d of a stream from %d", len(o.Amounts), o.First)
			case wire.AddLock:
				s += fmt.Sprintf(" lock %d of %s until %d", o.ID, o.Amount, o.Expiry)
			case wire.Settle:
				s += fmt.Sprintf(" settle %d", o.ID)
			case wire.GiveBack:
				s += fmt.Sprintf(" give back %d", o.ID)
			}
		}
		if m.Yield {
			s += " and yields"
		}
		return s
	case *wire.Ack:
		return fmt.Sprintf("ack %d", m.Version)
	case *wire.Yield:
		return fmt.Sprintf("yield %d at version %d", m.Turn, m.Version)
	case *wire.CloseSign:
		return fmt.Sprintf("final signature for version %d", m.Version)
	case *wire.Fault:
		return fmt.Sprintf("fault: %s", m.Text)
	case *wire.Resync:
		return fmt.Sprintf("resync of version %d", m.State.Version)
	case *wire.Reestablish:
		return fmt.Sprintf("reestablish at version %d turn %d restored %v answer %v", m.Version, m.Turn, m.Restored, m.Answer)
	}
	return fmt.Sprintf("%T", m)[6:]
}

func describeNotice(n channel.Notice) string {
	switch n := n.(type) {
	case channel.PhaseChanged:
		return fmt.Sprintf("is %s", n.To)
	case channel.Received:
		return fmt.Sprintf("received %s", n.Pay.Amount)
	case channel.Streamed:
		return fmt.Sprintf("received %d of a stream from %d", len(n.Amounts), n.First)
	case channel.LockAdded:
		return fmt.Sprintf("sees lock %d of %s", n.Lock.ID, n.Lock.Amount)
	case channel.LockSettled:
		return fmt.Sprintf("lock %d of side %d settled", n.Lock.ID, n.Lock.Funder)
	case channel.LockReturned:
		return fmt.Sprintf("lock %d of side %d returned", n.Lock.ID, n.Lock.Funder)
	case channel.PreimageKnown:
		return fmt.Sprintf("knows the preimage of lock %d", n.Lock.ID)
	case channel.Acked:
		return fmt.Sprintf("has ack %d", n.Version)
	case channel.Failed:
		return "failed: " + n.Text
	case channel.Closed:
		return fmt.Sprintf("closed, agreed %v", n.Agreed)
	case channel.Resynced:
		return fmt.Sprintf("is repaired, %d locks gone", len(n.Gone))
	}
	return fmt.Sprintf("%T", n)[8:]
}
