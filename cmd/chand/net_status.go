package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/eschaton-network/chand/chain/escd"
	"github.com/eschaton-network/chand/internal/devnet"
	"github.com/eschaton-network/chand/internal/homelock"
	"github.com/eschaton-network/chand/ledger"
)

// nodeState is what `chand net status` says of a node.
type nodeState struct {
	Name string `json:"name"`
	Home string `json:"home"`
	// PID is 0 while the node is down.
	PID int `json:"pid"`
	// Office and RPC are HOST:PORT, from the node's settings.
	Office string `json:"office"`
	RPC    string `json:"rpc"`
	// Answers is true when the office answered; the rest is what it said.
	Answers bool   `json:"answers"`
	Height  uint32 `json:"height"`
	Hash    string `json:"hash"`
	Fresh   bool   `json:"fresh"`
	// Problem says why something of the above is missing.
	Problem string `json:"problem,omitempty"`
}

func (s nodeState) word() string {
	switch {
	case s.PID == 0:
		return "down"
	case !s.Answers:
		return "starting"
	case !s.Fresh:
		return "waiting"
	}
	return "running"
}

// note explains a state that is not the usual one.
func (s nodeState) note() string {
	if s.word() == "waiting" {
		return "; no new block yet: are more than two thirds of the validators up? See `chand net status`"
	}
	return ""
}

func netStatus(dir *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "who runs, at which block, and where",
		Long: `States: running, down, starting (its office does not answer yet), waiting (no new block for several block times, or it is
still catching up).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := filepath.Abs(*dir)
			if err != nil {
				return err
			}
			n := &network{Net: &devnet.Net{Dir: path}, out: cmd.OutOrStdout()} // it changes nothing, and needs no lock
			if !asJSON {
				return n.print(cmd.Context())
			}
			names, err := n.names()
			if err != nil {
				return err
			}
			enc := json.NewEncoder(n.out)
			enc.SetIndent("", "  ")
			return enc.Encode(n.states(cmd.Context(), names))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON, for programs")
	return cmd
}

// askLimit bounds how long a node's office is asked.
const askLimit = 2 * time.Second

// states asks all nodes at a time.
func (n *network) states(ctx context.Context, names []string) []nodeState {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	out := make([]nodeState, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() { out[i] = n.state(ctx, name) })
	}
	wg.Wait()
	return out
}

func (n *network) state(ctx context.Context, name string) nodeState {
	s := nodeState{Name: name, Home: filepath.Join(n.Dir, name)}
	fail := func(err error) nodeState { s.Problem = err.Error(); return s }
	raw, err := os.ReadFile(filepath.Join(s.Home, configName))
	if err != nil {
		return fail(err)
	}
	values, err := parseConfig(raw)
	if err != nil {
		return fail(err)
	}
	s.Office, s.RPC = values["ledger.office"], values["rpc.listen"]
	if s.PID, err = homelock.Holder(s.Home); err != nil || s.PID == 0 {
		if err != nil {
			return fail(err)
		}
		return s
	}
	office := escd.NewClient(s.Office)
	defer office.Close()
	info, err := office.Info(ctx)
	if err != nil {
		return fail(err)
	}
	s.Answers, s.Height, s.Hash, s.Fresh = true, uint32(info.Height), info.Hash.String(), info.Fresh
	return s
}

// print writes the table of nodes.
func (n *network) print(ctx context.Context) error {
	raw, err := os.ReadFile(filepath.Join(n.Dir, netGenesis))
	if err != nil {
		return fmt.Errorf("there is no network in %s (%w): make one with `chand net up --dir %s`, or name another folder with --dir", n.Dir, err, n.Dir)
	}
	g, err := ledger.ParseGenesis(raw)
	if err != nil {
		return err
	}
	names, err := n.names()
	if err != nil {
		return err
	}
	fmt.Fprintf(n.out, "Ledger %s: %d nodes, a block every %s; genesis in %s\n", g.ChainID, len(g.Nodes),
		time.Duration(g.BlockMillis)*time.Millisecond, filepath.Join(n.Dir, netGenesis))
	w := tabwriter.NewWriter(n.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATE\tPROCESS\tBLOCK\tOFFICE\tRPC\tHOME")
	for _, s := range n.states(ctx, names) {
		pid, block := "-", "-"
		if s.PID != 0 {
			pid = fmt.Sprint(s.PID)
		}
		if s.Answers {
			block = fmt.Sprint(s.Height)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, s.word(), pid, block, s.Office, s.RPC, s.Home)
	}
	return w.Flush()
}
