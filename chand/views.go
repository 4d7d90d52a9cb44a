package chand

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/route"
	"github.com/eschaton-network/chand/types"
)

// channelView is a channel as it is saved, for everybody to read. States are values that nobody changes.
type channelView struct {
	State  channel.State
	Info   chanRecord
	Linked bool
	Height types.Height
	Queued int
}

// publish shows the newest saved state.
func (r *runner) publish() {
	r.d.towers.client.Changed(r.state.ID, r.state.Held.Epoch, r.state.Held.Number)
	r.view.Store(&channelView{State: r.state, Info: r.info, Linked: r.linked, Height: r.height, Queued: len(r.queue)})
}

// lockOut is the channel as a way out for a forwarded lock.
func (d *Daemon) lockOut(v *channelView) route.LockOut {
	terms := d.ownTerms(&v.State)
	return route.LockOut{Channel: v.State.ID, Policy: &terms, CanSend: v.State.CanSend(), Online: v.Linked && v.State.Ready(),
		Timing: v.State.Timing, Frozen: v.State.Phase != channel.PhaseOpen}
}

// Deadline is a block and the clock time at which it is expected.
type Deadline struct {
	Block types.Height
	Time  types.Time
	// Left is the number of blocks to it; 0 when it has passed.
	Left uint32
}

// Deadline tells when a block is expected. The zero height gives nil.
func (d *Daemon) Deadline(h types.Height) *Deadline {
	if h == 0 {
		return nil
	}
	head, _ := d.Chain.Head()
	at := head.Time
	if at == 0 {
		at = d.now()
	}
	left := uint32(0)
	if h > head.Height {
		left = uint32(h - head.Height)
	}
	millis := uint64(d.Chain.Params().BlockMillis)
	if h >= head.Height {
		at += types.Time(uint64(h-head.Height) * millis / 1000)
	} else {
		at -= types.Time(uint64(head.Height-h) * millis / 1000)
	}
	return &Deadline{Block: h, Time: at, Left: left}
}

// States of a channel as shown.
const (
	ChannelOpening   = "opening"
	ChannelOpen      = "open"
	ChannelClosing   = "closing"
	ChannelDisputed  = "disputed"
	ChannelClosed    = "closed"
	ChannelAbandoned = "abandoned"
	ChannelStopped   = "stopped"
)

// Channel is what is shown of a channel.
type Channel struct {
	ID                   types.ChannelID
	Peer                 types.NodeID
	Connected            bool
	State, Text          string
	Mine, Theirs, Locked types.Amount
	Bound                types.Amount // of Mine, or put in: can't be used as the channel is opening or closing
	Capacity, PutIn      types.Amount
	CanSend, CanReceive  types.Amount
	Version, Epoch       uint32
	Locks                int
	Window               uint32
	WhoActs              string // "me", "peer", "ledger" or "nobody"
	Deadline             *Deadline
	Next                 string
	Posted               uint32
	Opened, Closed       types.Time
	MyTurn               bool
	FeeBase              types.Amount
	FeeMillionths        uint32
	Private              bool // never announced
	Fault                string
	Phase                channel.Phase
}

// show makes a view for people and programs.
func (v *channelView) show(d *Daemon) Channel {
	s := &v.State
	terms := d.ownTerms(s)
	c := Channel{ID: stateKey(s), Peer: s.Peer, Connected: d.peers.linked(s.Peer), Mine: s.Mine(), Theirs: s.Theirs(), Capacity: s.Capacity(), PutIn: s.Funding[s.Side],
		CanSend: s.CanSend(), CanReceive: s.CanReceive(), Version: s.Current.Number, Epoch: s.Current.Epoch, Locks: len(s.Current.Locks), Window: s.Timing.Window,
		Opened: v.Info.Opened, Closed: v.Info.Closed, MyTurn: s.MyTurn(), FeeBase: terms.Base, FeeMillionths: terms.Millionths, Private: v.Info.Private, Fault: v.Info.Fault, Phase: s.Phase,
		Posted: s.OnChain.Version, Locked: lockedIn(s), Bound: boundIn(s)}
	c.State, c.Text, c.WhoActs, c.Next = describePhase(s, v.Info.Fault)
	if at, what, ok := s.NextDeadline(); ok {
		c.Deadline = d.Deadline(at)
		c.Text += "; at block " + fmt.Sprint(at) + " " + what
	}
	if s.Phase == channel.PhaseOpen && !c.Connected {
		c.Text += "; the peer is not connected"
		c.Next = "chancli peer connect MULTIADDR; if the peer stays away: chancli channel close ID --force"
	}
	return c
}

