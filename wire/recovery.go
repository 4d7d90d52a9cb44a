package wire

import "github.com/eschaton-network/chand/types"

// lockStateSize is the size of one LockState.
const lockStateSize = 8 + 1 + 8 + 32 + 4

func (*Reestablish) MessageType() uint16        { return TypeReestablish }
func (m *Reestablish) Channel() types.ChannelID { return m.ID }
func (m *Reestablish) size() int                { return 32 + 3*4 + 8 + 32 + 4 + 2 }

func (m *Reestablish) append(b []byte) []byte {
	b = append(b, m.ID[:]...)
	b = be.AppendUint32(b, m.Epoch)
	b = be.AppendUint32(b, m.Version)
	b = be.AppendUint32(b, m.Acked)
	b = be.AppendUint64(b, m.Turn)
	b = append(b, m.StateHash[:]...)
	b = be.AppendUint32(b, m.Offered)
	return appendBool(appendBool(b, m.Restored), m.Answer)
}

func (m *Reestablish) read(r *reader) {
	m.ID, m.Epoch, m.Version, m.Acked = r.hash(), r.u32(), r.u32(), r.u32()
	m.Turn, m.StateHash, m.Offered, m.Restored, m.Answer = r.u64(), r.hash(), r.u32(), r.bool(), r.bool()
}

func (v *VersionState) size() int { return 2*4 + 2*8 + 2 + len(v.Locks)*lockStateSize }

func (v *VersionState) append(b []byte) []byte {
	b = be.AppendUint32(b, v.Epoch)
	b = be.AppendUint32(b, v.Version)
	b = appendAmount(appendAmount(b, v.Balance[0]), v.Balance[1])
	b = be.AppendUint16(b, uint16(len(v.Locks)))
	for i := range v.Locks {
		l := &v.Locks[i]
		b = append(be.AppendUint64(b, l.ID), l.Funder)
		b = append(appendAmount(b, l.Amount), l.Hash[:]...)
		b = be.AppendUint32(b, uint32(l.Expiry))
	}
	return b
}

func (v *VersionState) read(r *reader) {
	v.Epoch, v.Version, v.Balance = r.u32(), r.u32(), [2]types.Amount{r.amount(), r.amount()}
	n := r.count(MaxLocks, lockStateSize)
	if n == 0 {
		return
	}
	v.Locks = make([]LockState, n)
	for i := range v.Locks {
		v.Locks[i] = LockState{ID: r.u64(), Funder: r.u8(), Amount: r.amount(), Hash: r.hash(), Expiry: types.Height(r.u32())}
		if v.Locks[i].Funder > 1 {
			r.fail("a lock's funder is neither 0 nor 1")
		}
	}
}

func (*Resync) MessageType() uint16        { return TypeResync }
func (m *Resync) Channel() types.ChannelID { return m.ID }
func (m *Resync) size() int                { return 32 + m.Base.size() + 64 + m.State.size() + 64 + 3*8 }

func (m *Resync) append(b []byte) []byte {
	b = m.Base.append(append(b, m.ID[:]...))
	b = m.State.append(append(b, m.BaseSig[:]...))
	b = be.AppendUint64(append(b, m.Sig[:]...), m.Turn)
	return be.AppendUint64(be.AppendUint64(b, m.NextLock[0]), m.NextLock[1])
}

func (m *Resync) read(r *reader) {
	m.ID = r.hash()
	m.Base.read(r)
	m.BaseSig = r.sig()
	m.State.read(r)
	m.Sig, m.Turn, m.NextLock = r.sig(), r.u64(), [2]uint64{r.u64(), r.u64()}
}

func (*Agree) MessageType() uint16        { return TypeAgree }
func (m *Agree) Channel() types.ChannelID { return m.ID }
func (m *Agree) size() int                { return 32 + 4 + 64 }
func (m *Agree) read(r *reader)           { m.ID, m.Epoch, m.Sig = r.hash(), r.u32(), r.sig() }

func (m *Agree) append(b []byte) []byte {
	return append(be.AppendUint32(append(b, m.ID[:]...), m.Epoch), m.Sig[:]...)
}

func (*CloseRequest) MessageType() uint16        { return TypeCloseRequest }
func (m *CloseRequest) Channel() types.ChannelID { return m.ID }
func (m *CloseRequest) size() int                { return 32 }
func (m *CloseRequest) append(b []byte) []byte   { return append(b, m.ID[:]...) }
func (m *CloseRequest) read(r *reader)           { m.ID = r.hash() }

func (*CloseSign) MessageType() uint16        { return TypeCloseSign }
func (m *CloseSign) Channel() types.ChannelID { return m.ID }
func (m *CloseSign) size() int                { return 32 + 4 + 64 }
func (m *CloseSign) read(r *reader)           { m.ID, m.Version, m.Sig = r.hash(), r.u32(), r.sig() }

func (m *CloseSign) append(b []byte) []byte {
	return append(be.AppendUint32(append(b, m.ID[:]...), m.Version), m.Sig[:]...)
}

func (*Fault) MessageType() uint16        { return TypeFault }
func (m *Fault) Channel() types.ChannelID { return m.ID }
func (m *Fault) size() int                { return 32 + 2 + len(m.Text) }
func (m *Fault) append(b []byte) []byte   { return appendBytes(append(b, m.ID[:]...), m.Text) }
func (m *Fault) read(r *reader)           { m.ID, m.Text = r.hash(), r.text() }
