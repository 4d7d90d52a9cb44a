package escd

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	cmtlog "github.com/cometbft/cometbft/libs/log"
)

// logger passes CometBFT's messages on to slog. Its Info is a line per step of consensus, so that and Debug are dropped;
// its Error means anything from a peer that went away to a halt, so it becomes Warn, except for the halt.
type logger struct {
	to    *slog.Logger
	quiet *atomic.Bool // nothing is passed on while it is set
	// with is what every line carries. It is made text when there is a line: CometBFT's gossip calls With hundreds of times a second.
	with []any
}

var _ cmtlog.Logger = logger{}

func (l logger) Debug(string, ...any) {}
func (l logger) Info(string, ...any)  {}

func (l logger) Error(msg string, keyvals ...any) {
	if l.quiet.Load() {
		return
	}
	keyvals = append(slices.Clip(l.with), keyvals...)
	if strings.HasPrefix(msg, "CONSENSUS FAILURE") {
		l.to.Error("the ledger node has halted: "+msg, text(keyvals)...)
		return
	}
	l.to.Warn(msg, text(keyvals)...)
}

func (l logger) With(keyvals ...any) cmtlog.Logger {
	l.with = append(slices.Clip(l.with), keyvals...)
	return l
}

// maxLogValue bounds what one value (a peer's message, say) may add to a log line.
const maxLogValue = 300

// text bounds values and turns CometBFT's lazily printed ones into strings.
func text(keyvals []any) []any {
	out := make([]any, len(keyvals))
	for i, v := range keyvals {
		s, ok := v.(string)
		if !ok {
			s = fmt.Sprint(v)
		}
		if len(s) > maxLogValue {
			s = s[:maxLogValue] + "…"
		}
		out[i] = s
	}
	return out
}
