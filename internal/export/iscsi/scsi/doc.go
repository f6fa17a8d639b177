// Package scsi is a direct-access block device over an export.Target: SPC-4
// and SBC-3, with the parts of SAM-5 that a task set needs. It knows no
// transport: whoever has one attaches nexuses, begins tasks, lends buffers and
// carries results.
//
// A Device is what a target port leads to; it holds logical units by number.
// A Unit keeps what all its initiators share: the medium (one export.Disk),
// mode pages, reservations, the task set. What belongs to one initiator port
// seen through one target port is kept per Nexus: unit attentions, prevention
// of removal, whether its unflushed writes were lost.
//
// A task runs to completion on the goroutine that completes it: reads, writes,
// flushes and unmaps start no goroutine. Commands that consist of several
// requests, which are rare, have one each.
package scsi
