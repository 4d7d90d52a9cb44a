package light

import (
	"fmt"
	"time"

	"github.com/eschaton-network/chand/ledger"
)

// Sentence says for people what is proven, and no more than that.
func (p Proven) Sentence() string {
	at := p.Time.Std().UTC().Format(time.RFC3339)
	where := fmt.Sprintf("on chain %s (genesis %s), after block %d, agreed on at %s", p.ChainID, p.Genesis, p.Height, at)
	switch {
	case p.Tx != nil && p.Anchor != nil:
		return fmt.Sprintf("The hash %s existed by %s: transaction %s of account %s anchors it, %s of chain %s (genesis %s).",
			p.Anchor, at, p.Tx.ID, p.Tx.From, p.in(), p.ChainID, p.Genesis)
	case p.Tx != nil:
		return fmt.Sprintf("Transaction %s (%s by account %s, number %d) stands %s of chain %s (genesis %s), agreed on at %s. Whether it was carried out or refused there is not proven by this.",
			p.Tx.ID, bodyText(p.Tx), p.Tx.From, p.Tx.Msid, p.in(), p.ChainID, p.Genesis, at)
	case !p.Account.IsZero():
		return fmt.Sprintf("Account %s had %s coins, the key %x and transaction number %d to come, %s.", p.Account, p.Record.Balance, p.Record.PublicKey, p.Record.Msid, where)
	case p.Contract == nil:
		return fmt.Sprintf("There had never been a contract %s, %s.", p.ContractID, where)
	}
	return fmt.Sprintf("Contract %s over %s coins %s, %s.", p.ContractID, p.Contract.Capacity, contractText(p.Contract), where)
}

// in says where a transaction stands.
func (p Proven) in() string {
	if p.Place.Node == 0 {
		return fmt.Sprintf("by itself in block %d", p.Height)
	}
	return fmt.Sprintf("at place %s, in message %d of node %d, in block %d", p.Place, p.Place.Msid, p.Place.Node, p.Height)
}

func bodyText(tx *ledger.Tx) string {
	switch b := tx.Body.(type) {
	case ledger.SendOne:
		return fmt.Sprintf("a transfer of %s coins to %s", max(b.Amount, 0), b.To)
	case ledger.SendMany:
		return fmt.Sprintf("transfers to %d accounts", len(b.Wires))
	case ledger.Anchor:
		return fmt.Sprintf("an anchor of %d hashes", len(b.Hashes))
	case ledger.Broadcast:
		return fmt.Sprintf("a broadcast of %d bytes", len(b.Data))
	}
	return fmt.Sprintf("of type %d", tx.Type())
}

func contractText(c *ledger.Contract) string {
	switch {
	case c.Settled != nil:
		return fmt.Sprintf("had settled by version %d of epoch %d, in the Bitcoin transaction %s", c.Settled.Version, c.Settled.Epoch, c.Settled.TxID)
	case c.Posted != nil:
		return fmt.Sprintf("was closing by version %d of epoch %d, to settle in block %d", c.Posted.Version, c.Posted.Epoch, c.Posted.Deadline)
	}
	return "was open"
}
