package channel_test

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// The executable model of the timing rules (docs/channels.md, "Numbers"): honest B forwards from A to C over two contracts, A and C
// collude and delay whatever B submits; B may be down, or be restored from an old backup. Amounts are small integers and
// fees are zero. With all rules on B never ends with less than it started with; with any one off some history has a loss, which
// shows that the check could fail.
const (
	margin  = 2                               // m: worst inclusion delay
	react   = 3                               // r: longest time that B may be down
	window  = react + margin + 2              // D: the shortest safe dispute window
	delta   = window + 3*margin + 2*react + 1 // upstream expiry minus downstream expiry
	jump    = 1000                            // stands for the new epoch after a restore
	runs    = 1500
	endless = 1 << 30
)

type rule string

var allRules = []rule{"reserve from what came", "watch", "delta", "hold before give back", "claim in time", "close in time", "freeze", "epoch", "replace with the best"}

type mLock struct{ key, amount, payer, expiry int }

type mVersion struct {
	number, signer int
	balance        [2]int
	locks          []mLock
}

func (v mVersion) has(l mLock) bool { return slices.Contains(v.locks, l) }

func (v mVersion) without(l mLock) []mLock {
	return slices.DeleteFunc(slices.Clone(v.locks), func(o mLock) bool { return o == l })
}

// mContract is one contract on chain and the versions that each side holds (signed by the other).
type mContract struct {
	capacity int
	held     [2][]mVersion
	now      mVersion
	posted   *mVersion
	deadline int
	settled  bool
	paid     [2]int
	open     map[int]mLock
}

func newContract(x, y int) *mContract {
	c := &mContract{capacity: x + y, now: mVersion{1, 0, [2]int{x, y}, nil}, open: map[int]mLock{}}
	c.held = [2][]mVersion{{{1, 1, [2]int{x, y}, nil}}, {c.now}}
	return c
}

func (c *mContract) update(signer, x, y int, locks []mLock) {
	c.now = mVersion{c.now.number + 1, signer, [2]int{x, y}, locks}
	c.held[1-signer] = append(c.held[1-signer], c.now)
}

func newest(list []mVersion) mVersion {
	return slices.MaxFunc(list, func(a, b mVersion) int { return a.number - b.number })
}

func (c *mContract) post(v mVersion, height int) {
	if c.settled || c.posted != nil && v.number <= c.posted.number {
		return
	}
	if c.posted == nil {
		c.deadline = height + window
	}
	c.posted = &v
}

func (c *mContract) settle(height int) {
	if c.posted == nil || c.settled || height < c.deadline {
		return
	}
	c.settled, c.paid = true, c.posted.balance
	for _, l := range c.posted.locks {
		c.open[l.key] = l
	}
}

func (c *mContract) take(key, height int, claim bool) {
	l, ok := c.open[key]
	switch {
	case !ok:
	case claim:
		c.paid[1-l.payer] += l.amount
		delete(c.open, key)
	case height >= l.expiry:
		c.paid[l.payer] += l.amount
		delete(c.open, key)
	}
}

type mPath struct{ up, down mLock }

type mWorld struct {
	rng                    *rand.Rand
	off                    rule
	h, end, asleep         int
	ab, bc                 *mContract // sides: A=0, B=1 and B=0, C=1
	known, asked, revealed map[int]bool
	queue                  []mAction
	done                   map[[3]int]bool
	paths                  map[int]mPath
	keys                   []int
	added                  map[int]int
	mood                   float64
	restoring, restored    bool
	past                   mVersion
	spent                  int
}

type mAction struct {
	at int
	do func()
}

func newModel(seed uint64, off rule) *mWorld {
	rng := rand.New(rand.NewPCG(seed, 99))
	return &mWorld{rng: rng, off: off, ab: newContract(60, 40), bc: newContract(60, 40), known: map[int]bool{}, asked: map[int]bool{},
		revealed: map[int]bool{}, done: map[[3]int]bool{}, paths: map[int]mPath{}, added: map[int]int{},
		mood: []float64{.05, .3, 1}[rng.IntN(3)], restoring: rng.Float64() < .25, end: 20 + rng.IntN(61)}
}

