package main

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/eschaton-network/chand/ledger"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
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
		out.Type = snake(strings.TrimPrefix(fmt.Sprintf("%T", event), "ledger."))
		out.Text = fmt.Sprintf("%+v", event)
	}
	return out
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
