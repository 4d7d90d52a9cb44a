package chand

import (
	"bytes"
	"testing"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// samples are records with every field set, as they must be readable for ever.
func samples() map[string][]byte {
	h, pre := types.Hash{1}, types.Preimage{2}
	return map[string][]byte{
		"chan": encodeRecord(chanRecord{Opened: 1, Closed: 2, KeyIndex: 3, OpenKey: "k", Fault: "f", Announce: []byte{1},
			Refunds: []wire.Pay{{Amount: 5, Hash: h, Refund: true}}, Private: true}),
		"outgoing": encodeRecord(outgoingRecord{Kind: kindForward, Ref: 1, Hash: h, InChannel: h, InLock: 2, Preimage: pre, Returned: true, Reason: []byte{3}, Gone: true,
			Attempt: &Attempt{Channel: h, Lock: 1, Secrets: [][32]byte{h}, Nodes: []types.NodeID{{2}}, Channels: []types.ChannelID{h}, Amount: 1, Fee: 2, Reserve: 3, Expiry: 4, Lost: true},
			Reserve: 5, Refunded: 6, Lost: true}),
		"incoming": encodeRecord(incomingRecord{Kind: kindForward, Hash: h, Amount: 1, Expiry: 2, Preimage: pre, GiveBack: true, Reason: []byte{1}, Secret: h,
			OutAmount: 3, OutExpiry: 4, OutChannel: h, Released: true, Reserve: 5, OutReserve: 6, Refunded: 7, Since: 8, Total: 9, Blinded: true}),
		"payment": encodeRecord(Payment{Hash: h, Direction: PaymentSent, State: PaymentFailed, Amount: 1, Fee: 2, Preimage: pre, Failure: &PaymentFailure{Rule: "r", Text: "t"},
			Created: 3, Settled: 4, Memo: "m", Route: []types.NodeID{{2}}, Expiry: 5, Key: "k", Invoice: "i", Attempt: &Attempt{Channel: h, Version: 6},
			Tries: 7, Text: "t", MaxFee: 8, Reserve: 9, Parts: []Attempt{{Channel: h, Lock: 10}}, MaxParts: 11, Until: 12, Cancelled: 13}),
		"invoice": encodeRecord(invoiceRecord{Text: "t", Preimage: pre, Secret: h, Amount: 1, Created: 2, Expires: 3, Paid: 4, Held: []heldRef{{h, 5}},
			Cancelled: 6, Spontaneous: true, DescriptionHash: h, Private: true, Got: 7, Blinded: true}),
		"escrow":  encodeRecord(Escrow{ID: h, Role: rolePayer, State: EscrowHeld, Amount: 1, Expiry: 2, Deadline: 3, Preimage: pre, Attempt: &Attempt{}}),
		"tx":      encodeRecord(txRecord{Key: "k", Kind: "send", Raw: []byte{1}, IDs: []types.Hash{h}, Msid: 1, State: TxPending, Created: types.AccountID{Node: 1, User: 2}}),
		"service": encodeRecord(Service{Name: "n", Target: "t", Amount: 1, Unit: "request", URL: "u"}),
	}
}

// decodeAny tries every record type and returns what reads.
func decodeAny(b []byte) (again [][]byte) {
	try := func(v any, err error) {
		if err == nil {
			again = append(again, encodeRecord(v))
		}
	}
	a, err := decodeRecord[chanRecord](b)
	try(a, err)
	o, err := decodeRecord[outgoingRecord](b)
	try(o, err)
	i, err := decodeRecord[incomingRecord](b)
	try(i, err)
	p, err := decodeRecord[Payment](b)
	try(p, err)
	n, err := decodeRecord[invoiceRecord](b)
	try(n, err)
	e, err := decodeRecord[Escrow](b)
	try(e, err)
	t, err := decodeRecord[txRecord](b)
	try(t, err)
	s, err := decodeRecord[Service](b)
	try(s, err)
	return again
}

func TestRecordsAreStrict(t *testing.T) {
	for name, b := range samples() {
		if len(decodeAny(b)) == 0 {
			t.Errorf("%s does not read back", name)
		}
		for what, bad := range map[string][]byte{"trailing byte": append(bytes.Clone(b), 0), "another version": append([]byte{9}, b[1:]...),
			"cut": b[:len(b)-1], "empty": {}} {
			if len(decodeAny(bad)) != 0 {
				t.Errorf("%s with %s was read", name, what)
			}
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	for _, b := range samples() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, again := range decodeAny(b) {
			if !bytes.Equal(again, b) {
				t.Errorf("%x reads as %x", b, again)
			}
		}
	})
}

func TestLockKey(t *testing.T) {
	id := types.Hash{0xab}
	c, n, err := parseLockKey(lockKey(id, 77))
	if c != id || n != 77 || err != nil {
		t.Errorf("%s %d %v", c, n, err)
	}
	for _, bad := range []string{"", "x/1", id.String(), id.String() + "/", id.String() + "/1", lockKey(id, 1) + "0"} {
		if _, _, err := parseLockKey(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
