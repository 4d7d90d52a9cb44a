package ledger

import (
	"encoding/binary"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/ecdsa"

	"github.com/eschaton-network/chand/types"
)

const (
	// MaxFunders bounds the accounts that fund one contract; two are usual.
	MaxFunders = 8
	// MaxWindow is the longest dispute window in blocks: 12 days of seconds, as types.Timing allows.
	MaxWindow = 1 << 20
	// feeContract is what the ledger asks for keeping a contract (E17's maintenance of one account for one period).
	feeContract types.Amount = 1 << 20
	// feeByte is the fee of one byte of the new transaction types.
	feeByte types.Amount = 256
)

// Tags of what is hashed and signed for contracts.
const (
	tagContract = "chand/contract"
	tagFund     = "chand/fund"
	tagClose    = "chand/close"
)

// Funder is an account that locks an amount into a contract.
type Funder struct {
	Account types.AccountID
	Amount  types.Amount
}

// ContractBody is what both sides of a contract agree on. Its ID is known before anybody signs.
type ContractBody struct {
	// Funders are 1..MaxFunders different accounts; the capacity is the sum of their amounts.
	Funders []Funder
	// ScriptHash is SHA-256 of the witness script (2-of-2) that spends the contract.
	ScriptHash types.Hash
	// CloseKeys are the two keys (secp256k1) one of which must sign the start of a dispute window.
	CloseKeys [2]types.PubKey
	// Window is the dispute window in blocks, 1..MaxWindow.
	Window uint32
	// ValidUntil is the last height at which the contract can be opened; after it the funds are free for other use.
	ValidUntil types.Height
	// Salt makes the id unique; random.
	Salt [32]byte
}

// Encode writes the body as it is signed.
func (c ContractBody) Encode() []byte { return c.encode(nil) }

func (c ContractBody) encode(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, byte(len(c.Funders)))
	for _, f := range c.Funders {
		n := accountBytes(f.Account)
		b = append(b, n[:]...)
		b = le.AppendUint64(b, uint64(f.Amount))
	}
	b = append(b, c.ScriptHash[:]...)
	b = append(b, c.CloseKeys[0][:]...)
	b = append(b, c.CloseKeys[1][:]...)
	b = le.AppendUint32(b, c.Window)
	b = le.AppendUint32(b, uint32(c.ValidUntil))
	return append(b, c.Salt[:]...)
}

func readContractBody(r *reader) (c ContractBody) {
	if n := int(r.u8()); r.fits(n, 14) {
		c.Funders = make([]Funder, n)
		for i := range c.Funders {
			c.Funders[i] = Funder{Account: r.account(), Amount: r.amount()}
		}
	}
	c.ScriptHash = r.hash()
	c.CloseKeys = [2]types.PubKey{types.PubKey(r.take(33)), types.PubKey(r.take(33))}
	c.Window = r.u32()
	c.ValidUntil = types.Height(r.u32())
	c.Salt = r.hash()
	return c
}

// ID is the contract's id and the hash of its outpoint (index 0) on the ledger with this genesis hash.
func (c ContractBody) ID(genesis types.Hash) types.ChannelID {
	return types.TaggedHash(tagContract, genesis[:], c.Encode())
}

// Capacity is the sum of the amounts. The error is a *Refusal when the terms are such that no contract may have them.
func (c ContractBody) Capacity() (types.Amount, error) {
	if r := c.check(); r != nil {
		return 0, r
	}
	return c.capacity(), nil
}

func (c ContractBody) capacity() (sum types.Amount) {
	for _, f := range c.Funders {
		sum += f.Amount // check bounds the sum
	}
	return sum
}

func (c ContractBody) check() *Refusal {
	if len(c.Funders) == 0 || len(c.Funders) > MaxFunders {
		return refuse(CodeLength, "%d funders: want 1..%d", len(c.Funders), MaxFunders)
	}
	var sum types.Amount
	for i, f := range c.Funders {
		for _, g := range c.Funders[:i] {
			if f.Account == g.Account {
				return refuse(CodeDuplicate, "funder %s appears twice", f.Account)
			}
		}
		if f.Amount <= 0 {
			return refuse(CodeNotPositive, "amount of %s from %s must be positive", f.Amount, f.Account)
		}
		var ok bool
		if sum, ok = addUp(sum, f.Amount); !ok {
			return refuse(CodeBalance, "the amounts exceed the supply of %s coins", Supply)
		}
	}
	if c.Window == 0 || c.Window > MaxWindow {
		return refuse(CodeContractTerms, "dispute window of %d blocks: want 1..%d", c.Window, MaxWindow)
	}
	for _, k := range c.CloseKeys {
		if _, err := k.Parse(); err != nil {
			return refuse(CodeContractTerms, "close key %s: %v", k, err)
		}
	}
	return nil
}

// SignAsFunder is the consent of a funder that does not submit the transaction: its account's ed25519 signature over a
// tagged hash of genesis and body. It is good for this contract alone, until ValidUntil.
func (c ContractBody) SignAsFunder(secret [32]byte, genesis types.Hash) [64]byte {
	h := c.fundHash(genesis)
	return signBytes(secret, h[:])
}