// describePhase says where a channel stands, who acts next, and what a person can do.
func describePhase(s *channel.State, fault string) (state, text, who, next string) {
	switch s.Phase {
	case channel.PhaseProposed:
		return ChannelOpening, "proposed; the peer has not agreed yet; no money is bound", "peer", ""
	case channel.PhaseAccepted:
		return ChannelOpening, "agreed to; the peer has not signed yet; no money is bound", "peer", ""
	case channel.PhaseFunding:
		return ChannelOpening, "both have signed; the contract is on its way to the ledger", "ledger", ""
	case channel.PhaseOpen:
		if s.CloseAsked[s.Side] {
			return ChannelClosing, "an agreed close is asked for; open locks must end first", "peer", "if the peer stays silent: chancli channel close ID --force"
		}
		return ChannelOpen, "open", "nobody", ""
	case channel.PhaseFinishing:
		return ChannelClosing, "the agreed close is signed and on its way to the ledger", "ledger", ""
	case channel.PhaseClosing:
		text = "the newest version is on its way to the ledger"
		if fault != "" {
			return ChannelStopped, text + "; " + fault, "ledger", ""
		}
		return ChannelClosing, text, "ledger", ""
	case channel.PhasePosted:
		return ChannelDisputed, fmt.Sprintf("version %d is on the ledger and its dispute window runs", s.OnChain.Version), "ledger", "keep the daemon running until the window ends"
	case channel.PhaseSettled:
		return ChannelClosing, "the contract has paid out; open locks are settled on the ledger", "ledger", "keep the daemon running until the locks are settled"
	case channel.PhaseClosed:
		return ChannelClosed, "closed: nothing of it is left on the ledger", "nobody", ""
	}
	return ChannelAbandoned, "never opened: " + s.Why + "; nothing is locked", "nobody", ""
}

