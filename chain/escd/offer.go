package escd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"

	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	cmt "github.com/cometbft/cometbft/types"

	"github.com/eschaton-network/chand/ledger"
	"github.com/eschaton-network/chand/types"
)

// What an office offers to nodes that start from a snapshot, and how its client asks for it. All of it is checked by who asks.

const (
	// maxOffer bounds the list of snapshots, maxAnchor two bundles and a validator set.
	maxOffer  = keptSnapshots*maxManifest + 1<<10
	maxAnchor = 8 << 20
	// maxChanges bounds the bundles of one answer; one more may go beyond.
	maxChanges = 4 << 20
)

// offer is the answer to GET /v1/snapshots.
type offer struct {
	// First is the first block that the node has.
	First types.Height `json:"first"`
	// Snapshots are listed newest first.
	Snapshots []manifest `json:"snapshots"`
}

func (o *office) routeSync(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/snapshots", o.limited(o.getSnapshots))
	mux.HandleFunc("GET /v1/snapshots/{height}/anchor", o.limited(o.getAnchor))
	mux.HandleFunc("GET /v1/snapshots/{height}/chunks/{index}", o.limited(o.getChunk))
	mux.HandleFunc("GET /v1/changes", o.limited(o.getChanges))
}

func (o *office) getSnapshots(w http.ResponseWriter, _ *http.Request) {
	done, err := o.n.use()
	if err != nil {
		failWith(w, err)
		return
	}
	defer done()
	blocks := o.n.comet.BlockStore()
	out := offer{First: types.Height(max(blocks.Base(), 1)), Snapshots: []manifest{}}
	for _, m := range o.n.app.snapshots().all() {
		if blocks.Height() > int64(m.Height) { // the header after it, which signs its state, is there
			out.Snapshots = append(out.Snapshots, m)
		}
	}
	answer(w, out)
}

func (o *office) getChunk(w http.ResponseWriter, r *http.Request) {
	h, ok := heightParam(w, "height", r.PathValue("height"))
	if !ok {
		return
	}
	i, err := strconv.ParseUint(r.PathValue("index"), 10, 31)
	if err != nil {
		bad(w, "chunk %.20q: want its number", r.PathValue("index"))
		return
	}
	b, err := o.n.app.snapshots().chunk(h, int(i))
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("chunk %d of snapshot %d: %w", i, h, ledger.ErrNotFound)
	}
	if err != nil {
		failWith(w, err)
		return
	}
	w.Header().Set("Content-Type", typeRaw)
	w.Write(b)
}

// getAnchor answers with what makes a state trustworthy and usable: the bundles of its block and of the next one, and the
// validators of the block after those.
func (o *office) getAnchor(w http.ResponseWriter, r *http.Request) {
	h, ok := heightParam(w, "height", r.PathValue("height"))
	if !ok {
		return
	}
	raw, err := o.n.anchor(h)
	if err != nil {
		failWith(w, err)
		return
	}
	w.Header().Set("Content-Type", typeRaw)
	w.Write(raw)
}

func (n *Node) anchor(h types.Height) ([]byte, error) {
	var out writer
	for _, at := range []types.Height{h, h + 1} {
		b, err := n.Bundle(at)
		if err != nil {
			return nil, err
		}
		out.blob(b)
	}
	done, err := n.use()
	if err != nil {
		return nil, err
	}
	defer done()
	set, err := n.states.LoadValidators(int64(h) + 2)
	if err != nil {
		return nil, fmt.Errorf("validators of block %d: %w", h+2, ledger.ErrNotFound)
	}
	p, err := set.ToProto()
	if err != nil {
		return nil, err
	}
	raw, err := p.Marshal()
	out.blob(raw)
	return out.b, err
}

// getChanges answers with the bundles that are kept of blocks after a height: those at which the validators changed.
func (o *office) getChanges(w http.ResponseWriter, r *http.Request) {
	h, ok := heightParam(w, "after", r.FormValue("after"))
	if !ok {
		return
	}
	list, err := o.n.app.journal.bundlesAfter(h, maxChanges)
	if err != nil {
		failWith(w, err)
		return
	}
	var out writer
	for _, b := range list {
		out.blob(b)
	}
	w.Header().Set("Content-Type", typeRaw)
	w.Write(out.b)
}

// offer asks for the list of snapshots.
func (c *Client) offer(ctx context.Context) (offer, error) {
	var out offer
	b, err := c.do(ctx, http.MethodGet, "/v1/snapshots", "", nil, maxOffer)
	if err != nil {
		return out, err
	}
	if err := strict(b, &out); err != nil {
		return out, fmt.Errorf("the office at %s: snapshots: %w", c.addr, err)
	}
	for i := range out.Snapshots {
		if err := out.Snapshots[i].check(); err != nil {
			return out, fmt.Errorf("the office at %s: %w", c.addr, err)
		}
	}
	return out, nil
}

func (c *Client) chunk(ctx context.Context, m *manifest, i int) ([]byte, error) {
	b, err := c.do(ctx, http.MethodGet, fmt.Sprintf("/v1/snapshots/%d/chunks/%d", m.Height, i), "", nil, int64(m.chunkSize(i)))
	if err != nil {
		return nil, err
	}
	if got := types.SHA256(b); got != m.Chunks[i] {
		return nil, fmt.Errorf("the office at %s: chunk %d of snapshot %d has hash %s, want %s", c.addr, i, m.Height, got, m.Chunks[i])
	}
	return b, nil
}

// anchor is what GET /v1/snapshots/{height}/anchor answers, not verified.
type anchor struct {
	bundle, next []byte
	// after are the validators of the block after next.
	after *cmt.ValidatorSet
}

func (c *Client) anchor(ctx context.Context, h types.Height) (anchor, error) {
	b, err := c.do(ctx, http.MethodGet, fmt.Sprintf("/v1/snapshots/%d/anchor", h), "", nil, maxAnchor)
	if err != nil {
		return anchor{}, err
	}
	a, err := decodeAnchor(b)
	if err != nil {
		return a, fmt.Errorf("the office at %s: %w", c.addr, err)
	}
	return a, nil
}

func decodeAnchor(b []byte) (anchor, error) {
	d := reader{b: b}
	a := anchor{bundle: d.blob(), next: d.blob()}
	raw := d.blob()
	if d.bad || len(d.b) > 0 {
		return anchor{}, errors.New("anchor: not two bundles and a validator set")
	}
	var p cmtproto.ValidatorSet
	if err := p.Unmarshal(raw); err != nil {
		return anchor{}, fmt.Errorf("anchor: %w", err)
	}
	var err error
	if a.after, err = cmt.ValidatorSetFromProto(&p); err != nil {
		return anchor{}, fmt.Errorf("anchor: %w", err)
	}
	return a, nil
}

// changes asks for bundles after a height, in order; none when there are no more.
func (c *Client) changes(ctx context.Context, after int64) ([][]byte, error) {
	b, err := c.do(ctx, http.MethodGet, "/v1/changes?after="+strconv.FormatInt(after, 10), "", nil, 2*maxChanges)
	if err != nil {
		return nil, err
	}
	out, err := decodeBlobs(b)
	if err != nil {
		return nil, fmt.Errorf("the office at %s: changes: %w", c.addr, err)
	}
	return out, nil
}

func decodeBlobs(b []byte) (out [][]byte, err error) {
	for d := (reader{b: b}); len(d.b) > 0; {
		one := d.blob()
		if d.bad {
			return nil, errors.New("something is missing at the end")
		}
		out = append(out, one)
	}
	return out, nil
}
