package pubsub

import (
	"net"
	"time"

	gossip "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/eschaton-network/chand/types"
)

// Peer scores (gossipsub v1.1). The unit is ours: a peer that passed on one invalid message lately has about -20.
const (
	// maxAppScore bounds what SetPeerScore may say, so that no opinion outweighs a stream of invalid messages.
	maxAppScore = 100
	// gossipThreshold, publishThreshold and graylistThreshold are about 2, 3 and 5 invalid messages (the penalty grows with the square).
	gossipThreshold, publishThreshold, graylistThreshold = -80, -180, -480
	// invalidWeight is the penalty of one invalid message; it fades over penaltyTime.
	invalidWeight = -20
	penaltyTime   = 10 * time.Minute
	// samePlace is how many peers may share an address before it counts against them: a household or small office.
	samePlace = 10
)

func (g *Gossip) scoring() (*gossip.PeerScoreParams, *gossip.PeerScoreThresholds) {
	loopback4 := &net.IPNet{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)}
	loopback6 := &net.IPNet{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)}
	return &gossip.PeerScoreParams{
			Topics:            make(map[string]*gossip.TopicScoreParams), // set by Join
			TopicScoreCap:     50,                                        // being useful counts less than having a channel
			AppSpecificScore:  g.appScore,
			AppSpecificWeight: 1,
			// Many identities at one address are cheap, unless they are tests on one machine.
			IPColocationFactorWeight: -10, IPColocationFactorThreshold: samePlace,
			IPColocationFactorWhitelist: []*net.IPNet{loopback4, loopback6},
			// Protocol misbehaviour (regrafting too soon, promises not kept); a few may be bad luck.
			BehaviourPenaltyWeight: -10, BehaviourPenaltyThreshold: 6, BehaviourPenaltyDecay: gossip.ScoreParameterDecay(penaltyTime),
			DecayInterval: gossip.DefaultDecayInterval, DecayToZero: gossip.DefaultDecayToZero,
			RetainScore: penaltyTime, // reconnecting washes nothing away
		}, &gossip.PeerScoreThresholds{
			GossipThreshold: gossipThreshold, PublishThreshold: publishThreshold, GraylistThreshold: graylistThreshold,
			AcceptPXThreshold: maxAppScore, OpportunisticGraftThreshold: 1,
		}
}

func topicScoring() *gossip.TopicScoreParams {
	return &gossip.TopicScoreParams{
		TopicWeight: 1,
		// Staying in the mesh is worth up to 5, after an hour.
		TimeInMeshWeight: 5.0 / 60, TimeInMeshQuantum: time.Minute, TimeInMeshCap: 60,
		// Being the first to bring a valid message is worth up to 20.
		FirstMessageDeliveriesWeight: 1, FirstMessageDeliveriesDecay: gossip.ScoreParameterDecay(penaltyTime), FirstMessageDeliveriesCap: 20,
		// No penalty for delivering little (P3, P3b): our topics are quiet for minutes, and honest peers would be punished for it.
		InvalidMessageDeliveriesWeight: invalidWeight, InvalidMessageDeliveriesDecay: gossip.ScoreParameterDecay(penaltyTime),
	}
}

// appScore is the daemon's opinion within bounds; foreign identities have none.
func (g *Gossip) appScore(p peer.ID) float64 {
	f := g.score.Load()
	id, ok := types.NodeIDFromPeerID(string(p))
	if f == nil || !ok {
		return 0
	}
	return min(max((*f)(id), -maxAppScore), maxAppScore)
}
