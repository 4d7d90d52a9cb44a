package escd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// joinTimeout bounds the wait for a daemon that was never reached before: its genesis document is needed to start.
const joinTimeout = 20 * time.Second

// findGenesis returns the ledger's genesis document: the one pinned in the home, with which everything that the operator names must
// agree, or on the first start the operator's file, the joined daemon's, or a new one of our own.
func findGenesis(ctx context.Context, c Config, peers *peers) (ledger.Genesis, error) {
	g, err := readGenesis(filepath.Join(c.Home, genesisFile))
	first := errors.Is(err, fs.ErrNotExist)
	switch {
	case first && c.GenesisFile != "":
		g, err = readGenesis(c.GenesisFile)
	case first && c.Join != "":
		g, err = firstGenesis(ctx, peers.all[0].office, peers.asked, c.Logger)
	case first && len(c.Peers) > 0:
		return g, errors.New("peers are given, but neither a genesis document nor a daemon to join that would have it: " +
			"give one of them; a ledger of one's own needs no peers to start")
	case first:
		g, err = newGenesis(c, time.Now())
	}
	if err != nil {
		return g, err
	}
	if err := agrees(c, g, peers.asked); err != nil {
		return g, err
	}
	if homeNode(g, ledger.PublicKey(c.LedgerNodeSecret)) == 0 && len(peers.all) == 0 {
		return g, fmt.Errorf("the ledger in %s (chain %s) is not this daemon's own: none of its nodes has our ledger node key; "+
			"give the address of a daemon of that ledger, or use another home to start a ledger", c.Home, g.ChainID)
	}
	if first {
		err = writeGenesis(c.Home, g)
	}
	return g, err
}

// agrees compares the document with what the operator names. The file is not needed after the first start; while it is
// there it must not say something else than what is followed.
func agrees(c Config, g ledger.Genesis, want types.Hash) error {
	hash, err := g.Hash()
	if err != nil {
		return err
	}
	if !want.IsZero() && want != hash {
		return otherLedger(hash, g, want.String())
	}
	if c.GenesisFile == "" {
		return nil
	}
	given, err := readGenesis(c.GenesisFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if other, err := given.Hash(); err != nil || other != hash {
		return errors.Join(err, otherLedger(hash, g, fmt.Sprintf("%s (chain %s) of %s", other, given.ChainID, c.GenesisFile)))
	}
	return nil
}

func otherLedger(hash types.Hash, g ledger.Genesis, asked string) error {
	return fmt.Errorf("this home follows the ledger with genesis %s (chain %s), asked for was %s; "+
		"its money is on the former: use another home for another ledger", hash, g.ChainID, asked)
}

// newGenesis is the document of a ledger of this daemon alone: its node is the only validator and ledger node 1, and account
// 0001-00000000 belongs to the daemon.
func newGenesis(c Config, now time.Time) (ledger.Genesis, error) {
	var unique [8]byte
	rand.Read(unique[:])
	g := ledger.Genesis{
		ChainID:     "chand-" + hex.EncodeToString(unique[:]),
		Time:        types.Time(now.Unix()),
		BlockMillis: c.BlockMillis,
		DirectDelay: c.DirectDelay,
		Nodes:       []ledger.GenesisNode{{PublicKey: ledger.PublicKey(c.LedgerNodeSecret), Account0: ledger.PublicKey(c.AccountSecret)}},
	}
	b, err := g.Bytes() // defaults are filled in
	if err != nil {
		return g, err
	}
	return ledger.ParseGenesis(b)
}

// firstGenesis asks the joined daemon until joinTimeout. The document is checked against the hash, or trusted at first use when there is none.
func firstGenesis(ctx context.Context, office *Client, want types.Hash, log *slog.Logger) (ledger.Genesis, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	for {
		g, err := office.Genesis(ctx)
		if err == nil {
			got, err := g.Hash()
			switch {
			case err != nil:
				return g, err
			case want.IsZero():
				log.Warn("trusting the genesis document of the joined daemon at first use; compare the hash with one from another source",
					"office", office.addr, "genesis", got, "chain", g.ChainID)
			case got != want:
				return g, fmt.Errorf("the daemon at %s runs the ledger with genesis %s, asked for was %s; nothing was stored", office.addr, got, want)
			}
			return g, nil
		}
		select {
		case <-ctx.Done():
			return g, fmt.Errorf("no genesis document from the daemon at %s: %w; start that daemon, or correct the address", office.addr, err)
		case <-time.After(redialEvery):
		}
	}
}

// readGenesis reads a document; the error wraps fs.ErrNotExist when there is none.
func readGenesis(path string) (ledger.Genesis, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return ledger.Genesis{}, err
	}
	g, err := ledger.ParseGenesis(b)
	if err != nil {
		return g, fmt.Errorf("%s: %w", path, err)
	}
	return g, nil
}

func writeGenesis(home string, g ledger.Genesis) error {
	b, err := g.Bytes()
	if err != nil {
		return err
	}
	return writeBytes(filepath.Join(home, genesisFile), b)
}

// homeNode finds this daemon's ledger node in the genesis document: its number, or 0.
func homeNode(g ledger.Genesis, nodeKey [32]byte) uint16 {
	for i, n := range g.Nodes {
		if n.PublicKey == nodeKey {
			return uint16(i + 1)
		}
	}
	return 0
}

// hints is what peers.json holds: offices and the p2p addresses that they told last.
type hints map[string]string

func readHints(home string) hints {
	h := hints{}
	if b, err := os.ReadFile(filepath.Join(home, peersFile)); err != nil || strict(b, &h) != nil {
		return hints{}
	}
	return h
}

func (h hints) write(home string) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return writeBytes(filepath.Join(home, peersFile), b)
}