func (c ContractBody) fundHash(genesis types.Hash) types.Hash {
	return types.TaggedHash(tagFund, genesis[:], c.Encode())
}

// OpenContract locks the funders' amounts. Signatures are SignAsFunder's of every funder but the submitter, in
// the order of the body.
type OpenContract struct {
	ContractBody
	Signatures [][64]byte
}

func (OpenContract) kind() byte { return TypeOpenContract }

func (o OpenContract) size() int {
	return headSize + len(o.Encode()) + sigSize + sigSize*len(o.Signatures)
}

func (o OpenContract) fee(types.AccountID) types.Amount {
	return feeContract + feeByte*types.Amount(o.size())
}

func (o OpenContract) cost(from types.AccountID) types.Amount {
	for _, f := range o.Funders {
		if f.Account == from {
			return f.Amount
		}
	}
	return 0
}

func (o OpenContract) signed(b []byte) []byte { return o.encode(b) }

func (o OpenContract) tail(b []byte) []byte {
	for _, s := range o.Signatures {
		b = append(b, s[:]...)
	}
	return b
}

func readOpenContract(r *reader, sig func()) Body {
	from := parseAccount(r.b[1:])
	o := OpenContract{ContractBody: readContractBody(r)}
	sig()
	if len(o.Funders) > MaxFunders { // check refuses it
		return o
	}
	for _, f := range o.Funders {
		if f.Account != from {
			o.Signatures = append(o.Signatures, r.signature())
		}
	}
	return o
}

func (o OpenContract) verify(x *exec) *Refusal {
	if x.height > o.ValidUntil {
		return refuse(CodeExpired, "the offer was valid until height %d and this is %d; the funds are free", o.ValidUntil, x.height)
	}
	if _, ok := x.s.contracts[o.ID(x.s.params.Genesis)]; ok {
		return refuse(CodeContractExists, "contract %s exists or existed", o.ID(x.s.params.Genesis))
	}
	sigs := o.Signatures
	fund := o.fundHash(x.s.params.Genesis)
	for _, f := range o.Funders {
		if f.Account == x.from {
			continue
		}
		rec := x.s.record(f.Account)
		if rec == nil {
			return refuse(CodeTargetAccount, "funder %s does not exist", f.Account)
		}
		if rec.Status&StatusDeleted != 0 || x.s.locked(f.Account, rec) {
			return refuse(CodeLocked, "funder %s is locked for retrieval or deleted; nothing was locked", f.Account)
		}
		if have := x.s.available(f.Account, rec); have < f.Amount {
			return refuse(CodeBalance, "funder %s can spend %s coins, the contract wants %s; nothing was locked", f.Account, have, f.Amount)
		}
		if len(sigs) == 0 || !x.s.verifier.verify(sigCheck{rec.PublicKey, fund[:], sigs[0]}) {
			return refuse(CodeFunderSignature, "the signature of funder %s does not fit this contract", f.Account)
		}
		sigs = sigs[1:]
	}
	if len(sigs) != 0 {
		return refuse(CodeLength, "%d signatures more than funders", len(sigs))
	}
	return nil
}

func (o OpenContract) apply(x *exec) {
	for _, f := range o.Funders {
		if f.Account != x.from {
			x.s.debit(f.Account, f.Amount)
		}
	}
	c := &Contract{
		ID: o.ID(x.s.params.Genesis), Capacity: o.capacity(), ScriptHash: o.ScriptHash,
		CloseKeys: o.CloseKeys, Window: o.Window, OpenedAt: x.height,
	}
	x.s.putContract(c)
	x.s.origins.add(c.OpenedAt)
	x.emit(ContractOpened{ID: c.ID})
}

// closeHash is what a close key signs: the contract's outpoint.
func closeHash(id types.ChannelID) types.Hash {
	return types.TaggedHash(tagClose, id[:], []byte{0, 0, 0, 0})
}

// SignClose is the consent of one party to start the dispute window of a contract: an ECDSA signature by its close key
// over a tagged hash of the outpoint, as r || s with low s.
func SignClose(key *btcec.PrivateKey, id types.ChannelID) [64]byte {
	h := closeHash(id)
	sig := ecdsa.Sign(key, h[:])
	r, s := sig.R(), sig.S()
	var b [64]byte
	r.PutBytesUnchecked(b[:32])
	s.PutBytesUnchecked(b[32:])
	return b
}

// verifyClose tells whether sig is SignClose's by one of the two keys.
func verifyClose(keys [2]types.PubKey, id types.ChannelID, sig [64]byte) bool {
	var r, s btcec.ModNScalar
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:]) || r.IsZero() || s.IsZero() || s.IsOverHalfOrder() {
		return false
	}
	h := closeHash(id)
	for _, k := range keys {
		if pub, err := k.Parse(); err == nil && ecdsa.NewSignature(&r, &s).Verify(h[:], pub) {
			return true
		}
	}
	return false
}
