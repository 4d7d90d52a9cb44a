package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/eschaton-network/chand/esc"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// escSession runs commands one after the other.
type escSession struct {
	app    *app
	set    esc.Settings
	office *escOffice
	state  esc.State
	// count are the commands so far, failed what went wrong with some.
	count  int
	failed []string
	// sent are the ids of the transactions whose block is not known yet.
	sent []types.Hash
}

func newEscSession(a *app, s esc.Settings, in *escInput) (*escSession, error) {
	if s.Ask {
		line, err := in.line()
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fail("input", "nothing was done", "stdin: %v", err)
		}
		if err := s.Set("secret", string(line)); err != nil || s.Secret == nil {
			return nil, usage("the first line of the input is not a secret")
		}
	}
	c := &escSession{app: a, set: s, office: newEscOffice(s), state: esc.State{Account: s.Account, Secret: s.Secret}}
	if s.Msid != nil {
		c.state.Msid = *s.Msid
	}
	if s.Hash != nil {
		c.state.Hash = *s.Hash
	}
	c.state.Known = s.Msid != nil && s.Hash != nil
	return c, nil
}

// errEscStop ends the commands: what follows would be signed without knowing what became of the last one.
var errEscStop = errors.New("it is not known whether the last transaction was taken")

// run executes a command and prints its answer; an error means that no further ones may be executed.
func (c *escSession) run(ctx context.Context, text []byte) error {
	c.count++
	var o esc.Object
	cmd, perr := esc.Decode(text)
	var stop error
	if perr == nil {
		perr, stop = c.execute(ctx, cmd, &o)
	}
	if perr != nil {
		o.AddError(perr)
		c.fail(perr.Error())
	}
	if _, err := c.app.out.Write(o.Text(c.set.Nice)); err != nil {
		return err
	}
	if stop != nil {
		return fail("unknown_outcome", "send the same bytes again with send_again: a transaction that was taken is not executed twice", "%v", stop)
	}
	return nil
}

func (c *escSession) fail(text string) {
	c.failed = append(c.failed, text)
	fmt.Fprintln(c.app.errs, "chancli:", lines(text))
}

// execute appends the command's answer to o, also what is known when it fails.
func (c *escSession) execute(ctx context.Context, cmd *esc.Command, o *esc.Object) (_ *esc.Error, stop error) {
	if read, ok := escReads[cmd.Run]; ok {
		return read(c, ctx, cmd, o), nil
	}
	t, err := c.transaction(ctx, cmd)
	if err != nil {
		return err, nil
	}
	if cmd.Run == esc.DecodeRaw || c.set.DryRun {
		o.Add("tx", esc.ShowTx(t))
		o.Add("txn", esc.ShowTxn(t.Tx, t.Raw[0]))
		c.state = c.state.Next(t)
		return nil, nil
	}
	return c.send(ctx, t, o)
}

// transaction makes the transaction of a command; the office is asked for the account's number and hash when they are not known.
func (c *escSession) transaction(ctx context.Context, cmd *esc.Command) (*esc.Transaction, *esc.Error) {
	if cmd.Run == esc.SendAgain || cmd.Run == esc.DecodeRaw {
		return cmd.Raw(c.state)
	}
	s := c.state.For(cmd)
	if s.Account.IsZero() {
		return nil, &esc.Error{Code: ledger.CodeBadUser, Info: "no account: set address= in " + esc.SettingsName + " or give --address"}
	}
	if !s.Known {
		v, err := c.account(ctx, s.Account, nil)
		if err != nil {
			return nil, err
		}
		s.Msid, s.Hash, s.Known = v.office.Msid, v.office.Hash, true
		if s.Account == c.state.Account {
			c.state.Msid, c.state.Hash, c.state.Known = s.Msid, s.Hash, true
		}
		s = s.For(cmd)
	}
	return esc.Build(cmd, s, types.Time(time.Now().Unix()))
}

