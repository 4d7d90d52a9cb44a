package escd

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

const (
	// fullMessage is the size from which a message is signed at once: what would still fit is not worth waiting for.
	fullMessage = ledger.MaxMessage * 7 / 8
	// maxCutPause bounds how long a transaction waits for others before it leaves for the validators; a quarter of the block time is
	// allowed for where blocks are quicker.
	maxCutPause = 250 * time.Millisecond
	// proposeWait bounds how long a proposal waits for the log: what is not durable by then is in the next block.
	proposeWait = 150 * time.Millisecond
	// resendAfter is after how many blocks a message that is in none is sent once more.
	resendAfter = 2
)

func (d *desk) wakeCutter() {
	select {
	case d.cutting <- struct{}{}:
	default:
	}
}

// cutter signs messages that are full at once, others after a short pause. A node that proposes every block itself signs the rest when
// it does, and needs no pause.
func (d *desk) cutter() {
	pause := min(maxCutPause, time.Duration(d.app.params.BlockMillis)*time.Millisecond/4)
	timer := time.NewTimer(pause)
	timer.Stop()
	for waits := false; ; {
		all := false
		select {
		case <-d.live.Done():
			return
		case <-d.cutting:
		case <-timer.C:
			all, waits = true, false
		}
		d.app.mu.Lock()
		d.cut(all)
		_, unsigned, _ := d.pool.Waiting()
		head := d.app.head.Height
		d.app.mu.Unlock()
		if unsigned > 0 && !waits && !d.n.alone(head) {
			timer.Reset(pause)
			waits = true
		}
	}
}

// cut signs the messages that are full, or all that waits, and has them logged. The channel is closed when the last one is durable; nil
// when there was none. The caller holds app.mu.
func (d *desk) cut(all bool) (durable <-chan struct{}) {
	if d.closed == nil {
		if n, err := d.app.state.Node(d.node); err != nil || n.PublicKey != ledger.PublicKey(d.secret) {
			d.fail(fmt.Errorf("the node's key on the ledger is another than this daemon's; start it with the key that fits"))
		}
	}
	for d.closed == nil {
		_, unsigned, size := d.pool.Waiting()
		if unsigned == 0 || !all && size < fullMessage {
			break
		}
		m, err := d.pool.Cut(d.secret, d.messageTime())
		if err != nil {
			d.fail(err)
			break
		}
		done := make(chan struct{})
		durable = done
		d.log.signed(signed{msid: m.Msid, time: uint32(m.Time), count: uint32(m.Txs), signature: [64]byte(m.Raw[4:])}, func(err error) {
			defer close(done)
			if err != nil {
				go d.broken(err) // the caller of cut may hold app.mu
				return
			}
			d.durable.Store(m.Msid)
			d.wakeSender()
		})
	}
	return durable
}

// broken closes the desk because its log failed.
func (d *desk) broken(err error) {
	d.app.mu.Lock()
	defer d.app.mu.Unlock()
	d.fail(err)
}

// proposal signs all that waits and returns the messages that no block has, those that are durable.
func (d *desk) proposal() [][]byte {
	d.app.mu.Lock()
	durable := d.cut(true)
	d.app.mu.Unlock()
	if durable != nil {
		select {
		case <-durable:
		case <-time.After(proposeWait):
		}
	}
	var out [][]byte
	for _, m := range d.unexecuted() {
		out = append(out, m.Raw)
	}
	return out
}

// unexecuted are the messages that may be shown to others and are in no block here.
func (d *desk) unexecuted() []*ledger.Sent {
	d.app.mu.RLock()
	defer d.app.mu.RUnlock()
	if d.closed != nil {
		return nil
	}
	sent, durable := d.pool.Sent(), d.durable.Load()
	for i, m := range sent {
		if m.Msid > durable {
			return sent[:i]
		}
	}
	return sent
}

func (d *desk) wakeSender() {
	select {
	case d.sending <- struct{}{}:
	default:
	}
}

