// Package store keeps the replicas of one disk in an LSN-stamped log
// (STORE §1 to §4): records are appended once to segments in batches, a block
// map per replica says where each block is, a checkpoint bounds recovery.
//
// # Head, overlay, stable
//
// A replica's head is its base map (everything up to Stable) under an overlay
// of the records above Stable, in LSN order. Reads look into the overlay
// first. SetStable merges the overlay's front into the base; truncation drops
// its back. Checkpoint and cleaner touch only the base.
//
// # Roots and builds
//
// Snapshots, clones and what builds began from are nodes of one forest of roots
// (roots.go). A resync or rebuild receives the roots that a replica lacks
// (BeginRoot, Ingest, FinishRoot), each upon one that is there, and then a head
// (BeginBuild, Ingest beside Append, FinishBuild); until that is finished the
// head before it is the fallback. A Pin shows a head and its snapshots to copy
// from.
//
// # Concurrency
//
// A Store is safe for use by many tasks. No method holds a lock while it waits
// for the device. Append, SetStable, Sync and State do not block and may be
// called from a transport handler; the others block their task.
package store
