package wire

import (
	"encoding/binary"

	"github.com/eschaton-network/chand/types"
)

var be = binary.BigEndian

const (
	rulesSize  = 5*8 + 2*2
	keysSize   = 3*33 + 6
	timingSize = 3 * 4
)

func (k PartyKeys) append(b []byte) []byte {
	b = append(b, k.Fund[:]...)
	b = append(b, k.Close[:]...)
	b = append(b, k.Lock[:]...)
	return appendAccount(b, k.Account)
}

func (r *reader) keys() PartyKeys {
	return PartyKeys{Fund: r.pubKey(), Close: r.pubKey(), Lock: r.pubKey(), Account: r.account()}
}

func (v Rules) append(b []byte) []byte {
	b = appendAmount(b, v.Dust)
	b = appendAmount(b, v.MaxPayment)
	b = appendAmount(b, v.MaxInFlight)
	b = appendAmount(b, v.MinLock)
	b = be.AppendUint16(be.AppendUint16(b, v.MaxLocks), v.MaxOps)
	return appendAmount(b, v.Deposit)
}

func (r *reader) rules() Rules {
	return Rules{Dust: r.amount(), MaxPayment: r.amount(), MaxInFlight: r.amount(), MinLock: r.amount(), MaxLocks: r.u16(), MaxOps: r.u16(),
		Deposit: r.amount()}
}

func (*Open) MessageType() uint16          { return TypeOpen }
func (m *Open) Channel() types.ChannelID   { return m.Temp }
func (m *Open) size() int                  { return 3*32 + 2*8 + timingSize + rulesSize + keysSize + 4 + 4 }
func (*Accept) MessageType() uint16        { return TypeAccept }
func (m *Accept) Channel() types.ChannelID { return m.Temp }
func (m *Accept) size() int                { return 32 + rulesSize + keysSize + 64 }

func (m *Open) append(b []byte) []byte {
	b = append(b, m.Temp[:]...)
	b = append(b, m.ChainGenesis[:]...)
	b = appendAmount(b, m.Mine)
	b = appendAmount(b, m.Theirs)
	b = be.AppendUint32(b, m.Timing.Inclusion)
	b = be.AppendUint32(b, m.Timing.Downtime)
	b = be.AppendUint32(b, m.Timing.Window)
	b = m.Rules.append(b)
	b = m.Keys.append(b)
	b = be.AppendUint32(b, uint32(m.ValidUntil))
	b = append(b, m.Salt[:]...)
	return be.AppendUint32(b, m.Epoch)
}

func (m *Open) read(r *reader) {
	m.Temp, m.ChainGenesis = r.hash(), r.hash()
	m.Mine, m.Theirs = r.amount(), r.amount()
	m.Timing = types.Timing{Inclusion: r.u32(), Downtime: r.u32(), Window: r.u32()}
	m.Rules, m.Keys = r.rules(), r.keys()
	m.ValidUntil, m.Salt, m.Epoch = types.Height(r.u32()), r.hash(), r.u32()
}

func (m *Accept) append(b []byte) []byte {
	b = append(b, m.Temp[:]...)
	b = m.Rules.append(b)
	b = m.Keys.append(b)
	return append(b, m.RefundSig[:]...)
}

func (m *Accept) read(r *reader) {
	m.Temp, m.Rules, m.Keys, m.RefundSig = r.hash(), r.rules(), r.keys(), r.sig()
}

func (*Refuse) MessageType() uint16        { return TypeRefuse }
func (m *Refuse) Channel() types.ChannelID { return m.ID }
func (m *Refuse) size() int                { return 32 + 2 + len(m.Text) }
func (m *Refuse) append(b []byte) []byte   { return appendBytes(append(b, m.ID[:]...), m.Text) }
func (m *Refuse) read(r *reader)           { m.ID, m.Text = r.hash(), r.text() }

func (*OpenRefund) MessageType() uint16        { return TypeOpenRefund }
func (m *OpenRefund) Channel() types.ChannelID { return m.ID }
func (m *OpenRefund) size() int                { return 32 + 32 + 64 }
func (m *OpenRefund) read(r *reader)           { m.Temp, m.ID, m.RefundSig = r.hash(), r.hash(), r.sig() }

func (m *OpenRefund) append(b []byte) []byte {
	b = append(append(b, m.Temp[:]...), m.ID[:]...)
	return append(b, m.RefundSig[:]...)
}

func (*OpenFund) MessageType() uint16        { return TypeOpenFund }
func (m *OpenFund) Channel() types.ChannelID { return m.ID }
func (m *OpenFund) size() int                { return 32 + 64 }
func (m *OpenFund) append(b []byte) []byte   { return append(append(b, m.ID[:]...), m.FundSig[:]...) }
func (m *OpenFund) read(r *reader)           { m.ID, m.FundSig = r.hash(), r.sig() }

func (*AnnounceSigs) MessageType() uint16        { return TypeAnnounceSigs }
func (m *AnnounceSigs) Channel() types.ChannelID { return m.ID }
func (m *AnnounceSigs) size() int                { return 32 + 2*64 }
func (m *AnnounceSigs) read(r *reader)           { m.ID, m.NodeSig, m.CloseSig = r.hash(), r.sig(), r.sig() }

func (m *AnnounceSigs) append(b []byte) []byte {
	b = append(append(b, m.ID[:]...), m.NodeSig[:]...)
	return append(b, m.CloseSig[:]...)
}

func (*PeerPolicy) MessageType() uint16        { return TypePeerPolicy }
func (m *PeerPolicy) Channel() types.ChannelID { return m.ID }
func (m *PeerPolicy) size() int                { return 32 + 2 + len(m.Policy) }
func (m *PeerPolicy) read(r *reader)           { m.ID, m.Policy = r.hash(), r.bytes(MaxPolicy) }

func (m *PeerPolicy) append(b []byte) []byte {
	b = be.AppendUint16(append(b, m.ID[:]...), uint16(len(m.Policy)))
	return append(b, m.Policy...)
}
