package escd

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/cometbft/cometbft/consensus"
	cmttime "github.com/cometbft/cometbft/types/time"
)

// markLog makes CometBFT's log of consensus messages go on after a block. At a start CometBFT looks there for the block's end and
// takes up again what this validator has signed since. Blocks that came from an office, and states that came from a snapshot, are
// not in the log; without the mark, votes of the block after them would be lost with the process, and the validator could
// not sign others in their place: a ledger that needs its vote would stand still. Nothing uses the log meanwhile.
func markLog(path string, height int64) error {
	if height == 0 { // CometBFT marks the start of a new log itself
		return nil
	}
	if ok, err := logHasEnd(path, height); ok || err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return writeFile(path, func(f *os.File) error { // what was in it concerns blocks that are final
		return consensus.NewWALEncoder(f).Encode(&consensus.TimedWALMessage{Time: cmttime.Now(), Msg: consensus.EndHeightMessage{Height: height}})
	})
}

// logFile is the name of an older part of the log; the newest has no number.
var logFile = regexp.MustCompile(`\.([0-9]{3,})$`)

// logHasEnd tells whether the log has the end of a block, looking as far back as CometBFT does.
func logHasEnd(path string, height int64) (bool, error) {
	older, err := filepath.Glob(path + ".*")
	if err != nil {
		return false, err
	}
	number := func(name string) int {
		if m := logFile.FindStringSubmatch(name); m != nil {
			if n, err := strconv.Atoi(m[1]); err == nil {
				return n
			}
		}
		return -1
	}
	older = slices.DeleteFunc(older, func(name string) bool { return number(name) < 0 })
	slices.SortFunc(older, func(a, b string) int { return number(b) - number(a) })
	for _, name := range append([]string{path}, older...) {
		last, err := lastEnd(name, height)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return false, err
		case last >= 0:
			return last == height, nil
		}
	}
	return false, nil
}

// lastEnd is the end of the given block if a file of the log has it, else the last one in the file, or -1 if there is none.
func lastEnd(name string, height int64) (last int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return -1, err
	}
	defer f.Close()
	last = -1
	for dec := consensus.NewWALDecoder(f); ; {
		msg, err := dec.Decode()
		switch {
		case err == io.EOF:
			return last, nil
		case consensus.IsDataCorruptionError(err):
			continue // CometBFT looks behind it too, and repairs what is damaged after the mark
		case err != nil:
			return -1, err
		}
		if end, ok := msg.Msg.(consensus.EndHeightMessage); ok {
			if last = end.Height; last == height {
				return last, nil
			}
		}
	}
}