// sender puts messages into the mempool, from where they go to the validators, again after some blocks while they are in none. A node
// that is the only validator proposes them itself.
func (d *desk) sender() {
	sent := map[uint32]types.Height{}
	for {
		head, next := d.app.wait()
		d.announce(head.Height)
		d.accept()
		if !d.n.alone(head.Height) {
			d.sendDue(head.Height, sent)
		}
		select {
		case <-d.live.Done():
			return
		case <-d.sending:
		case <-next:
			if err := d.log.done(d.executedUpTo()); err != nil {
				d.logger.Warn("an old file of the office's log stays", "err", err)
			}
		}
	}
}

func (d *desk) sendDue(head types.Height, sent map[uint32]types.Height) {
	open := d.unexecuted()
	for msid := range sent {
		if len(open) == 0 || msid < open[0].Msid {
			delete(sent, msid)
		}
	}
	for _, m := range open {
		at, again := sent[m.Msid]
		if again && head < at+resendAfter {
			continue
		}
		if refusal, err := d.n.intoMempool(m.Raw); err != nil || refusal != nil {
			d.logger.Warn("a message does not get into the mempool yet", "msid", m.Msid, "refused", refusal, "err", err)
			return // those after it need it
		}
		sent[m.Msid] = head
	}
}

// executedUpTo is the number of the node's last message in a block that CometBFT has stored.
func (d *desk) executedUpTo() uint32 {
	d.app.mu.RLock()
	defer d.app.mu.RUnlock()
	return d.last()
}

// announce says in the next message where our office listens, when the ledger does not know it; and, so that the node counts as active,
// twice in a dividend period when it has nothing else to say.
func (d *desk) announce(head types.Height) {
	at := d.n.officeAt.Load()
	if at == nil {
		return
	}
	c := connectionOf(*at)
	d.app.mu.Lock()
	defer d.app.mu.Unlock()
	n, err := d.app.state.Node(d.node)
	idle := head > n.Active+types.Height(d.app.state.Genesis().DividendBlocks/2)
	if err != nil || d.closed != nil || (n.Port == c.Port && n.IPv4 == c.IPv4 && !idle) || d.announced != 0 && d.announced+announceAgain > head {
		return
	}
	d.announced = max(head, 1)
	d.speak(c.Bytes())
}

// accept puts our consent to the accounts that others' accounts ask for on this node into the next message. The ledger's rules have
// admitted them, and whoever asks has paid. What stands in a message already, also in one from before a restart, is not said again.
func (d *desk) accept() {
	d.app.mu.Lock()
	defer d.app.mu.Unlock()
	if d.closed != nil {
		return
	}
	var records [][]byte
	for _, a := range d.pool.Requests(maxAccepts) {
		records = append(records, a.Bytes(d.node, d.messageTime()))
	}
	d.speak(records...)
}

// maxAccepts bounds the accounts that are accepted after one block, 53 bytes each: so all requests that there can be are accepted well
// before they expire, and messages keep room for users.
const maxAccepts = 1024

// speak puts records of the node itself into its next messages. The caller holds app.mu.
func (d *desk) speak(records ...[]byte) {
	until := d.app.head.Height + d.promise
	var rows []promised
	for _, raw := range records {
		place, err := d.pool.Speak(raw)
		if err != nil {
			d.fail(err)
			return
		}
		d.enter(&rows, place, until, raw)
	}
	for _, row := range rows {
		d.log.admitted(row, func(err error) {
			if err != nil {
				go d.broken(err) // the caller holds app.mu
			}
		})
	}
	if len(rows) > 0 {
		d.wakeCutter()
	}
}

// announceAgain is after how many blocks an announcement that did not arrive is made once more: messages wait as long at most.
const announceAgain = 2 * minPromise

// connectionOf is an office's address as nodes announce it; without an IPv4 address that others could use, the port alone.
func connectionOf(addr string) ledger.Connection {
	var c ledger.Connection
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return c
	}
	c.Port = a.Port()
	if ip := a.Addr().Unmap(); ip.Is4() && !ip.IsUnspecified() {
		b := ip.As4()
		c.IPv4 = binary.LittleEndian.Uint32(b[:])
	}
	return c
}
