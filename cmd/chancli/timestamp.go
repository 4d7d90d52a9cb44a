package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/eschaton-network/chand/internal/offline"
	chandv1 "github.com/eschaton-network/chand/rpc/gen/chand/v1"
	"github.com/eschaton-network/chand/timestamp"
)

const proofSuffix = ".ots"

func (a *app) timestampCommand() *cobra.Command {
	c := &cobra.Command{Use: "timestamp", Short: "prove that a file existed before a block"}
	c.AddCommand(a.timestampStamp(), a.timestampUpgrade(), a.timestampVerify())
	return c
}

// stamped is the answer of stamp and upgrade.
type stamped struct {
	Proof    string `json:"proof"`
	Digest   string `json:"digest,omitempty"`
	Complete bool   `json:"complete"`
	Changed  bool   `json:"changed"`
	Expected string `json:"expected,omitempty"`
	Text     string `json:"text,omitempty"`
}

func (a *app) timestampStamp() *cobra.Command {
	return &cobra.Command{Use: "stamp FILE", Short: "stamp a file; writes FILE.ots. The file itself goes nowhere", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		proof := args[0] + proofSuffix
		if _, err := os.Lstat(proof); err == nil {
			return proofExists(proof)
		}
		digest, err := digestOf(args[0])
		if err != nil {
			return err
		}
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Timestamps.Stamp(cmd.Context(), &chandv1.StampRequest{Digest: digest})
		if err != nil {
			return err
		}
		if err := createFile(proof, v.Ots); err != nil {
			return err
		}
		s := stamped{Proof: proof, Digest: digest, Changed: true}
		if v.Expected != nil {
			s.Expected = v.Expected.AsTime().Format("2006-01-02T15:04:05Z")
		}
		return a.showValue(s, func() {
			fmt.Fprintf(a.out, "wrote %s; complete it with `chancli timestamp upgrade %s`, from about %s on\n", clean(proof), clean(proof), clock(v.Expected))
		})
	}}
}

func (a *app) timestampUpgrade() *cobra.Command {
	return &cobra.Command{Use: "upgrade FILE.ots", Short: "complete a proof once its batch is anchored", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		raw, err := readProof(args[0])
		if err != nil {
			return err
		}
		d, err := a.daemon()
		if err != nil {
			return err
		}
		v, err := d.Timestamps.Upgrade(cmd.Context(), &chandv1.UpgradeRequest{Ots: raw})
		if err != nil {
			return err
		}
		if v.Changed {
			if _, err := timestamp.DecodeDetached(v.Ots); err != nil {
				return fail("bad_proof", "keep the file as it is", "the daemon answered with no proof: %v", err)
			}
			if err := replaceFile(args[0], v.Ots); err != nil {
				return err
			}
		}
		if err := a.showValue(stamped{Proof: args[0], Complete: v.Complete, Changed: v.Changed, Text: v.Text}, func() { fmt.Fprintln(a.out, clean(v.Text)) }); err != nil || v.Complete {
			return err
		}
		return fail("timestamp_pending", "try again later", "the proof is not complete yet: %s", v.Text)
	}}
}

func (a *app) timestampVerify() *cobra.Command {
	var alone bool
	var genesis, proof string
	c := &cobra.Command{Use: "verify FILE", Short: "check FILE against FILE.ots", Args: cobra.ExactArgs(1),
		Long: "With --offline no daemon and no network is asked: the signatures in the proof are checked against the validators that the\n" +
			"ledger's genesis document names.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if proof == "" {
				proof = args[0] + proofSuffix
			}
			raw, err := readProof(proof)
			if err != nil {
				return err
			}
			var v *chandv1.VerifyResponse
			if alone {
				v, err = a.verifyOffline(args[0], raw, genesis)
			} else {
				v, err = a.verifyOnline(cmd, args[0], raw)
			}
			if err != nil {
				return err
			}
			if err := a.show(v, func() { a.findings(v) }); err != nil || v.Valid {
				return err
			}
			return fail("not_proven", "upgrade the proof, or see what is wrong with it", "%s", v.Text)
		}}
	c.Flags().BoolVar(&alone, "offline", false, "ask nobody")
	c.Flags().StringVar(&genesis, "genesis", "", "with --offline: the ledger's genesis document (default: the one in --home)")
	c.Flags().StringVar(&proof, "proof", "", "the proof (default FILE.ots)")
	return c
}

