package chand

import (
	"github.com/eschaton-network/chand/channel"
	"github.com/eschaton-network/chand/htlc"
	"github.com/eschaton-network/chand/types"
	"github.com/eschaton-network/chand/wire"
)

// What a runner's mailboxes carry. Frames and link events come from the peer and wait in a bounded queue, so that a peer that sends
// faster than its channel is served is slowed down itself; blocks likewise slow the watcher; the rest are commands of
// this daemon (bounded by put) and what other owners must deliver (bounded by open locks).
type (
	// mailMessage is a message of the peer about this channel.
	mailMessage struct{ msg wire.ChannelMessage }
	// mailLink says that the link to the peer came up or broke.
	mailLink struct{ up bool }
	// mailRequest asks for one operation.
	mailRequest struct{ *request }
	// mailStream says that a stream has payments to be signed.
	mailStream struct{ s *outStream }
	// mailOutcome tells how the downstream half of a forwarded lock ended: preimage known, or returned.
	mailOutcome struct {
		lock     uint64 // of the peer, in this channel
		preimage types.Preimage
		returned bool
		reason   []byte
		out      types.ChannelID // the channel that it came back over
		failure  *htlc.Failure   // instead of reason, when it was never passed on
		refunded types.Amount    // of the reservation fee that was paid with the outgoing lock
		ack      func()          // called once the outcome is saved here; may be nil
	}
	// mailRelease tells that the upstream half of a forwarded lock was settled by its funder (escrow): settle ours too.
	mailRelease struct {
		in       lockRef
		preimage types.Preimage
		missed   func(why string) // called instead of an answer when there is no such lock and will be none
	}
	// mailForget drops the record of an outgoing lock whose outcome the upstream side has saved.
	mailForget struct{ lock uint64 }
	// mailReleased says that the downstream side has saved that it must settle.
	mailReleased struct {
		lock uint64
		ack  func() // called once that is saved
	}
	// mailSettle releases an escrow that we pay.
	mailSettle struct {
		lock uint64
		done chan<- error
	}
	// mailGiveBack asks to give back a held lock (escrow refund by the payee).
	mailGiveBack struct {
		lock uint64
		done chan<- error
	}
	// mailClose starts a close.
	mailClose struct {
		force bool
		done  chan<- error
	}
	// mailPart tells that the parts of a payment to us are complete, or (without a preimage) that they go back.
	mailPart struct {
		lock     uint64
		preimage types.Preimage
		failure  *htlc.Failure
	}
	// mailAnnounce sends our announcement signatures.
	mailAnnounce struct{ in channel.Announce }
)

// lockRef names a lock of a peer's across the daemon.
type lockRef struct {
	channel types.ChannelID
	lock    uint64
}

// place is where an operation ended up.
type place struct {
	channel types.ChannelID
	version uint32
	lock    uint64 // of an AddLock
}

// request is one operation that somebody wants done in a channel. The runner calls exactly one of saved and refused.
type request struct {
	op wire.Op
	// out is the record of a lock to be added; nil for other operations.
	out *outgoing
	// pay is the payment behind a Pay operation with a receipt to come; nil for others.
	pay *payment
	// staged gives the records to be saved with the update that holds the operation. May be nil.
	staged func(place) []types.Write
	// saved is called when the update is durable, before it is sent. May be nil.
	saved func(place)
	// refused is called when the operation was not signed and never will be: no money moved. May be nil.
	refused func(error)

	since types.Height // when the runner took it
}

func (r *request) fail(err error) {
	if r.refused != nil {
		r.refused(err)
	}
}

// outgoing is a lock that this side funds, in memory. Owned by the channel's runner.
type outgoing struct {
	outgoingRecord
	payment *payment // kindPayment
	escrow  *escrow  // kindEscrow, payer
	acked   bool     // kindForward: the upstream side has saved the outcome
}