func (w *mWorld) on(r rule) bool { return w.off != r }

func (w *mWorld) submit(kind, contract, key int, do func()) {
	name := [3]int{kind, contract, key}
	if !w.done[name] {
		w.done[name] = true
		w.queue = append(w.queue, mAction{w.h + w.rng.IntN(margin+1), do})
	}
}

func (w *mWorld) close(c *mContract, side int) {
	v := newest(c.held[side])
	if !w.on("replace with the best") {
		v = c.held[side][w.rng.IntN(len(c.held[side]))]
	}
	w.submit(0, side, v.number, func() { c.post(v, w.h) })
}

func (w *mWorld) honest() {
	if w.h < w.asleep {
		return
	}
	for side, c := range []*mContract{w.bc, w.ab} { // the watcher; B is side 0 of bc and side 1 of ab
		if w.on("watch") && c.posted != nil && !c.settled && newest(c.held[side]).number > c.posted.number {
			w.close(c, side)
		}
	}
	for _, key := range w.keys {
		p := w.paths[key]
		if w.revealed[key] { // learnt on chain
			w.known[key] = true
		}
		if w.known[key] {
			w.claimUp(key, p.up)
		} else {
			w.resolveDown(key, p)
		}
	}
}

func (w *mWorld) claimUp(key int, up mLock) {
	ab, last := w.ab, up.expiry
	if w.on("claim in time") {
		last = up.expiry - window - 2*margin - react
	}
	if !ab.settled && ab.posted == nil && ab.now.has(up) && w.h >= last {
		w.close(ab, 1)
	}
	if _, open := ab.open[key]; ab.settled && open {
		w.submit(1, 1, key, func() { ab.take(key, w.h, true) })
	}
}

func (w *mWorld) resolveDown(key int, p mPath) {
	ab, bc, last := w.ab, w.bc, endless
	if w.on("close in time") {
		last = p.down.expiry - window - margin - react
	}
	if bc.posted == nil && !bc.settled && bc.now.has(p.down) && w.h >= last {
		w.close(bc, 0)
	}
	_, open := bc.open[key]
	if bc.settled && open && w.h >= p.down.expiry {
		w.submit(2, 0, key, func() { bc.take(key, w.h, false) })
	}
	gone, safe := bc.settled && !open, true
	if !bc.settled {
		best := newest(bc.held[0])
		gone, safe = !bc.now.has(p.down), !best.has(p.down) && best.number > w.added[key]
	}
	safe = gone && safe
	if !w.on("hold before give back") {
		safe = gone || w.asked[key]
	}
	if safe && ab.now.has(p.up) && ab.posted == nil {
		ab.update(1, ab.now.balance[0]+p.up.amount, ab.now.balance[1], ab.now.without(p.up))
	}
}

func (w *mWorld) cheat() {
	r, quiet := w.rng.Float64(), w.h >= w.end
	switch {
	case !quiet && r < .25 && !w.restoring:
		w.addPayment()
	case r >= .25 && r < .25+.15*w.mood && w.h >= w.asleep:
		w.carolReveals()
	case r >= .40 && r < .40+.15*w.mood && w.h >= w.asleep:
		w.carolGivesBack()
	case r >= .55 && r < .60 && w.h >= w.asleep && w.ab.posted == nil && w.ab.now.balance[1] > 3: // versions for mischief
		w.ab.update(1, w.ab.now.balance[0]+3, w.ab.now.balance[1]-3, w.ab.now.locks)
		w.spent += 3
	case r >= .60 && r < .65 && w.h >= w.asleep && w.bc.posted == nil && w.bc.now.balance[1] > 3:
		w.bc.update(1, w.bc.now.balance[0]+3, w.bc.now.balance[1]-3, w.bc.now.locks)
		w.spent -= 3
	}
	w.cheatOnChain(quiet)
	if w.rng.Float64() < .02 && w.h > w.asleep+window+margin {
		w.asleep = w.h + 1 + w.rng.IntN(react)
	}
	if w.restoring && !quiet && w.ab.posted == nil {
		if w.rng.Float64() < .3 && w.ab.now.balance[0] > 3 {
			w.ab.update(0, w.ab.now.balance[0]-3, w.ab.now.balance[1]+3, nil)
			w.spent -= 3
		}
		if !w.restored && w.rng.Float64() < .1 && len(w.ab.held[1]) > 2 {
			w.restore()
		}
	}
}

