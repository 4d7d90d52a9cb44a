// Package rpc is the daemon's one programming interface: the schema in proto/ served as gRPC, gRPC-Web and JSON over HTTP
// (the Connect protocol) on one TLS port, authorised by macaroons, and the Go client of it.
//
// It is a shell: it wraps connect and knows nothing of the daemon. What the methods do is handed in as Handlers. Requests are
// authorised before they are decoded, decoded strictly (unknown fields, duplicates and trailing data are errors), bounded in
// size and time, and answered on failure with an ErrorDetail: code, message, next step, state of the money.
//
// The generated code under gen is made by gen.sh.
package rpc
