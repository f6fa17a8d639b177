// Package blockmap is the copy-on-write radix tree from block address to the
// place, LSN and hash of the block (STORE §2). One structure answers reads,
// keeps snapshots and clones, and tells what changed since an LSN, because each
// inner slot holds the highest LSN below it.
//
// # Parts
//
// Pages owns the pages of one disk, in memory and by name on disk. A Tree is a
// map that can be changed: a volume's head. A Root is a map that cannot: a
// snapshot, a pin, what a checkpoint writes. Both count references to pages, so
// a Root must be released; a page is copied when it is changed while shared.
//
//	leaf page    512 entries, level 0
//	inner page   512 slots, each {highest LSN below, child page or hole}
//	hole         a range of tombstones with rising LSNs, one slot however large
//
// # Memory and disk
//
// Flush encodes the dirty pages below a root, children before parents, each
// under the PageID that the caller chooses (a place, a number: it is opaque). A
// page is never rewritten under its PageID. Clean pages can be evicted; what is
// not in memory is loaded through a Loader, or, where there is none, reported
// as a *Miss for the caller to Install. Freed tells which PageIDs no page uses
// any more. The format of a page is docs/format/blockmap.md.
//
// # Concurrency
//
// Pages and everything made from it have one owner at a time: the caller's lock
// goes around every call, reads included. Nothing here waits, except a Loader
// that does; whoever may not wait under its lock uses no Loader and handles
// *Miss. Long work (Walk, Diff, SetRange, Flush) can be cut into slices.
package blockmap
