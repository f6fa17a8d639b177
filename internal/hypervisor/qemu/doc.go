// Package qemu runs machines with QEMU, driven over QMP. Each machine is a
// process (two with a network) that outlives the agent: it has a session of
// its own, no parent-death signal, and a directory from which a later agent
// adopts it (rundir.go). QEMU starts with no right it does not need (jail.go)
// and with its own system call filter fully closed.
//
// It is the only package that knows QMP.
package qemu
