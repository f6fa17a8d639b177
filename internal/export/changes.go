package export

import "github.com/holdfast-cloud/holdfast"

// Snapshot is a kept state of a volume, by the name that people gave it.
type Snapshot struct {
	ID   holdfast.SnapshotID
	Name string
}

// Keeper is a Target that can tell the snapshots of its volume.
type Keeper interface {
	// Snapshots returns them in the order of their making. It blocks. Kind
	// Unavailable: they cannot be told now.
	Snapshots() ([]Snapshot, error)
}

// Change is a run of bytes that all hold what a snapshot held, or do not.
type Change struct {
	Length int64
	Dirty  bool // something else was written there since; perhaps the same bytes again
}

// Comparer is a Disk that knows what has changed since a snapshot.
type Comparer interface {
	// Changes compares [off, off+n) with a snapshot, in order, at most max
	// pieces; it may cover less, but at least one byte. What was acknowledged
	// before the call is in it. It blocks. Kind NotFound: the snapshot is not
	// there any more.
	Changes(since holdfast.SnapshotID, off, n int64, max int) ([]Change, error)
}
