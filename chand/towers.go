package chand

import (
	"context"
	"errors"
	"time"

	"github.com/eschaton-network/chand/chand/tower"
	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// towerPayWait is how long a payment to a watchtower is waited for; it goes on by itself, and the next block asks again.
const towerPayWait = 30 * time.Second

// towers is what joins the package tower to the daemon: the tower that it is for others, when it is one, and those that it uses.
type towers struct {
	d       *Daemon
	client  *tower.Client
	service *tower.Service // nil: this daemon is no watchtower
	blocks  chan ledger.BlockEvents
}

func newTowers(d *Daemon) (t *towers, err error) {
	t = &towers{d: d, blocks: make(chan ledger.BlockEvents, blockQueue)}
	t.client, err = tower.NewClient(tower.ClientConfig{
		Store: d.Store, Ask: t.ask, Price: t.price, Pay: t.pay, Channels: t.channels, Height: d.Height, Now: d.now, Every: d.cfg.TowerEvery,
		Log: d.Log.With("owner", "towers"),
	})
	if err != nil || !d.cfg.TowerServe {
		return t, err
	}
	t.service, err = tower.NewService(tower.ServiceConfig{
		Store: d.Store, Chain: d.Chain, Price: d.cfg.TowerPrice, Invoice: t.invoice, Paid: t.paid, Spend: t.spend, Now: d.now,
		Acted: func(id types.ChannelID, was, is uint32) {
			d.emit("tower.acted", "the watchtower replaces an old version of a client's channel", WatchtowerAction{id, was, is})
		},
		Log: d.Log.With("owner", "watchtower"),
	})
	if err == nil {
		d.Directory.Serve(tower.Protocol, t.service.Serve)
	}
	return t, err
}

// WatchtowerAction is an event of a daemon that is a watchtower.
type WatchtowerAction struct {
	Contract types.ChannelID
	// Was is the version on chain, Is the one that replaces it.
	Was, Is uint32
}

// run hands blocks on until ctx ends.
func (t *towers) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case b := <-t.blocks:
			t.client.Block()
			t.d.storage.Changed()
			if b.Height%storagePruneEvery == 0 {
				if err := t.d.storage.Prune(ctx); err != nil {
					return err
				}
			}
			if t.service == nil {
				continue
			}
			if err := t.service.Block(ctx, b); err != nil {
				return err
			}
		}
	}
}

func (t *towers) ask(ctx context.Context, node types.NodeID, addr string, request []byte) ([]byte, error) {
	if err := t.d.Transport.Reach(ctx, node, addr); err != nil {
		return nil, err
	}
	return t.d.Directory.Ask(ctx, node, tower.Protocol, request)
}

func (t *towers) price(invoice string) (types.Amount, types.NodeID, error) {
	i, err := t.d.DecodeInvoice(invoice)
	return i.Amount, i.Payee, err
}

func (t *towers) pay(ctx context.Context, invoice, key string) (tower.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, towerPayWait)
	defer cancel()
	p, err := t.d.Pay(ctx, PayRequest{Invoice: invoice, Key: key})
	var e *Error
	switch {
	case errors.As(err, &e) && (e.Code == CodeExpired || e.Code == CodeInvalid):
		return tower.Unpaid, err
	case err != nil:
		return tower.Open, err
	case p.State == PaymentSucceeded:
		return tower.Paid, nil
	case p.State == PaymentFailed && p.Failure != nil:
		return tower.Unpaid, errors.New(p.Failure.Text)
	}
	return tower.Open, errors.New("the payment is " + p.State)
}

// channels lists what towers should watch: channels whose contract can be disputed.
func (t *towers) channels() []tower.Channel {
	var out []tower.Channel
	for _, r := range t.d.allRunners() {
		v := r.view.Load()
		st := v.State
		if st.Phase < channel.PhaseOpen || st.Phase > channel.PhasePosted || st.Held.Number == 0 {
			continue
		}
		out = append(out, tower.Channel{ID: st.ID, Epoch: st.Held.Epoch, Version: st.Held.Number, Refund: func() ([]byte, error) {
			return st.HeldRefund(channelKeys(t.d.cfg.Seed, v.Info.KeyIndex).Fund)
		}})
	}
	return out
}

func (t *towers) invoice(ctx context.Context, amount types.Amount, memo string) (types.Hash, string, types.Time, error) {
	i, err := t.d.CreateInvoice(ctx, InvoiceRequest{Amount: amount, Memo: memo})
	return i.Hash, i.Text, i.Expires, err
}

func (t *towers) paid(hash types.Hash) (bool, error) {
	i, err := t.d.Invoice(hash)
	var e *Error
	if errors.As(err, &e) && e.Code == CodeNotFound { // forgotten: it is over
		return false, nil
	}
	return err == nil && i.Settled != 0, err
}

func (t *towers) spend(refund []byte, why string) error {
	body, err := ledger.NewSpend(refund, nil)
	if err != nil {
		return err
	}
	return t.d.account.submit(txRequest{key: actionKey(types.ChannelID{}, why, body), kind: why, body: body})
}

// UseTower gives the channels' newest versions to a watchtower from now on. addr is where to dial it; maxPrice is the most to pay for
// watching one channel for a thousand blocks. It returns the tower's price.
func (d *Daemon) UseTower(ctx context.Context, node types.NodeID, addr string, maxPrice types.Amount) (types.Amount, error) {
	if node == d.ID() || maxPrice < 0 || maxPrice > types.MaxAmount {
		return 0, refuse(CodeInvalid, "name another daemon's address, as its `chancli peer id` prints it", "a daemon can't watch itself")
	}
	price, err := d.towers.client.Add(ctx, tower.Tower{Node: node, Addr: addr, MaxPrice: maxPrice})
	return price, towerError(err)
}

// LeaveTower stops using a watchtower.
func (d *Daemon) LeaveTower(ctx context.Context, node types.NodeID) error {
	return towerError(d.towers.client.Remove(ctx, node))
}

// Towers lists the watchtowers in use, and how well they cover the channels.
func (d *Daemon) Towers() []tower.Cover { return d.towers.client.List() }

// Watched lists what this daemon watches for others; ok is false when it is no watchtower.
func (d *Daemon) Watched() (list []tower.Watched, ok bool) {
	if d.towers.service == nil {
		return nil, false
	}
	return d.towers.service.List(), true
}

func towerError(err error) error {
	for _, e := range []struct {
		is         error
		code, next string
	}{
		{tower.ErrNotFound, CodeNotFound, "see `chancli tower list`"},
		{tower.ErrPrice, CodeFeeTooHigh, "allow more with --max-price, or use another tower"},
		{tower.ErrFull, CodeRefused, "remove one first: chancli tower remove"},
		{tower.ErrRefused, CodeRefused, "use another tower"},
	} {
		if errors.Is(err, e.is) {
			return &Error{Code: e.code, Text: err.Error(), Next: e.next, Money: noMoneyMoved, Err: err}
		}
	}
	if err != nil {
		return &Error{Code: CodePeerOffline, Text: err.Error(), Next: "see that the tower runs with tower.serve = true, and try again", Money: noMoneyMoved, Err: err}
	}
	return nil
}
