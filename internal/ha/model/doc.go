// Package model explores every history of the protocol that decides who may run a
// VM and who may write its disk, with up to so many disturbances: two hosts with
// a replica of one volume each, the control plane, and who leads it.
//
// What decides is the product's own code, driven as pure functions: ha.Machine
// (which host is lost, what is cut and assigned), agent.Sight, Told and MayStart
// (what runs), cluster.Word (what a lease is worth), replica.Authority, Writer,
// Takeover and Next (who may write). The shell around it, which carries messages
// and waits, is modelled here: state.go says what there is, act.go what may
// happen, rules.go what may never be.
//
// Time is exact. A host's clock goes at a rate of its own within the bound that
// the protocol needs (1/replica.Drift); things happen at the instants at which
// something falls due anywhere, and at every such instant everything that is
// possible may happen, or not, in any order: a picture of the records arrives or
// stays old, a lease ends or lasts, a leader's commit is made or is late, a
// message is lost, late or neither, a cable is cut or mended, a process or a
// computer dies and comes back.
//
// States that differ only in numbers which are compared and never shown (epochs,
// generations, revisions, absolute times) are one. What was explored and how
// deeply is written into docs/MODEL.md by the run (make model).
//
// Not in it: what is written (docs/format, the simulator), more than two hosts
// with replicas, snapshots, hand-overs and drains, a host's process that hangs.
package model
