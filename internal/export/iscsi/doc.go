// Package iscsi serves volumes over iSCSI (RFC 7143). What is spoken, with
// its numbers and limits, is docs/protocol/iscsi.md. The wire format is in
// pdu, the block device behind it in scsi.
//
// A Server has portals (listening addresses, each a target port group) and
// offers targets, each with its own list of who may log in: nobody, unless
// said. Sessions may have several connections; error recovery is by session
// (ErrorRecoveryLevel 0).
//
// Each connection is one reader goroutine that takes PDUs off the socket and
// runs commands to completion, and one flusher that writes what was completed
// elsewhere. In steady state a read or write starts no goroutine. What an
// initiator can make the server hold is bounded by Limits.
//
// This is the socket side of a seam: ordinary goroutines, not clock tasks
// (docs/adr/0002).
package iscsi
