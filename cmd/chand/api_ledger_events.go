package main

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/eschaton-network/chand/ledger"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/types"
)

// maxBlockEvents bounds the events of one answer: some 3 MB of JSON.
const maxBlockEvents = 10_000

func pbLedgerBlock(b ledger.BlockEvents, events bool) *chandv1.LedgerBlock {
	out := &chandv1.LedgerBlock{Height: uint32(b.Height), Hash: b.Hash.String(), Time: pbTime(b.Time), AppHash: b.AppHash.String()}
	for i, e := range b.Events {
		switch e := e.(type) {
		case ledger.MessageDone:
			if e.Code == ledger.CodeOK {
				out.Messages++
			}
		case ledger.TxDone:
			if e.Code == ledger.CodeOK {
				out.Executed++
			} else {
				out.Refused++
			}
		}
		switch {
		case !events:
		case i < maxBlockEvents:
			out.Events = append(out.Events, pbLedgerEvent(b.BlockInfo, e))
		default:
			out.EventsLeft++
		}
	}
	return out
}

func pbLedgerEvent(b ledger.BlockInfo, event ledger.Event) *chandv1.LedgerEvent {
	out := &chandv1.LedgerEvent{Height: uint32(b.Height), Time: pbTime(b.Time)}
	switch e := event.(type) {
	case ledger.TxDone:
		out.Type, out.Id, out.Place, out.Account, out.Msid, out.Code, out.Text = "transaction", e.ID.String(), e.Place.String(), accountText(e.Sender), e.Msid, e.Code, e.Text
	case ledger.MessageDone:
		out.Type, out.Node, out.Msid, out.Data, out.Code, out.Text = "message", uint32(e.Node), e.Msid, hashText(e.Root), e.Code, e.Text
	case ledger.Deposited:
		out.Type, out.Account, out.To, out.Amount, out.Data = "deposited", accountText(e.From), e.To.String(), e.Amount.String(), hashText(e.Message)
	case ledger.AccountCreated:
		out.Type, out.Account, out.Data = "account_created", e.ID.String(), hex32(e.PublicKey)
	case ledger.ContractOpened:
		out.Type, out.Contract = "contract_opened", e.ID.String()
	case ledger.ContractPosted:
		out.Type, out.Contract = "contract_posted", e.ID.String()
		out.Text = fmt.Sprintf("version %d of epoch %d settles in block %d unless a better one comes", e.Version, e.Epoch, e.Deadline)
	case ledger.ContractSettled:
		out.Type, out.Contract, out.Id = "contract_settled", e.ID.String(), e.TxID.String()
		out.Text = fmt.Sprintf("by version %d of epoch %d", e.Version, e.Epoch)
	case ledger.OutputSpent:
		out.Type, out.Id, out.Text = "output_spent", e.TxID.String(), fmt.Sprintf("output %d", e.Index)
	case ledger.Anchored:
		out.Type, out.Id = "anchored", e.TxID.String()
		for _, h := range e.Hashes {
			out.Hashes = append(out.Hashes, h.String())
		}
	case ledger.Broadcasted:
		out.Type, out.Id, out.Account, out.Data = "broadcast", e.TxID.String(), e.From.String(), hex.EncodeToString(e.Data)
	case ledger.Leased:
		out.Type, out.Account, out.Node, out.Amount = "leased", e.From.String(), uint32(e.Node), e.Amount.String()
	case ledger.LeaseCancelled:
		out.Type, out.Account, out.Node, out.Amount = "lease_cancelled", e.From.String(), uint32(e.Node), e.Amount.String()
		out.Text = fmt.Sprintf("returns at the end of block %d", e.Due)
	case ledger.LeaseReleased:
		out.Type, out.Account, out.Node, out.Amount = "lease_released", e.From.String(), uint32(e.Node), e.Amount.String()
	case ledger.NodeCut:
		out.Type, out.Node, out.Amount, out.To = "node_closed", uint32(e.Node), e.Amount.String(), accountText(e.Reporter)
		out.Text = fmt.Sprintf("offence %d; the reporter got %s", e.Offence, e.Reward)
	default:
		pbRulesEvent(out, event)
	}
	return out
}

// pbRulesEvent is the rest of pbLedgerEvent: what changes accounts and nodes besides transfers. Types that have no line here are shown as text.
func pbRulesEvent(out *chandv1.LedgerEvent, event ledger.Event) {
	switch e := event.(type) {
	case ledger.Dividend:
		out.Type, out.To, out.Amount = "dividend", e.To.String(), e.Amount.String()
	case ledger.NodeProfit:
		out.Type, out.Node, out.To, out.Amount = "node_profit", uint32(e.Node), types.AccountID{Node: e.Node}.String(), e.Booked.String()
	case ledger.AccountDeleted:
		out.Type, out.Account, out.Amount = "account_deleted", e.ID.String(), e.Left.String()
	case ledger.AccountRequested:
		out.Type, out.Account, out.Node, out.To, out.Data = "account_requested", e.Requester.String(), uint32(e.Node), accountText(e.ID), e.PublicKey.String()
	case ledger.NodeConnected:
		out.Type, out.Node, out.Text = "node_connected", uint32(e.Node), officeText(ledger.Node{Port: e.Port, IPv4: e.IPv4})
	case ledger.NodeCreated:
		out.Type, out.Node, out.Account, out.Data = "node_created", uint32(e.Node), e.By.String(), e.PublicKey.String()
	case ledger.NodeKeyChanged:
		out.Type, out.Node, out.Data = "node_key_changed", uint32(e.Node), e.PublicKey.String()
	case ledger.NodeStatusChanged:
		out.Type, out.Node, out.Text = "node_status_changed", uint32(e.Node), fmt.Sprintf("status %08x", e.Status)
	case ledger.AccountStatusChanged:
		out.Type, out.Account, out.Text = "account_status_changed", e.ID.String(), fmt.Sprintf("status %04x", e.Status)
	case ledger.Retrieval:
		out.Type, out.Account, out.To, out.Amount = "retrieval", e.Account.String(), e.By.String(), e.Amount.String()
	case ledger.AccountLogged:
		out.Type, out.Id, out.Account, out.Data = "account_logged", e.TxID.String(), e.ID.String(), hex.EncodeToString(e.Record[:])
	case ledger.Enrolled:
		out.Type, out.Account, out.Data, out.Text = "enrolled", e.By.String(), e.PublicKey.String(), fmt.Sprintf("roles %02x", e.Roles)
	default:
		out.Type = snake(strings.TrimPrefix(fmt.Sprintf("%T", event), "ledger."))
		out.Text = fmt.Sprintf("%+v", event)
	}
}

// snake turns AnEvent into an_event.
func snake(s string) string {
	var b strings.Builder
	for i, r := range s {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
