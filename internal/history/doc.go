// Package history records what clients did to the blocks of one volume, writes
// and reads such records as lines of JSON (docs/format/history.md), and judges
// them: every block must be linearizable within a cache generation, what a FLUSH
// or FUA covered must outlive the generation, and a volume that was set back must
// show its snapshot (docs/INVARIANTS.md 1, 2, 6, 11, 12). Porcupine decides about
// the order; it knows nothing of how the simulator's own model thinks.
//
// A history says nothing of the product: whoever can read and write a volume and
// has a clock can record one.
package history
