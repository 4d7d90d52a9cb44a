package wire

import "github.com/eschaton-network/chand/types"

// Operation codes within an Update.
const (
	opPay      = 1
	opAddLock  = 2
	opSettle   = 3
	opGiveBack = 4
	opStream   = 5
	// minOp is the size of the smallest operation (GiveBack without a reason): it bounds the count before anything is allocated.
	minOp = 1 + 8 + 2
)

func (*Update) MessageType() uint16        { return TypeUpdate }
func (m *Update) Channel() types.ChannelID { return m.ID }

func (m *Update) size() int {
	n := 32 + 4 + 1 + 2 + 64
	for _, op := range m.Ops {
		n += OpSize(op)
	}
	return n
}

// OpSize is the number of bytes that an operation takes in an update.
func OpSize(op Op) int {
	switch o := op.(type) {
	case Pay:
		return 1 + 8 + 32 + 1
	case PayStream:
		n := 1 + 32 + 8 + 2
		for _, a := range o.Amounts {
			n += smallAmountSize(a)
		}
		return n
	case AddLock:
		return 1 + 3*8 + 32 + 4 + 2 + len(o.Onion) + 2 + len(o.Memo)
	case Settle:
		return 1 + 8 + 32
	case GiveBack:
		return 1 + 8 + 2 + len(o.Reason)
	}
	panic("wire: an operation must be a value of Pay, PayStream, AddLock, Settle or GiveBack")
}

func (m *Update) append(b []byte) []byte {
	b = append(b, m.ID[:]...)
	b = be.AppendUint32(b, m.Version)
	b = appendBool(b, m.Yield)
	b = be.AppendUint16(b, uint16(len(m.Ops)))
	for _, op := range m.Ops {
		b = appendOp(b, op)
	}
	return append(b, m.Sig[:]...)
}

func appendOp(b []byte, op Op) []byte {
	switch o := op.(type) {
	case Pay:
		b = appendAmount(append(b, opPay), o.Amount)
		return appendBool(append(b, o.Hash[:]...), o.Refund)
	case PayStream:
		b = append(append(b, opStream), o.Stream[:]...)
		b = be.AppendUint16(be.AppendUint64(b, o.First), uint16(len(o.Amounts)))
		for _, a := range o.Amounts {
			b = appendSmallAmount(b, a)
		}
		return b
	case AddLock:
		b = be.AppendUint64(append(b, opAddLock), o.ID)
		b = append(appendAmount(appendAmount(b, o.Amount), o.Reserve), o.Hash[:]...)
		b = be.AppendUint32(b, uint32(o.Expiry))
		return appendBytes(appendBytes(b, o.Onion), o.Memo)
	case Settle:
		b = be.AppendUint64(append(b, opSettle), o.ID)
		return append(b, o.Preimage[:]...)
	case GiveBack:
		b = be.AppendUint64(append(b, opGiveBack), o.ID)
		return appendBytes(b, o.Reason)
	}
	panic("wire: an operation must be a value of Pay, PayStream, AddLock, Settle or GiveBack")
}

func (m *Update) read(r *reader) {
	m.ID, m.Version, m.Yield = r.hash(), r.u32(), r.bool()
	if n := r.count(MaxOps, minOp); n > 0 {
		m.Ops = make([]Op, n)
		for i := range m.Ops {
			if m.Ops[i] = r.op(); r.err != "" {
				return
			}
		}
	}
	m.Sig = r.sig()
}

func (r *reader) op() Op {
	switch r.u8() {
	case opPay:
		return Pay{Amount: r.amount(), Hash: r.hash(), Refund: r.bool()}
	case opStream:
		o := PayStream{Stream: r.hash(), First: r.u64(), Amounts: make([]types.Amount, r.count(MaxStream, 1))}
		for i := range o.Amounts {
			o.Amounts[i] = r.smallAmount()
		}
		if err := o.Check(); err != nil {
			r.fail(err.Error())
		}
		return o
	case opAddLock:
		o := AddLock{ID: r.u64(), Amount: r.amount(), Reserve: r.amount(), Hash: r.hash(), Expiry: types.Height(r.u32()),
			Onion: r.bytes(OnionSize), Memo: r.text()}
		if len(o.Onion) != 0 && len(o.Onion) != OnionSize {
			r.fail("onion packet of a wrong size")
		}
		if len(o.Onion) != 0 && o.Memo != "" {
			r.fail("a memo beside an onion packet")
		}
		return o
	case opSettle:
		return Settle{ID: r.u64(), Preimage: types.Preimage(r.take(32))}
	case opGiveBack:
		return GiveBack{ID: r.u64(), Reason: r.bytes(MaxReason)}
	}
	r.fail("unknown operation")
	return nil
}

func (*Ack) MessageType() uint16        { return TypeAck }
func (m *Ack) Channel() types.ChannelID { return m.ID }
func (m *Ack) size() int                { return 32 + 4 }
func (m *Ack) append(b []byte) []byte   { return be.AppendUint32(append(b, m.ID[:]...), m.Version) }
func (m *Ack) read(r *reader)           { m.ID, m.Version = r.hash(), r.u32() }

func (*TurnRequest) MessageType() uint16        { return TypeTurnRequest }
func (m *TurnRequest) Channel() types.ChannelID { return m.ID }
func (m *TurnRequest) size() int                { return 32 }
func (m *TurnRequest) append(b []byte) []byte   { return append(b, m.ID[:]...) }
func (m *TurnRequest) read(r *reader)           { m.ID = r.hash() }

func (*Yield) MessageType() uint16        { return TypeYield }
func (m *Yield) Channel() types.ChannelID { return m.ID }
func (m *Yield) size() int                { return 32 + 4 + 8 }
func (m *Yield) read(r *reader)           { m.ID, m.Version, m.Turn = r.hash(), r.u32(), r.u64() }

func (m *Yield) append(b []byte) []byte {
	return be.AppendUint64(be.AppendUint32(append(b, m.ID[:]...), m.Version), m.Turn)
}

func appendPreimages(b []byte, list []types.Preimage) []byte {
	b = be.AppendUint16(b, uint16(len(list)))
	for i := range list {
		b = append(b, list[i][:]...)
	}
	return b
}

// preimages reads at most MaxLocks: as many as there can be locks, or payments worth answering at once.
func (r *reader) preimages() []types.Preimage {
	n := r.count(MaxLocks, 32)
	if n == 0 {
		return nil
	}
	list := make([]types.Preimage, n)
	for i := range list {
		list[i] = types.Preimage(r.take(32))
	}
	return list
}

func (*Reveal) MessageType() uint16         { return TypeReveal }
func (m *Reveal) Channel() types.ChannelID  { return m.ID }
func (m *Reveal) size() int                 { return 32 + 2 + 32*len(m.Preimages) }
func (m *Reveal) append(b []byte) []byte    { return appendPreimages(append(b, m.ID[:]...), m.Preimages) }
func (m *Reveal) read(r *reader)            { m.ID, m.Preimages = r.hash(), r.preimages() }
func (*Receipt) MessageType() uint16        { return TypeReceipt }
func (m *Receipt) Channel() types.ChannelID { return m.ID }
func (m *Receipt) size() int                { return 32 + 2 + 32*len(m.Preimages) }
func (m *Receipt) append(b []byte) []byte   { return appendPreimages(append(b, m.ID[:]...), m.Preimages) }
func (m *Receipt) read(r *reader)           { m.ID, m.Preimages = r.hash(), r.preimages() }
