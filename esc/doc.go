// Package esc is the pure part of the client of the original Enterprise Service Chain: its settings, its commands (one JSON object
// a line), what it signs and what it prints. It follows E17 (July 2017) with the fields that A19 added; docs/esc.md says where the
// two differ and which one holds. Reading, asking the office and writing is the work of cmd/chancli.
package esc
