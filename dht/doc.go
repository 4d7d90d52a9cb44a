// Package dht finds who holds something, and asks them: kad-dht provider records under 32-byte keys, and one request per
// stream to a named peer. Protocol prefix /chand, so that this network and others never mix.
//
// # Asking
//
// A request travels on a stream of its own, protocol /chand/ask/1/NAME:
//
//	asker     length (4 bytes, big-endian) and the request; then it closes its side
//	answerer  one byte (0 answer, 1 failure, 2 busy), length, and the answer or the failure's text
//
// # Trust
//
// Provider records are claims of those who made them: any daemon can say that it provides any key, and those who keep
// the records may withhold them. What a provider answers must prove itself. Handlers of requests face anyone.
package dht