// send gives a transaction to the office.
func (c *escSession) send(ctx context.Context, t *esc.Transaction, o *esc.Object) (_ *esc.Error, stop error) {
	tx := esc.ShowTx(t)
	if err := c.log(t, tx); err != nil {
		o.Add("tx", tx)
		return &esc.Error{Code: 40, Info: err.Error() + "; nothing was sent; --olog=0 keeps no file"}, nil
	}
	var v esc.SubmitView
	if reached, err := c.office.post(ctx, "transactions", t.Raw, &v); err != nil {
		o.Add("tx", tx)
		if reached {
			stop = errEscStop
		}
		return err, stop
	}
	c.state = c.state.Next(t)
	var created *types.AccountID
	var err *esc.Error
	if _, ok := t.Tx.Body.(ledger.CreateAccount); ok {
		created, err = c.created(ctx, t, &v)
	} else {
		c.sent = append(c.sent, t.Tx.ID)
	}
	esc.ShowPlace(&tx, v.Place)
	v.Clock.Show(o)
	o.Add("tx", tx)
	if err != nil {
		return err, nil
	}
	acc, err := parseAccount(t.Tx.From, v.AccountView)
	if err != nil {
		return err, nil
	}
	o.Add("account", esc.ShowAccount(t.Tx.From, &acc.office))
	if created != nil {
		o.Add("new_account", created.String())
	}
	if t.Chained && acc.office.Msid == t.Tx.Msid+1 && acc.office.Hash != t.HashOut {
		return &esc.Error{Code: esc.CodeHash, Info: "the transaction was taken, but the office has another hash than account_hashout; start again with get_me"}, nil
	}
	return nil, nil
}

// created waits for the block that makes an account, whose number the office can't know before, and refreshes the view.
func (c *escSession) created(ctx context.Context, t *esc.Transaction, v *esc.SubmitView) (*types.AccountID, *esc.Error) {
	out, err := c.outcome(ctx, t.Tx.ID, "&created=1")
	if err != nil {
		return nil, err
	}
	v.Place = out.Place
	if out.Code != 0 {
		return nil, &esc.Error{Code: out.Code, Info: out.Text}
	}
	if err := c.office.get(ctx, "accounts/"+t.Tx.From.String(), &v.AccountView); err != nil {
		return nil, err
	}
	return out.Created, nil
}

// outcome waits for a transaction's block.
func (c *escSession) outcome(ctx context.Context, id types.Hash, more string) (esc.OutcomeView, *esc.Error) {
	var out esc.OutcomeView
	err := c.office.get(ctx, "outcomes/"+id.String()+"?wait=1"+more, &out)
	if err == nil && out.Height == 0 {
		err = &esc.Error{Code: 14, Info: "the transaction was taken and is in no block yet; it will be, see get_log"}
	}
	return out, err
}

// settle waits until what was sent is in blocks, and tells what was refused there: the next command, in another process, then sees
// it done.
func (c *escSession) settle(ctx context.Context) {
	if !c.set.Wait {
		return
	}
	for _, id := range c.sent {
		out, err := c.outcome(ctx, id, "")
		switch {
		case err != nil:
			c.fail(fmt.Sprintf("transaction %s: %v", id, err))
			return
		case out.Code != 0:
			c.fail(fmt.Sprintf("transaction %s was refused in block %d: %v", out.Place, out.Height, &esc.Error{Code: out.Code, Info: out.Text}))
		}
	}
}

// log appends a transaction to out/NNNN_UUUUUUUU.json before it is sent.
func (c *escSession) log(t *esc.Transaction, tx esc.Object) error {
	if !c.set.Olog {
		return nil
	}
	dir := filepath.Join(c.set.WorkDir, "out")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("%04X_%08X.json", t.Tx.From.Node, t.Tx.From.User)), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(tx.Text(false))
	return errors.Join(err, f.Close())
}

// escAccount is an account as the office sees it and as the last block left it.
type escAccount struct {
	clock           esc.Clock
	office, network ledger.Record
	// checked: the record of the last block has the checksum that belongs to it.
	checked bool
}

// account asks for an account, with a signed request where there is one.
func (c *escSession) account(ctx context.Context, id types.AccountID, request []byte) (escAccount, *esc.Error) {
	path := "accounts/" + id.String()
	if request != nil {
		path += "?request=" + hex.EncodeToString(request)
	}
	var v esc.AccountView
	if err := c.office.get(ctx, path, &v); err != nil {
		return escAccount{}, err
	}
	return parseAccount(id, v)
}

func parseAccount(id types.AccountID, v esc.AccountView) (a escAccount, _ *esc.Error) {
	a.clock = v.Clock
	var err, err2 error
	a.office, _, err = ledger.ParseRecord(v.Account, id)
	a.network, a.checked, err2 = ledger.ParseRecord(v.Network, id)
	if err = errors.Join(err, err2); err != nil {
		return a, &esc.Error{Code: esc.CodeConnect, Info: "the office's answer: " + err.Error()}
	}
	return a, nil
}
