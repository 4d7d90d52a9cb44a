package escd

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

func sampleRecord() *blockRecord {
	h := func(s string) types.Hash { return types.SHA256([]byte(s)) }
	return &blockRecord{
		BlockInfo: ledger.BlockInfo{Height: 7, Time: 1500000000, Hash: h("hash"), AppHash: h("app")},
		nanos:     1500000000123456789, txs: 3, refused: 1, bytes: 500,
		roots: []types.Hash{h("root"), h("tx")}, parts: ledger.Parts{h("part")},
		events: []ledger.Event{
			ledger.Leased{From: admin, Node: 3, Amount: 5}, ledger.LeaseCancelled{From: admin, Node: 3, Amount: 5, Due: 9},
			ledger.LeaseReleased{From: admin, Node: 3, Amount: 4}, ledger.NodeCut{Node: 3, Offence: 1, Amount: 80, Reward: 5, Reporter: admin},
			ledger.MessageDone{Node: 2, Msid: 7, Time: 1700000000, Root: h("root"), Txs: 3, Code: 11, Text: "out of order"},
			ledger.TxDone{ID: h("tx"), Place: ledger.Place{Node: 1, Msid: 8, Position: 2}, Type: ledger.TypeSendOne, Sender: admin, Msid: 4, Code: 9, Text: "no money"},
			ledger.Deposited{From: admin, To: types.AccountID{Node: 2, User: 3}, Amount: 5, Message: h("m")},
			ledger.TxDone{ID: h("send"), Place: ledger.Place{Node: 1, Msid: 8, Position: 3}, Type: ledger.TypeSendOne, Sender: admin, Msid: 5},
			ledger.Deposited{From: admin, To: types.AccountID{Node: 2, User: 3}, Amount: 5},
			ledger.Deposited{From: admin, To: types.AccountID{Node: 2, User: 4}, Amount: 6},
			ledger.TxDone{ID: h("many"), Place: ledger.Place{Node: 1, Msid: 8, Position: 4}, Type: ledger.TypeSendMany, Sender: admin, Msid: 6},
			ledger.Deposited{To: types.AccountID{Node: 2, User: 3}, Amount: 9},
			ledger.AccountCreated{ID: types.AccountID{Node: 1, User: 9}, PublicKey: h("key")},
			ledger.ContractOpened{ID: h("c")},
			ledger.ContractPosted{ID: h("c"), Epoch: 1, Version: 2, Deadline: 99, Refund: []byte("refund")},
			ledger.ContractSettled{ID: h("c"), Epoch: 1, Version: 3, Final: true, TxID: h("t"), Refund: []byte("final")},
			ledger.OutputSpent{TxID: h("t"), Index: 1, Witness: [][]byte{[]byte("w"), []byte("preimage")}, By: []byte("tx")},
			ledger.Anchored{TxID: h("a"), Hashes: []types.Hash{h("1"), h("2")}},
			ledger.Dividend{To: admin, Amount: -7}, ledger.NodeProfit{Node: 2, Income: 5, Shared: -3, Charge: 2, Booked: 1},
			ledger.AccountDeleted{ID: admin, Left: 9}, ledger.NodeConnected{Node: 1, Port: 6511, IPv4: 0x0100007f},
			ledger.AccountRequested{Requester: admin, Node: 2, PublicKey: h("key"), State: ledger.RequestAccepted, ID: types.AccountID{Node: 2, User: 3}},
			ledger.NodeCreated{Node: 4, By: admin, PublicKey: h("node")}, ledger.NodeKeyChanged{Node: 4, PublicKey: h("new"), Opened: true},
			ledger.NodeStatusChanged{Node: 4, Status: 1 << 31}, ledger.AccountStatusChanged{ID: admin, Status: 1 << 15},
			ledger.Retrieval{By: admin, Account: types.AccountID{Node: 2}, Phase: ledger.RetrievalPaid, Amount: 8, Fee: 3},
			ledger.AccountLogged{TxID: h("l"), ID: admin, Record: [ledger.RecordSize]byte{1, 2, 127: 3}},
			ledger.PairsAnchored{TxID: h("p"), From: admin, Pairs: []ledger.Pair{{Key: h("k"), Value: h("v")}}},
			ledger.CertificateChanged{TxID: h("x"), Certificate: ledger.Certificate{
				CertificateKey: ledger.CertificateKey{Issuer: admin, Subject: types.AccountID{Node: 1, User: 9}, Type: 300},
				Content:        h("content"), Issued: 3, Changed: 4, Expires: 1800000000, Revoked: true}},
			ledger.Enrolled{By: admin, PublicKey: h("e"), Roles: ledger.RoleNode},
			ledger.PolicyChanged{TxID: h("y"), Policy: ledger.Policy{Version: 2, Enrolled: true, Admins: []types.AccountID{admin}}},
			ledger.Broadcasted{TxID: h("b"), From: admin, Data: []byte("hello")},
		},
	}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	r := sampleRecord()
	b, links, err := encodeRecord(nil, r)
	if err != nil {
		t.Fatal(err)
	}
	again := &recordLinks{}
	got, err := decodeRecord(b, nil, again)
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, %v", got, err)
	}
	if !reflect.DeepEqual(again, links) {
		t.Errorf("links %+v, read again %+v", links, again)
	}
	if head, err := (&reader{b: b[:recordHead]}).recordHead(); err != nil || head.BlockInfo != r.BlockInfo || head.bytes != r.bytes {
		t.Errorf("head %+v, %v", head, err)
	}
	mine := types.AccountID{Node: 2, User: 3}
	few, err := decodeRecord(b, func(id types.AccountID) bool { return id == mine }, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := slices.DeleteFunc(slices.Clone(r.events), func(e ledger.Event) bool {
		switch e := e.(type) {
		case ledger.TxDone:
			return e.Sender != mine
		case ledger.Deposited:
			return e.To != mine && e.From != mine
		}
		return false
	})
	if !reflect.DeepEqual(few.events, want) {
		t.Errorf("of interest: %+v, want %+v", few.events, want)
	}
	for i := range b {
		if _, err := decodeRecord(b[:i], nil, nil); err == nil {
			t.Errorf("accepted %d of %d bytes", i, len(b))
		}
	}
	if _, err := decodeRecord(append(b, 0), nil, nil); err == nil {
		t.Error("accepted a trailing byte")
	}
}

