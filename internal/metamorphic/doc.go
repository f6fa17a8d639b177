// Package metamorphic holds a proof by comparison: one random history of
// operations on volumes is played on clusters that differ in what must not be
// seen: how many copies there are, whether blocks are compressed or encrypted,
// how much memory the maps have, and what breaks meanwhile. After every step,
// which ends with a flush, the bytes of every head, snapshot and clone must be
// those of a plain model in memory, on every in-sync replica, and so must be
// what changed between two snapshots.
//
// A seed gives the history; neither it nor the model knows the cluster. The
// cluster is the simulator's (sim.Bed): the product's own node code. The package
// has tests only:
//
//	go test ./internal/metamorphic                       a choice of all cases
//	make metamorphic SEEDS=20                            every case of 20 histories
//	METAMORPHIC_SEED=7 go test -v -run TestOne ./internal/metamorphic
//
// The last plays one history aloud; a failure prints it with its case.
package metamorphic
