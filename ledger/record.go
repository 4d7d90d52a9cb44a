package ledger

import (
	"encoding/binary"

	"github.com/eschaton-network/chand/types"
)

const (
	// RecordSize is the size of an account record (E17).
	RecordSize = 128
	// recordHashed is the part of a record that its checksum covers, before the account's number.
	recordHashed = 96
)

// Record is one account as the original stores it: 128 bytes, little-endian.
type Record struct {
	// Msid is the number that the next own transaction must carry, starting at 1.
	Msid uint32
	// Time is the time field of the last own transaction (chosen by the client).
	Time      uint32
	PublicKey [32]byte
	// Hash is the head of the account's hash chain.
	Hash types.Hash
	// LocalChange is the block time of the last own transaction.
	LocalChange uint32
	// PairedID and PairedNode name the other account of a retrieval.
	PairedID   uint32
	PairedNode uint16
	// Status has 16 bits; bit 0 = deleted.
	Status uint16
	// RemoteChange is the block time of the last deposit from elsewhere.
	RemoteChange uint32
	Balance      types.Amount
}

// hashed writes the first 96 bytes.
func (r *Record) hashed() (b [recordHashed]byte) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], r.Msid)
	le.PutUint32(b[4:], r.Time)
	copy(b[8:], r.PublicKey[:])
	copy(b[40:], r.Hash[:])
	le.PutUint32(b[72:], r.LocalChange)
	le.PutUint32(b[76:], r.PairedID)
	le.PutUint16(b[80:], r.PairedNode)
	le.PutUint16(b[82:], r.Status)
	le.PutUint32(b[84:], r.RemoteChange)
	le.PutUint64(b[88:], uint64(r.Balance))
	return b
}

// parseHashed reads what hashed wrote.
func parseHashed(b *[recordHashed]byte) (r Record) {
	le := binary.LittleEndian
	r.Msid = le.Uint32(b[0:])
	r.Time = le.Uint32(b[4:])
	copy(r.PublicKey[:], b[8:])
	copy(r.Hash[:], b[40:])
	r.LocalChange = le.Uint32(b[72:])
	r.PairedID = le.Uint32(b[76:])
	r.PairedNode = le.Uint16(b[80:])
	r.Status = le.Uint16(b[82:])
	r.RemoteChange = le.Uint32(b[84:])
	r.Balance = types.Amount(le.Uint64(b[88:]))
	return r
}

// Checksum is SHA-256 of the record's first 96 bytes, the node and the account number (E17 csum).
func (r *Record) Checksum(id types.AccountID) types.Hash {
	b, n := r.hashed(), accountBytes(id)
	return types.SHA256(b[:], n[:])
}

// Marshal writes the record as the original stores it, checksum included.
func (r *Record) Marshal(id types.AccountID) (b [RecordSize]byte) {
	h, c := r.hashed(), r.Checksum(id)
	copy(b[:], h[:])
	copy(b[recordHashed:], c[:])
	return b
}

// account is what daemons see of a record.
func (r *Record) account(id types.AccountID) Account {
	return Account{ID: id, Balance: r.Balance, PublicKey: r.PublicKey, Msid: r.Msid, Hash: r.Hash, Status: r.Status}
}

// accountBytes is an account's number on the wire: node(2) user(4), little-endian.
func accountBytes(id types.AccountID) (b [6]byte) {
	binary.LittleEndian.PutUint16(b[:], id.Node)
	binary.LittleEndian.PutUint32(b[2:], id.User)
	return b
}

func parseAccount(b []byte) types.AccountID {
	return types.AccountID{Node: binary.LittleEndian.Uint16(b), User: binary.LittleEndian.Uint32(b[2:])}
}

// initialHash starts an account's hash chain: bound to the ledger, the account and the key, so that no signature for one
// account or ledger fits another (the layout of A19, with the numbers filled in that it leaves zero).
func initialHash(genesis types.Hash, id types.AccountID, key [32]byte) types.Hash {
	n := accountBytes(id)
	return types.SHA256(genesis[:], n[:], []byte{0, 0, 0, 0}, key[:])
}