func FuzzRecord(f *testing.F) {
	b, _, err := encodeRecord(nil, sampleRecord())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var links recordLinks
		r, err := decodeRecord(b, nil, &links)
		if err != nil {
			return
		}
		for _, e := range links.entries {
			if e.at >= len(b) || e.link+8 > len(b) {
				t.Fatalf("%x: an entry %+v beyond the end", b, e)
			}
		}
		again, _, err := encodeRecord(nil, r)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := decodeRecord(again, nil, nil); err != nil || !reflect.DeepEqual(s, r) {
			t.Errorf("%x was read as %+v, which is written %x and read as %+v, %v", b, r, again, s, err)
		}
	})
}

// FuzzLogItem: whatever a position leads to, reading it costs little and does not panic.
func FuzzLogItem(f *testing.F) {
	r := sampleRecord()
	b, links, err := encodeRecord(nil, r)
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range links.entries {
		f.Add(b[e.at:], e.row)
	}
	f.Fuzz(func(t *testing.T, b []byte, row bool) {
		dir := t.TempDir()
		files, err := openFiles(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer files.close()
		if _, err := files.file.WriteAt(append(make([]byte, 100), b...), 0); err != nil {
			t.Fatal(err)
		}
		files.end = firstPosition + int64(len(b)) + 100
		link := uint64(firstPosition+100) << 1
		if row {
			link |= 1
		}
		if item, err := files.linked(link); err == nil && len(item.entries) > ledger.MaxWires {
			t.Errorf("%d entries", len(item.entries))
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	dir := f.TempDir()
	c := checkpoint{end: 500, last: 7, heads: [][]uint64{nil, {4, 5}, {6}}}
	if err := c.write(dir); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, checkpointFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeCheckpoint(b)
		if err != nil {
			return
		}
		dir := t.TempDir()
		if err := c.write(dir); err != nil {
			t.Fatal(err)
		}
		if again, err := os.ReadFile(filepath.Join(dir, checkpointFile)); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x is %x again, %v", b, again, err)
		}
	})
}

func FuzzBatch(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 1, 2, 0, 0, 0, 1, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		txs, err := splitBatch(b)
		if err != nil {
			return
		}
		var w writer
		for _, tx := range txs {
			w.blob(tx)
		}
		if !bytes.Equal(w.b, b) {
			t.Errorf("%x is not what was read: %x", b, w.b)
		}
	})
}

func FuzzBlocks(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeBlocks(b)
		if err == nil && len(got) > len(b)/8 {
			t.Errorf("%d blocks in %d bytes", len(got), len(b))
		}
	})
}