// Channels lists channels in the order of their ids; with closed also those that are over.
func (d *Daemon) Channels(closed bool) ([]Channel, error) {
	var list []Channel
	seen := map[types.ChannelID]bool{}
	for _, r := range d.allRunners() {
		v := r.view.Load()
		over := v.State.Phase == channel.PhaseClosed || v.State.Phase == channel.PhaseFailed
		seen[stateKey(&v.State)] = true
		if closed || !over {
			list = append(list, v.show(d))
		}
	}
	if !closed {
		return list, nil
	}
	err := d.Store.Scan(bucketChannel, "", func(key string, value []byte) error {
		if id, err := types.ParseHash(key); err == nil && seen[id] {
			return nil
		}
		v, err := d.readView(value, nil)
		if err == nil {
			list = append(list, v.show(d))
		}
		return err
	})
	for i := range list {
		if list[i].Closed != 0 || list[i].Opened != 0 {
			continue
		}
		if info, ok, err := load[chanRecord](d.Store, bucketChanInfo, list[i].ID.String()); err == nil && ok {
			list[i].Opened, list[i].Closed, list[i].Fault = info.Opened, info.Closed, info.Fault
		}
	}
	slices.SortFunc(list, func(a, b Channel) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return list, err
}

func (d *Daemon) readView(value []byte, info *chanRecord) (*channelView, error) {
	s, err := channel.Decode(value)
	if err != nil {
		return nil, err
	}
	v := &channelView{State: s}
	if info != nil {
		v.Info = *info
	}
	return v, nil
}

// Channel finds one, also when it is over.
func (d *Daemon) Channel(id types.ChannelID) (Channel, error) {
	if r := d.runner(id); r != nil {
		return r.view.Load().show(d), nil
	}
	value, err := d.Store.Get(bucketChannel, id.String())
	if err != nil || value == nil {
		return Channel{}, errors.Join(err, refuse(CodeNotFound, "see `channel list`", "no channel %s", id))
	}
	info, _, err := load[chanRecord](d.Store, bucketChanInfo, id.String())
	if err != nil {
		return Channel{}, err
	}
	v, err := d.readView(value, &info)
	if err != nil {
		return Channel{}, err
	}
	return v.show(d), nil
}

// Peer is what is shown of another daemon.
type Peer struct {
	ID                  types.NodeID
	Addr                string
	Connected, Inbound  bool
	Channels            int
	CanSend, CanReceive types.Amount
}

// Peers lists connected peers and those of our channels.
func (d *Daemon) Peers() []Peer {
	byID := map[types.NodeID]*Peer{}
	for _, p := range d.Transport.Peers() {
		byID[p.ID] = &Peer{ID: p.ID, Addr: p.Addr, Inbound: p.Inbound, Connected: true}
	}
	for _, r := range d.allRunners() {
		v := r.view.Load()
		p := byID[r.peer]
		if p == nil {
			p = &Peer{ID: r.peer}
			byID[r.peer] = p
		}
		p.Channels++
		p.CanSend += v.State.CanSend()
		p.CanReceive += v.State.CanReceive()
	}
	d.peers.mu.Lock()
	for id, p := range byID {
		if p.Addr == "" {
			p.Addr = d.peers.addrs[id]
		}
	}
	d.peers.mu.Unlock()
	list := make([]Peer, 0, len(byID))
	for _, p := range byID {
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b Peer) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return list
}

// Status is how the daemon is.
type Status struct {
	Node             types.NodeID
	Account          types.AccountID
	Balance          types.Amount
	Params           ledger.Params
	Head             ledger.BlockInfo
	Synced           bool
	Peers            int
	Open, Pending    int
	CanSend, Receive types.Amount
	// Locked is in open locks, Bound in channels that open or close: together what Deadlines lists.
	Locked, Bound types.Amount
	Warnings      []string
}

// Status sums up.
func (d *Daemon) Status() Status {
	s := Status{Node: d.ID(), Account: d.Account(), Params: d.Chain.Params(), Peers: len(d.Transport.Peers())}
	s.Head, s.Synced = d.Chain.Head()
	if !s.Account.IsZero() {
		if a, err := d.Chain.Account(s.Account); err == nil {
			s.Balance = a.Balance
		}
	} else {
		s.Warnings = append(s.Warnings, "this daemon has no ledger account yet: it can neither open channels nor send")
	}
	if !s.Synced {
		s.Warnings = append(s.Warnings, "the ledger as seen here is not fresh: nothing is opened or forwarded until it is")
	}
	for _, r := range d.allRunners() {
		c := r.view.Load().show(d)
		s.Locked += c.Locked
		s.Bound += c.Bound
		switch c.State {
		case ChannelOpen:
			s.Open++
			s.CanSend += c.CanSend
			s.Receive += c.CanReceive
		case ChannelDisputed, ChannelStopped:
			s.Warnings = append(s.Warnings, fmt.Sprintf("channel %s with %s: %s", c.ID, c.Peer, c.Text))
			s.Pending++
		case ChannelClosed, ChannelAbandoned:
		default:
			s.Pending++
		}
	}
	return s
}

// AccountState is an account of the ledger, and for our own what is on its way.
type AccountState struct {
	ledger.Account
	Pending types.Amount
	Height  types.Height
}

// LedgerAccount reads any account; the zero id is our own.
func (d *Daemon) LedgerAccount(id types.AccountID) (AccountState, error) {
	if id.IsZero() {
		if err := d.needAccount(); err != nil {
			return AccountState{}, err
		}
		id = d.Account()
	}
	head, _ := d.Chain.Head()
	a, err := d.Chain.Account(id)
	if errors.Is(err, ledger.ErrNotFound) {
		return AccountState{}, refuse(CodeNotFound, "check the address", "account %s does not exist", id)
	}
	out := AccountState{Account: a, Height: head.Height}
	if id == d.Account() {
		out.Pending = types.Amount(d.account.outgoing.Load())
	}
	return out, err
}

func (d *Daemon) channelOpened(r *runner) {
	d.emit("channel.open", "channel "+r.state.ID.String()+" is open", r.view.Load().show(d))
}

func (d *Daemon) phaseChanged(r *runner, to channel.Phase) {
	if to == channel.PhaseOpen {
		return // channelOpened says it
	}
	c := r.view.Load().show(d)
	d.emit("channel."+c.State, "channel "+c.ID.String()+": "+c.Text, c)
}

func (d *Daemon) channelClosed(r *runner, agreed bool) {
	how := "by force"
	if agreed {
		how = "in agreement"
	}
	d.emit("account", "channel "+r.state.ID.String()+" closed "+how, nil)
}

var errEnough = errors.New("enough")

func enough(err error) error {
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}