// addPayment: A pays C through B.
func (w *mWorld) addPayment() {
	ab, bc := w.ab, w.bc
	amount, expiry := 1+w.rng.IntN(12), w.h+4+w.rng.IntN(57)
	down := expiry - 1
	if w.on("delta") {
		down = expiry - delta
	}
	frozen := w.on("freeze") && (ab.posted != nil || bc.posted != nil)
	if ab.now.balance[0] < amount || ab.settled {
		return
	}
	key := len(w.added) + len(w.keys) + w.h*1000
	up := mLock{key, amount, 0, expiry}
	in := min(w.rng.IntN(3), ab.now.balance[0]-amount) // the reservation fee is paid with the lock, for good
	ab.update(0, ab.now.balance[0]-amount-in, ab.now.balance[1]+in, append(slices.Clone(ab.now.locks), up))
	if ab.posted == nil { // else B takes nothing any more
		w.spent -= in
	}
	out := in / 2
	if !w.on("reserve from what came") {
		out = 2
	}
	if down > w.h+window+2*margin+react && !frozen && w.h >= w.asleep && bc.now.balance[0] >= amount+out && !bc.settled {
		l := mLock{key, amount, 0, down}
		bc.update(0, bc.now.balance[0]-amount-out, bc.now.balance[1]+out, append(slices.Clone(bc.now.locks), l))
		w.spent += in / 2 // passed on
		w.added[key], w.paths[key] = bc.now.number, mPath{up, l}
		w.keys = append(w.keys, key)
	}
}

func (w *mWorld) live() (mPath, bool) {
	var live []mPath
	for _, k := range w.keys {
		if p := w.paths[k]; w.bc.now.has(p.down) && w.bc.posted == nil {
			live = append(live, p)
		}
	}
	if len(live) == 0 {
		return mPath{}, false
	}
	return live[w.rng.IntN(len(live))], true
}

func (w *mWorld) carolReveals() {
	p, ok := w.live()
	if !ok {
		return
	}
	w.known[p.up.key] = true
	w.bc.update(0, w.bc.now.balance[0], w.bc.now.balance[1]+p.down.amount, w.bc.now.without(p.down))
	if w.rng.Float64() < .5 && w.ab.posted == nil && w.ab.now.has(p.up) {
		w.ab.update(0, w.ab.now.balance[0], w.ab.now.balance[1]+p.up.amount, w.ab.now.without(p.up))
	}
}

func (w *mWorld) carolGivesBack() { // honestly, or only in words
	p, ok := w.live()
	if !ok {
		return
	}
	w.asked[p.up.key] = true
	if w.rng.Float64() < .6 {
		w.bc.update(1, w.bc.now.balance[0]+p.down.amount, w.bc.now.balance[1], w.bc.now.without(p.down))
	}
}

func (w *mWorld) cheatOnChain(quiet bool) {
	ab, bc, rng := w.ab, w.bc, w.rng
	chance := .01
	if quiet {
		chance = .2
	}
	if rng.Float64() < chance {
		v := ab.held[0][rng.IntN(len(ab.held[0]))]
		if w.restored {
			v = w.past
		}
		ab.post(v, w.h)
	}
	if rng.Float64() < chance {
		bc.post(bc.held[1][rng.IntN(len(bc.held[1]))], w.h)
	}
	if bc.posted != nil && !bc.settled && rng.Float64() < .4 { // C answers with the version that suits it
		v := newest(bc.held[1])
		if rng.Float64() < .3 {
			v = bc.held[1][rng.IntN(len(bc.held[1]))]
		}
		bc.post(v, w.h)
	}
	for _, k := range w.keys {
		if l, ok := bc.open[k]; ok {
			late := .02
			if w.h >= l.expiry-1 {
				late = .5
			}
			if rng.Float64() < late {
				bc.take(k, w.h, true)
				w.revealed[k] = true
			}
		}
	}
	for k := range ab.open {
		ab.take(k, w.h, false) // A reclaims the moment it can
	}
}

