// Package killpoints has the real processes of a lab kill themselves with SIGKILL
// between one step and the next of what must survive that (internal/crashpoint),
// while NBD clients write and flush, starts them again, and verifies everything that
// was flushed (docs/adr/0089). It has no code of its own outside its tests.
package killpoints
