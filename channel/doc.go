// Package channel is the two-party automaton of trade channels (docs/channels.md): opening, payments and locks by half-duplex
// updates of one signature each, reconnection, repair after a loss of data, agreed and forced close, and the watcher
// that makes the newest version win on the ledger.
//
// It does no I/O. The caller feeds Step one Input at a time and carries out the Effects in the order of their fields:
//
//	next, fx, err := channel.Step(state, input, env)
//	if err != nil { ... }           // refused: the old state stands, nothing happens
//	if fx.Save { store(next, fx) }  // durable before anything below
//	state = next
//	resend(fx.Resend); send(fx.Send); submit(fx.Chain); react(fx.Notices)
//
// The functions that a daemon calls, besides the methods of State:
//
//	NewOpening, AcceptOpening    begin a channel on either side
//	Step                         everything after that
//	Decode, State.Encode         the state on disk
//	State.Check                  every invariant, also run by Decode
package channel