func (a *app) verifyOnline(cmd *cobra.Command, file string, raw []byte) (*chandv1.VerifyResponse, error) {
	digest, err := digestOf(file)
	if err != nil {
		return nil, err
	}
	d, err := a.daemon()
	if err != nil {
		return nil, err
	}
	return d.Timestamps.Verify(cmd.Context(), &chandv1.VerifyRequest{Digest: digest, Ots: raw})
}

func (a *app) findings(v *chandv1.VerifyResponse) {
	fmt.Fprintln(a.out, clean(v.Text))
	for _, f := range v.Attestations {
		if v.Valid && f.Kind == "pending" {
			continue // the promise was kept, or another proof was enough
		}
		fmt.Fprintf(a.out, "  %s: %s\n", f.Kind, clean(f.Text))
	}
}

// genesisPlace is where a daemon's home has the genesis document of its ledger.
const genesisPlace = "ledger/genesis.json"

func (a *app) verifyOffline(file string, raw []byte, genesis string) (*chandv1.VerifyResponse, error) {
	trust, err := a.trust(genesis)
	if err != nil {
		return nil, err
	}
	proof, err := timestamp.DecodeDetached(raw)
	if err != nil {
		return nil, fail("bad_proof", "take the proof that was written for this file", "%v", err)
	}
	if proof.HashOp != timestamp.OpSHA256 {
		return nil, fail("bad_proof", "verify it with another tool", "the proof is for a digest other than SHA-256")
	}
	digest, err := digestOf(file)
	if err != nil {
		return nil, err
	}
	sum, err := hex.DecodeString(digest)
	if err != nil {
		return nil, err
	}
	result, err := timestamp.Verify(proof, sum, offline.Headers{Trust: trust})
	if errors.Is(err, timestamp.ErrOtherFile) {
		return nil, fail("other_file", "the file was changed, or the proof belongs to another one", "%v", err)
	} else if err != nil {
		return nil, err
	}
	return verdict(result, trust.ChainID), nil
}

// createFile writes a file that must not be there yet; it appears whole or not at all.
func createFile(path string, b []byte) error {
	f, err := tempBeside(path)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Link(f.Name(), path) // fails when path exists
	}
	if errors.Is(err, fs.ErrExist) {
		return proofExists(path)
	}
	return writeFailed(err)
}

func replaceFile(path string, b []byte) error {
	f, err := tempBeside(path)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	return writeFailed(err)
}

func tempBeside(path string) (*os.File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err == nil {
		err = f.Chmod(0o644)
	}
	return f, writeFailed(err)
}

func writeFailed(err error) error {
	if err == nil {
		return nil
	}
	return fail("file_unwritable", "check the place and try again", "%v", err)
}

func proofExists(path string) error {
	next := "choose another name, or move it away"
	if strings.HasSuffix(path, proofSuffix) {
		next = "move it away, or complete it with `chancli timestamp upgrade " + path + "`"
	}
	return fail("proof_exists", next, "%s is there already and is not overwritten", path)
}

func readProof(path string) ([]byte, error) { return readLimited(path, timestamp.MaxFile) }

// digestOf hashes a file of any size as a stream.
func digestOf(path string) (string, error) {
	f, err := os.Open(path)
	if err == nil {
		defer f.Close()
		h := sha256.New()
		if _, err = io.Copy(h, f); err == nil {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
	}
	return "", fail("file_unreadable", "check the name", "%v", err)
}

// verdict says an offline result in the words of the schema.
func verdict(r timestamp.Result, chainID string) *chandv1.VerifyResponse {
	v := &chandv1.VerifyResponse{Valid: r.Proven, Text: r.Sentence}
	for _, f := range r.Findings {
		x := &chandv1.Attestation{Valid: f.Status == timestamp.Proven, Text: strings.TrimSpace(f.Text)}
		switch at := f.Attestation.(type) {
		case timestamp.Ledger:
			x.Kind, x.ChainId, x.Block = "chand-ledger", chainID, uint32(at.Height)
		case timestamp.Bitcoin:
			x.Kind, x.Block = "bitcoin", at.Height
		case timestamp.Pending:
			x.Kind, x.Uri = "pending", at.URI
		default:
			x.Kind = "unknown"
		}
		if x.Valid {
			x.Time = timestamppb.New(f.Header.Time.Std())
		}
		v.Attestations = append(v.Attestations, x)
	}
	return v
}
