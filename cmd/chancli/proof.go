package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/eschaton-network/chand/chain/escd/light"
	"github.com/eschaton-network/chand/ledger"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
)

// maxRawTx bounds a file with a transaction.
const maxRawTx = ledger.MaxTx

func (a *app) proofCommand() *cobra.Command {
	c := &cobra.Command{Use: "proof", Short: "write a proof of a fact of the ledger that anybody can check offline",
		Long: "The proof is one file. Whoever has the ledger's genesis document checks it with `chancli verify --offline FILE`; docs/proofs.md says how by hand."}
	of := func(use, short string, make func(what string) *chandv1.GetProofRequest) {
		var out string
		sub := &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			return a.prove(cmd, make(args[0]), out)
		}}
		sub.Flags().StringVar(&out, "out", "", "write the proof to this new `FILE` and say what it proves (default: print the proof)")
		c.AddCommand(sub)
	}
	of("account ADDRESS", "an account's balance, key and number after the newest block", func(s string) *chandv1.GetProofRequest {
		return &chandv1.GetProofRequest{Of: &chandv1.GetProofRequest_Account{Account: s}}
	})
	of("transaction ID_OR_PLACE", "that a block holds a transaction; a place is NNNN:MMMMMMMM:PPPP", func(s string) *chandv1.GetProofRequest {
		return &chandv1.GetProofRequest{Of: &chandv1.GetProofRequest_Transaction{Transaction: s}}
	})
	of("anchor HASH", "that a transaction in a block anchors a hash", func(s string) *chandv1.GetProofRequest {
		return &chandv1.GetProofRequest{Of: &chandv1.GetProofRequest_Anchor{Anchor: s}}
	})
	of("contract ID", "a contract's state after the newest block, or that there never was one", func(s string) *chandv1.GetProofRequest {
		return &chandv1.GetProofRequest{Of: &chandv1.GetProofRequest_Contract{Contract: s}}
	})
	return c
}

// prove asks for a proof, checks it as a stranger would, and writes it.
func (a *app) prove(cmd *cobra.Command, r *chandv1.GetProofRequest, out string) error {
	d, err := a.daemon()
	if err != nil {
		return err
	}
	v, err := d.Ledger.GetProof(cmd.Context(), r)
	if err != nil {
		return err
	}
	trust, err := a.trust("")
	if err != nil {
		return err
	}
	proven, err := checkProof(trust, v.Proof)
	if err != nil {
		return err
	}
	if out == "" {
		_, err = a.out.Write(v.Proof)
		return err
	}
	if err := createFile(out, v.Proof); err != nil {
		return err
	}
	return a.showProven(proven, out)
}

// provenFile is what a proof file was found to prove.
type provenFile struct {
	File    string `json:"file"`
	Proven  bool   `json:"proven"`
	ChainID string `json:"chain_id"`
	Genesis string `json:"genesis"`
	Height  uint32 `json:"height"`
	Time    string `json:"time"`
	Account string `json:"account,omitempty"`
	Balance string `json:"balance,omitempty"`
	// Transaction is an id, Place where it stands; empty for a direct one.
	Transaction string `json:"transaction,omitempty"`
	Place       string `json:"place,omitempty"`
	Anchor      string `json:"anchor,omitempty"`
	Contract    string `json:"contract,omitempty"`
	Text        string `json:"text"`
}

func (a *app) showProven(p light.Proven, file string) error {
	v := provenFile{File: file, Proven: true, ChainID: p.ChainID, Genesis: p.Genesis.String(), Height: uint32(p.Height),
		Time: p.Time.Std().UTC().Format("2006-01-02T15:04:05Z"), Text: p.Sentence()}
	switch {
	case p.Tx != nil:
		v.Transaction = p.Tx.ID.String()
		if p.Place.Node != 0 {
			v.Place = p.Place.String()
		}
		if p.Anchor != nil {
			v.Anchor = p.Anchor.String()
		}
	case !p.Account.IsZero():
		v.Account, v.Balance = p.Account.String(), p.Record.Balance.String()
	default:
		v.Contract = p.ContractID.String()
	}
	return a.showValue(v, func() { fmt.Fprintln(a.out, clean(v.Text)) })
}

func (a *app) verifyCommand() *cobra.Command {
	var alone bool
	var genesis string
	c := &cobra.Command{Use: "verify FILE", Short: "check a proof file of `chancli proof` and say what it proves", Args: cobra.ExactArgs(1),
		Long: "The file is checked against the ledger's genesis document and nothing else. Without --offline the running daemon is asked besides whether it has\n" +
			"the same block.",
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := readLimited(args[0], light.MaxProof)
			if err != nil {
				return err
			}
			trust, err := a.trust(genesis)
			if err != nil {
				return err
			}
			proven, err := checkProof(trust, b)
			if err != nil {
				return err
			}
			if !alone {
				if err := a.sameBlock(cmd, proven); err != nil {
					return err
				}
			}
			return a.showProven(proven, args[0])
		}}
	c.Flags().BoolVar(&alone, "offline", false, "ask nobody")
	c.Flags().StringVar(&genesis, "genesis", "", "the ledger's genesis document (default: the one in --home)")
	return c
}

// sameBlock holds a proof against the ledger that the daemon follows.
func (a *app) sameBlock(cmd *cobra.Command, p light.Proven) error {
	d, err := a.daemon()
	if err != nil {
		return err
	}
	b, err := d.Ledger.GetBlock(cmd.Context(), &chandv1.GetLedgerBlockRequest{Height: uint32(p.Height) + 1})
	if err != nil {
		return err
	}
	if b.Hash != p.Next.String() {
		return fail("not_proven", "the validators have signed two histories: keep the file, it is evidence against them",
			"block %d of the proof is %s, the daemon has %s", b.Height, p.Next, b.Hash)
	}
	return nil
}

func checkProof(trust light.Trust, b []byte) (light.Proven, error) {
	p, err := light.DecodeProof(b)
	if err != nil {
		return light.Proven{}, fail("bad_proof", "take the file as `chancli proof` wrote it", "%v", err)
	}
	proven, err := trust.VerifyProof(p)
	if err != nil {
		return proven, fail("not_proven", "do not rely on the file; ask who made it for another, and see that the genesis document is the right one", "the proof does not hold: %v", err)
	}
	return proven, nil
}

// trust reads the genesis document that a proof is checked against; without a path the one in the home.
func (a *app) trust(path string) (light.Trust, error) {
	if path == "" {
		path = filepath.Join(a.home, genesisPlace)
	}
	doc, err := readLimited(path, ledger.MaxGenesis)
	if err != nil {
		return light.Trust{}, fail("no_genesis", "give the ledger's genesis document with --genesis", "the validators to trust are not known: %v", err)
	}
	trust, err := light.ParseGenesis(doc)
	if err != nil {
		return trust, fail("bad_genesis", "give the ledger's genesis document with --genesis", "%s: %v", path, err)
	}
	return trust, nil
}

// readLimited reads a file of at most max bytes.
func readLimited(path string, max int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fail("file_unreadable", "check the name", "%v", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, max+1))
	if err == nil && int64(len(b)) > max {
		err = fmt.Errorf("%s is longer than %d bytes", path, max)
	}
	if err != nil {
		return nil, fail("file_unreadable", "check the name", "%v", err)
	}
	return b, nil
}
