// Package replica is the replication protocol of one volume, as pure machines
// and codings: what the writer may acknowledge (Writer), how a take-over finds
// the cut (Takeover), where two histories part (Common), and what the frames
// between hosts look like (wire.go). No mutex, task, logger or clock lives
// here: time is an argument.
//
// Rules: STORE §5 to §7; promises: docs/INVARIANTS.md 1, 3, 6, 7, 11, 12.
package replica
