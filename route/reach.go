package route

import (
	"slices"

	"github.com/eschaton-network/chand/types"
)

// Reach is how much can be sent from one node to another at once, by as many parts as a payment may have, without fees.
type Reach struct {
	// Most is what the capacities allow; in a network of many ways there may be a little more. Likely is what gets there with odds of one half
	// at least, as far as is known. Cut says that the search was ended by its limit on effort.
	Most, Likely types.Amount
	Cut          bool
}

const evenNats = 45426 // -ln of one half

// MaxFlow estimates what r.Source can send to r.Target: out of r.Locals, or with none given out of its public channels as if all their money
// were on its side. ins, if any, are all channels that lead to the target with what they can bring. Amount and limits of
// the request don't matter, but MaxParts bounds the effort: at most four path searches a part.
func (g *Graph) MaxFlow(r Request, ins []Local, s *Scratch) (Reach, error) {
	if len(r.Locals) == 0 {
		r.Locals = g.Outgoing(r.Source)
	}
	r.Amount = 0
	for _, l := range r.Locals {
		r.Amount += min(l.total(), types.MaxAmount-r.Amount)
	}
	if r.Amount == 0 {
		return Reach{}, nil
	}
	if bad := r.check(true); bad != nil {
		return Reach{}, bad
	}
	run := g.newSearch(&r, s)
	run.setIns(ins)
	var out Reach
	all := r.Amount
	rounds := augmentsPerPart * r.MaxParts
	run.beginFlow()
	for i := 0; i < rounds && out.Most < all; i++ {
		grain := max(1, (all-out.Most)/types.Amount(rounds))
		if !run.cheapest(all-out.Most, grain) {
			grain = 1
			if !run.cheapest(all-out.Most, grain) {
				return out, nil
			}
		}
		before := run.flowNats()
		laid := run.augment(all-out.Most, grain)
		if after := run.flowNats(); after <= evenNats {
			out.Likely = out.Most + laid
		} else if before < evenNats { // about as far along as the odds allow
			part, err := laid.MulDiv(evenNats-before, after-before)
			if err == nil {
				out.Likely = max(out.Likely, out.Most+part)
			}
		}
		out.Most += laid
	}
	out.Cut = out.Most < all
	return out, nil
}

// Outgoing are a node's public channels as if it could send their whole capacity: for estimates about other nodes.
func (g *Graph) Outgoing(n types.NodeID) (list []Local) {
	at, ok := g.nodeAt[n]
	if !ok {
		return nil
	}
	for _, e := range g.adj[at] {
		k := &g.known[e]
		list = append(list, Local{Channel: k.ann.Channel, Peer: k.ann.Nodes[1-k.ann.side(n)], CanSend: k.ann.Capacity, Timing: k.ann.Timing})
	}
	return list
}

// setIns puts in what is known of the channels that lead to the target, which is this daemon itself.
func (s *search) setIns(ins []Local) {
	if len(ins) == 0 {
		return
	}
	known := map[types.ChannelID]Local{}
	for _, l := range ins {
		known[l.Channel] = l
		if len(s.numbers(l.Channel)) == 0 {
			s.addEdge(l.Peer, s.target, edge{capacity: l.total()}, terms{max: l.CanSend, open: true}, extra{id: l.Channel})
		}
	}
	s.growMarks()
	list := slices.Clone(s.extraAdj[s.target])
	if int(s.target) < len(s.g.nodes) {
		list = append(list, s.g.adj[s.target]...)
	}
	for _, e := range list {
		l, ed := known[s.channelID(e)], s.edge(e) // none: it brings nothing
		arc := 2 * e
		if ed.node[0] == s.target {
			arc++
		}
		if s.mark[arc] >= 0 {
			st := s.state(arc)
			st.span = span{ed.capacity, ed.capacity}
			st.used = ed.capacity - min(l.total(), ed.capacity)
		}
	}
}

// flowNats is -ln of the odds that everything laid gets through.
func (s *search) flowNats() (sum uint64) {
	for i := range s.states {
		st := &s.states[i]
		if st.flow == 0 {
			continue
		}
		ed, x := s.edge(st.arc/2), s.extraOf(st.arc/2)
		if from := ed.node[st.arc&1]; from != s.source && (x == nil || x.blinded == 0) {
			sum += st.span.nats(st.used, st.flow) + s.nodeNats[from]
		}
	}
	return sum
}