// restore: B restarts from an old backup of ab, A tells it the oldest state that its signatures support, and both agree on a
// fresh version. Without the new epoch an older, higher number of B's still wins on chain.
func (w *mWorld) restore() {
	ab := w.ab
	w.restored, w.past = true, newest(ab.held[0])
	ab.held[1] = ab.held[1][:1+w.rng.IntN(len(ab.held[1])-1)]
	old := newest(ab.held[1])
	w.spent += max(0, ab.now.balance[1]-old.balance[1]) // what only the lost disk could prove is gone: stated, not counted
	old.number++
	if w.on("epoch") {
		old.number += jump
	}
	ab.now = old
	for side := range ab.held {
		old.signer = 1 - side
		ab.held[side] = append(ab.held[side], old)
	}
	if ab.now.balance[0] >= 10 { // afterwards A pays B for goods
		ab.update(0, ab.now.balance[0]-10, ab.now.balance[1]+10, nil)
		w.spent -= 10
	}
}

func (w *mWorld) run(t *testing.T) int {
	for w.h < 400 {
		w.h++
		w.ab.settle(w.h)
		w.bc.settle(w.h)
		due := w.queue
		w.queue = nil
		for _, a := range due {
			if a.at <= w.h {
				a.do()
			} else {
				w.queue = append(w.queue, a)
			}
		}
		if w.rng.IntN(2) == 0 {
			w.cheat()
			w.honest()
		} else {
			w.honest()
			w.cheat()
		}
		if w.h > w.end+90 {
			for side, c := range []*mContract{w.bc, w.ab} {
				if c.posted == nil {
					w.close(c, side)
				}
			}
			if w.ab.settled && w.bc.settled && len(w.ab.open) == 0 && len(w.bc.open) == 0 {
				break
			}
		}
	}
	for _, c := range []*mContract{w.ab, w.bc} {
		left := 0
		for _, l := range c.open {
			left += l.amount
		}
		if c.paid[0]+c.paid[1]+left != c.capacity {
			t.Fatalf("conservation: %v and %d of %d", c.paid, left, c.capacity)
		}
	}
	return w.ab.paid[1] + w.bc.paid[0] + w.spent // at least 100
}

func TestModel(t *testing.T) {
	for seed := range uint64(runs) {
		if have := newModel(seed, "").run(t); have < 100 {
			t.Fatalf("history %d: all rules on, and B has %d of 100", seed, have)
		}
	}
	for _, off := range allRules {
		losses := 0
		for seed := range uint64(runs) {
			if newModel(seed, off).run(t) < 100 {
				losses++
			}
		}
		if losses == 0 {
			t.Errorf("without rule %q no history has a loss: the model does not test it", off)
		}
		t.Logf("without %s: %d of %d histories with a loss", off, losses, runs)
	}
}

// TestModelNumbers holds the model's numbers and those of types.Timing together.
func TestModelNumbers(t *testing.T) {
	timing := testTiming
	timing.Inclusion, timing.Downtime, timing.Window = margin, react, window
	if timing.Check() != nil || timing.ForwardDelta() != delta || timing.MinExpiry(100) != 100+window+2*margin+react+1 ||
		timing.ClaimBy(1000) != 1000-window-2*margin-react || timing.CloseBy(1000) != 1000-window-margin-react {
		t.Error("types.Timing and the model differ")
	}
	timing.Window--
	if timing.Check() == nil {
		t.Error("a window that is too short was accepted")
	}
}
