package channel_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

var rewrite = flag.Bool("rewrite", false, "write what happens into the scenario files, to be reviewed as a diff")

// TestScenarios plays testdata/*.txt: a line "> command" is done, the lines below it say what happened.
func TestScenarios(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.txt")
	if len(files) < 10 {
		t.Fatalf("only %d scenarios", len(files))
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(want))
			if *rewrite {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("differs from %s; got:\n%s", f, got)
			}
		})
	}
}

func play(t *testing.T, script string) string {
	st := newStage(t)
	var out strings.Builder
	for _, line := range strings.SplitAfter(script, "\n") {
		cmd, ok := strings.CutPrefix(line, "> ")
		if !ok {
			if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
				out.WriteString(line)
			}
			continue
		}
		out.WriteString(line)
		if err := st.do(strings.Fields(cmd)); err != nil {
			fmt.Fprintf(&out, "  error: %v\n", err)
		}
		for _, p := range []*party{st.a, st.b} {
			for _, l := range p.log {
				fmt.Fprintf(&out, "  %s %s\n", p.name, l)
			}
			p.log = nil
		}
		for _, r := range st.w.refused {
			fmt.Fprintf(&out, "  ledger refuses %s\n", r)
		}
		st.w.refused = nil
	}
	return out.String()
}

type stage struct {
	w      *world
	a, b   *party
	backup map[string][]byte
	start  map[string]types.Amount
}

func newStage(t tb) *stage {
	w := newWorld(t)
	st := &stage{w: w, a: w.party("alice", 1000*types.Coin), b: w.party("bob", 1000*types.Coin), backup: map[string][]byte{}}
	st.start = map[string]types.Amount{"alice": w.balance(st.a.account), "bob": w.balance(st.b.account)}
	return st
}

func (st *stage) who(name string) *party {
	if name == "bob" {
		return st.b
	}
	return st.a
}

func coins(s string) types.Amount {
	a, err := types.ParseAmount(s)
	if err != nil {
		panic(err)
	}
	return a
}

func preimage(name string) types.Preimage { return types.Preimage(types.SHA256([]byte(name))) }

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// do runs one command. Words after the name: party, then amounts in coins, names of preimages, numbers.
func (st *stage) do(f []string) error {
	arg := func(i int) string {
		if i < len(f) {
			return f[i]
		}
		return ""
	}
	p := st.who(arg(1))
	switch f[0] {
	case "open": // open MINE THEIRS: everything up to an open channel
		ready(st.a, st.b, coins(arg(1)), coins(arg(2)), wire.Rules{Dust: 10})
		st.a.log, st.b.log = nil, nil
		return nil
	case "propose": // propose MINE THEIRS: the first two messages only
		open(st.a, st.b, coins(arg(1)), coins(arg(2)), wire.Rules{Dust: 10})
		return nil
	case "pay":
		return p.step(channel.Propose{Ops: []wire.Op{wire.Pay{Amount: coins(arg(2))}}})
	case "payyield":
		return p.step(channel.ProposeAndYield{Ops: []wire.Op{wire.Pay{Amount: coins(arg(2))}}})
	case "lock": // lock PARTY AMOUNT PREIMAGE BLOCKS
		return p.step(channel.Propose{Ops: []wire.Op{wire.AddLock{Amount: coins(arg(2)), Hash: preimage(arg(3)).Hash(),
			Expiry: p.height + types.Height(number(arg(4)))}}})
	case "settle": // all that can be settled
		return p.step(channel.Propose{Ops: p.s.Settleable()})
	case "giveback":
		return p.step(channel.Propose{Ops: []wire.Op{wire.GiveBack{ID: uint64(number(arg(2)))}}})
	case "reveal":
		return p.step(channel.Reveal{Preimages: []types.Preimage{preimage(arg(2))}})
	case "ask":
		return p.step(channel.RequestTurn{})
	case "yield":
		return p.step(channel.GiveTurn{})
	case "close":
		return p.step(channel.Close{})
	case "force":
		return p.step(channel.ForceClose{})
	case "deliver": // deliver [PARTY [N]]
		if len(f) == 1 {
			deliverAll(st.a, st.b)
			return nil
		}
		for range max(1, number("0"+arg(2))) {
			p.deliver()
		}
	case "drop": // the next message to PARTY is lost
		p.inbox = p.inbox[1:]
	case "repeat": // the next message to PARTY comes twice
		p.inbox = append([][]byte{p.inbox[0]}, p.inbox...)
	case "cut":
		cut(st.a, st.b)
	case "join":
		join(st.a, st.b)
	case "crash":
		p.crash()
	case "backup":
		st.backup[p.name] = p.disk
	case "restore":
		p.disk = st.backup[p.name]
		p.crash()
		return p.step(channel.Restore{})
	case "sleep":
		p.asleep = true
	case "wake":
		p.asleep = false
		p.catchUp()
	case "post": // post PARTY VERSION: the cheater publishes an old version
		return st.cheat(p, uint32(number(arg(2))))
	case "mine":
		for range number(arg(1)) {
			st.w.mine(st.a, st.b)
		}
	case "renew": // renew N: a new epoch begins at version N
		st.a.renewAt, st.b.renewAt = uint32(number(arg(1))), uint32(number(arg(1)))
	case "expect":
		return st.expect(p, f[2:])
	default:
		return errors.New("no such command")
	}
	return nil
}

func (st *stage) cheat(p *party, version uint32) error {
	for _, v := range p.history {
		if v.Number == version {
			p.publish(v)
			return nil
		}
	}
	return fmt.Errorf("%s never held version %d", p.name, version)
}

// publish makes p submit any version that it ever held, as a cheater does: from a doctored state.
func (p *party) publish(v channel.Signed) {
	doctored := p.s
	doctored.Phase, doctored.Current, doctored.Held = channel.PhaseOpen, v.Version, v
	doctored.HasFinal = false
	_, fx, err := channel.Step(doctored, channel.ForceClose{}, p.env())
	if err != nil {
		p.w.t.Fatalf("cheat: %v", err)
	}
	for _, a := range fx.Chain {
		p.submit(a)
	}
}

// expect compares: phase, balance (mine theirs), locks, paid (what the contract paid back so far, less what was put in), turn.
func (st *stage) expect(p *party, f []string) error {
	var got string
	switch f[0] {
	case "phase":
		got = p.s.Phase.String()
	case "balance":
		got = p.s.Mine().String() + " " + p.s.Theirs().String()
	case "locks":
		got = strconv.Itoa(len(p.s.Current.Locks))
	case "version":
		got = fmt.Sprint(p.s.Current.Number)
	case "gain":
		got = (st.w.balance(p.account) - st.start[p.name]).String()
	case "turn":
		got = strconv.FormatBool(p.s.MyTurn())
	case "ready":
		got = strconv.FormatBool(p.s.Ready())
	}
	if want := strings.Join(f[1:], " "); got != want {
		st.w.t.Fatalf("%s %s: got %s, want %s", p.name, f[0], got, want)
	}
	return nil
}
