// Package gateway sells and buys over HTTP 402 in the L402 form that existing clients speak.
//
// Seller is a reverse proxy: it challenges with an invoice and a macaroon (both the legacy LSAT line and an L402 line that
// satisfies the specification and Aperture's client), accepts every credential form in use, and lets a request through for
// each unit of credit that was paid for. Buyer is the other side: it gets a URL, pays a 402 within a limit, once, and keeps
// what credit is left.
//
// It is a shell: invoices, payments and storage come in through the small interfaces that it owns.
//
// References: lightninglabs/L402 protocol-specification.md and macaroons.md, RFC 9110 section 11, RFC 9457 (problem+json).
package gateway
