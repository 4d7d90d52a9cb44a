package pubsub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	gossip "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

const (
	// envelope is room for what gossipsub adds to a message: author, sequence number, topic, signature, framing.
	envelope = 4 << 10
	// maxTopic bounds a topic's name, so that it fits the envelope.
	maxTopic = 255
	// deliverQueue is how many accepted messages may wait for a topic's subscriber.
	deliverQueue = 1024
	// topicValidations and allValidations bound the validators that run or wait at a time; what comes beyond is dropped unchecked.
	topicValidations, allValidations = 128, 512
)

var (
	// ErrNotJoined means that Join was not called for the topic.
	ErrNotJoined = errors.New("topic not joined")
	// ErrJoined means that the topic was joined before.
	ErrJoined = errors.New("topic joined already")
	// ErrTooLarge means that a message is empty or larger than wire.MaxGossip.
	ErrTooLarge = errors.New("gossip message of impossible size")
	// ErrRefused means that the topic's own validator did not accept what was to be published.
	ErrRefused = errors.New("message refused by the topic's validator")
	// ErrClosed is returned by everything after Close.
	ErrClosed = errors.New("gossip is closed")
)

// Gossip is gossipsub on a host. Safe for concurrent use.
type Gossip struct {
	self   types.NodeID
	ps     *gossip.PubSub
	log    *slog.Logger
	score  atomic.Pointer[func(types.NodeID) float64]
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // one goroutine a topic, which delivers

	mu     sync.Mutex
	topics map[string]*gossip.Topic // guarded by mu; nil after Close
}

// New starts gossip on a host whose identity is a node key. log may be nil.
func New(h host.Host, log *slog.Logger) (*Gossip, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	self, ok := types.NodeIDFromPeerID(string(h.ID()))
	if !ok {
		return nil, fmt.Errorf("gossip: host %s has no secp256k1 identity", h.ID())
	}
	ctx, cancel := context.WithCancel(context.Background())
	g := &Gossip{self: self, log: log, ctx: ctx, cancel: cancel, topics: make(map[string]*gossip.Topic)}
	params, thresholds := g.scoring()
	var err error
	g.ps, err = gossip.NewGossipSub(ctx, h,
		gossip.WithMessageSignaturePolicy(gossip.StrictSign),
		gossip.WithMaxMessageSize(wire.MaxGossip+envelope),
		// Own messages go to every subscribed peer, not to the mesh alone: it costs little at our rates and keeps a
		// few hostile mesh neighbours from swallowing what we say.
		gossip.WithFloodPublish(true),
		gossip.WithPeerExchange(false), // peers come from channels and the DHT
		gossip.WithPeerScore(params, thresholds),
		gossip.WithValidateThrottle(allValidations), gossip.WithValidateQueueSize(allValidations),
	)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start gossip: %w", err)
	}
	return g, nil
}

// Join subscribes to a topic. validate is called for every message before it is relayed or delivered; several calls may
// run at once. deliver is called for accepted messages in the order in which they were accepted, from one goroutine a topic, own
// messages included. Errors: ErrJoined, ErrClosed.
func (g *Gossip) Join(topic string, validate func(types.NodeID, []byte) types.Verdict, deliver func(types.NodeID, []byte)) error {
	if len(topic) == 0 || len(topic) > maxTopic {
		return fmt.Errorf("topic %.40q: want 1..%d bytes", topic, maxTopic)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.topics == nil {
		return ErrClosed
	}
	if g.topics[topic] != nil {
		return fmt.Errorf("%w: %s", ErrJoined, topic)
	}
	check := func(_ context.Context, _ peer.ID, m *gossip.Message) gossip.ValidationResult {
		return judge(m, validate)
	}
	if err := g.ps.RegisterTopicValidator(topic, check, gossip.WithValidatorConcurrency(topicValidations)); err != nil {
		return fmt.Errorf("join %s: %w", topic, err)
	}
	t, err := g.ps.Join(topic)
	if err != nil {
		return fmt.Errorf("join %s: %w", topic, err)
	}
	if err := t.SetScoreParams(topicScoring()); err != nil {
		return fmt.Errorf("join %s: %w", topic, err)
	}
	sub, err := t.Subscribe(gossip.WithBufferSize(deliverQueue))
	if err != nil {
		return fmt.Errorf("join %s: %w", topic, err)
	}
	g.topics[topic] = t
	g.wg.Go(func() { g.deliver(sub, deliver) })
	return nil
}

// judge asks the validator. A message without a node as its author, or too large, is not for it.
func judge(m *gossip.Message, validate func(types.NodeID, []byte) types.Verdict) gossip.ValidationResult {
	from, ok := types.NodeIDFromPeerID(string(m.GetFrom()))
	if !ok {
		return gossip.ValidationIgnore
	}
	if n := len(m.GetData()); n == 0 || n > wire.MaxGossip {
		return gossip.ValidationReject
	}
	switch validate(from, m.GetData()) {
	case types.Accept:
		return gossip.ValidationAccept
	case types.Ignore:
		return gossip.ValidationIgnore
	default:
		return gossip.ValidationReject
	}
}

// deliver is a topic's goroutine.
func (g *Gossip) deliver(sub *gossip.Subscription, deliver func(types.NodeID, []byte)) {
	for {
		m, err := sub.Next(g.ctx)
		if err != nil { // closed
			return
		}
		if from, ok := types.NodeIDFromPeerID(string(m.GetFrom())); ok {
			deliver(from, m.GetData())
		}
	}
}

// Publish signs data and sends it to everybody on the topic, this daemon's own subscriber included. nil says nothing of
// who got it. Errors: ErrNotJoined, ErrTooLarge, ErrRefused, ErrClosed.
func (g *Gossip) Publish(ctx context.Context, topic string, data []byte) error {
	if len(data) == 0 || len(data) > wire.MaxGossip {
		return fmt.Errorf("%w: %d bytes, want 1..%d", ErrTooLarge, len(data), wire.MaxGossip)
	}
	g.mu.Lock()
	t, closed := g.topics[topic], g.topics == nil
	g.mu.Unlock()
	if closed {
		return ErrClosed
	}
	if t == nil {
		return fmt.Errorf("%w: %s", ErrNotJoined, topic)
	}
	err := t.Publish(ctx, append([]byte{}, data...))
	var refused gossip.ValidationError
	if errors.As(err, &refused) {
		return fmt.Errorf("%w: %s: %w", ErrRefused, topic, err)
	}
	if err != nil {
		return fmt.Errorf("publish on %s: %w", topic, err)
	}
	return nil
}

// Peers lists the daemons known to be subscribed to a topic.
func (g *Gossip) Peers(topic string) []types.NodeID {
	var out []types.NodeID
	for _, p := range g.ps.ListPeers(topic) {
		if id, ok := types.NodeIDFromPeerID(string(p)); ok {
			out = append(out, id)
		}
	}
	return out
}

// SetPeerScore sets what this daemon thinks of a peer: 0 for strangers, up to maxAppScore for those it has channels with,
// negative for those it would rather not hear. f must be fast and safe for concurrent use.
func (g *Gossip) SetPeerScore(f func(types.NodeID) float64) { g.score.Store(&f) }

// Close ends all subscriptions and waits for deliveries that run. Calling it again does nothing.
func (g *Gossip) Close() error {
	g.mu.Lock()
	g.topics = nil
	g.mu.Unlock()
	g.cancel()
	g.wg.Wait()
	return nil
}
