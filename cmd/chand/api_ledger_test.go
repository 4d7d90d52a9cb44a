package main

import (
	"testing"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// TestLedgerEvents: what concerns an account names it, so that who watches the account is told.
func TestLedgerEvents(t *testing.T) {
	me, other := types.AccountID{Node: 2, User: 7}, types.AccountID{Node: 1}
	for _, e := range []ledger.Event{
		ledger.TxDone{Sender: me}, ledger.Deposited{From: me, To: other}, ledger.Deposited{From: other, To: me}, ledger.Deposited{To: me},
		ledger.AccountCreated{ID: me}, ledger.Broadcasted{From: me}, ledger.Leased{From: me}, ledger.LeaseCancelled{From: me}, ledger.LeaseReleased{From: me},
		ledger.NodeCut{Reporter: me}, ledger.Dividend{To: me}, ledger.AccountDeleted{ID: me}, ledger.AccountRequested{Requester: me}, ledger.AccountRequested{ID: me},
		ledger.NodeCreated{By: me}, ledger.AccountStatusChanged{ID: me}, ledger.Retrieval{By: me, Account: other}, ledger.Retrieval{By: other, Account: me},
		ledger.AccountLogged{ID: me}, ledger.Enrolled{By: me},
	} {
		v := pbLedgerEvent(ledger.BlockInfo{Height: 9}, e)
		if v.Height != 9 || v.Type == "" || v.Account != me.String() && v.To != me.String() {
			t.Errorf("%T became %v", e, v)
		}
	}
	b := ledger.BlockEvents{Events: make([]ledger.Event, 0, maxBlockEvents+5)}
	for range maxBlockEvents + 5 {
		b.Events = append(b.Events, ledger.TxDone{Code: 9})
	}
	if v := pbLedgerBlock(b, true); len(v.Events) != maxBlockEvents || v.EventsLeft != 5 || v.Refused != maxBlockEvents+5 {
		t.Errorf("%d events, %d left, %d refused", len(v.Events), v.EventsLeft, v.Refused)
	}
	if v := pbLedgerBlock(b, false); len(v.Events) != 0 || v.EventsLeft != 0 {
		t.Errorf("%d events, %d left, though none were asked for", len(v.Events), v.EventsLeft)
	}
	if got := snake("PolicyChanged"); got != "policy_changed" {
		t.Error(got)
	}
}
