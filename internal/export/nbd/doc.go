// Package nbd serves volumes over the Network Block Device protocol and holds
// a small client for it. The subset spoken, with its numbers and limits, is
// docs/protocol/nbd.md; the protocol is the NBD project's doc/proto.md.
//
// A Server offers every published volume on a unix socket of its own, and, if
// asked to, all of them on one TCP listener that accepts nothing but STARTTLS
// with a client certificate.
//
// Each connection is one reader goroutine that runs requests to completion
// and one flusher that writes what was completed elsewhere. In steady state a
// request starts no goroutine and allocates nothing. What a client can make
// the server hold is bounded by Limits.
//
// This is the socket side of a seam: ordinary goroutines, not clock tasks
// (docs/adr/0002).
package nbd
