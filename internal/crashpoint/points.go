// Package crashpoint names places at which a process may be killed, between one
// step and the next of what must survive that. The product passes them for
// nothing: without the build tag crashpoints At is empty and inlined away. A
// program built with the tag kills itself where a file tells it to (at.go), and a
// harness looks what is left (lab/killpoints, docs/adr/0089).
package crashpoint

// Point is a place in the product, by what has just been done there.
type Point string

// The points of a batch of the log (store: commit).
const (
	CommitBegun   Point = "commit: a batch is to be written"
	CommitWritten Point = "commit: a batch is written and not synced"
	CommitSynced  Point = "commit: the log is synced and nobody was told"
	CommitTold    Point = "commit: who waited was told"
)

// The points of a checkpoint (store).
const (
	CheckpointCaptured Point = "checkpoint: the state is captured"
	CheckpointPages    Point = "checkpoint: some map pages are written"
	CheckpointCopy     Point = "checkpoint: a copy of the catalog is written"
	CheckpointCatalog  Point = "checkpoint: pages and catalog are synced"
	CheckpointHalfRoot Point = "checkpoint: a copy of the root is written and not synced"
	CheckpointRoot     Point = "checkpoint: the root is synced and not followed yet"
	CheckpointDone     Point = "checkpoint: what it freed is free"
)

// The points of the cleaner (store).
const (
	CleanerChosen  Point = "cleaner: a segment is chosen"
	CleanerWritten Point = "cleaner: live blocks are written elsewhere"
	CleanerMoved   Point = "cleaner: live blocks count as moved"
	CleanerEmptied Point = "cleaner: a segment is emptied and waits for a checkpoint"
)

// The points of a recovery after a crash (store).
const (
	RecoveryRead  Point = "recovery: checkpoint and log are read"
	RecoveryBegun Point = "recovery: the new life has its checkpoint"
)

// The points of a take-over: of who opens the volume, and of a member.
const (
	TakeoverClaimed  Point = "take-over: the epoch is committed"
	TakeoverPromised Point = "take-over: members have promised"
	TakeoverCutBack  Point = "take-over: a member was cut back"
	TakeoverFilled   Point = "take-over: a member was given records that it lacked"
	TakeoverSettled  Point = "take-over: the in-sync set is committed"
	TakeoverBegun    Point = "take-over: members have begun the epoch"
	TakeoverWaited   Point = "take-over: no lease of an earlier writer is left"
	MemberPromised   Point = "take-over: a member's promise is on its disk and not answered"
	MemberCut        Point = "take-over: a member's cut is on its disk and not answered"
	MemberBegun      Point = "take-over: the epoch is on a member's disk and not answered"
)

// The points of an ejection and a resync: of the writer, and of who joins.
const (
	MemberEjected Point = "resync: an ejection is committed and not followed yet"
	JoinPrepared  Point = "resync: it is known what the joiner has"
	JoinRootSent  Point = "resync: the joiner has one more snapshot"
	JoinAttached  Point = "resync: the joiner is waited for"
	JoinBegun     Point = "resync: the joiner has begun its head"
	JoinCopied    Point = "resync: all blocks are sent"
	JoinBuilt     Point = "resync: the joiner has finished its head"
	JoinCounts    Point = "resync: the joiner counts and what was flushed is on its disk"
	JoinCommitted Point = "resync: the joiner is committed as in sync"
	RootBegun     Point = "resync: a snapshot is being received"
	RootFinished  Point = "resync: a snapshot was received whole"
	BuildBegun    Point = "resync: a head is being received, the one before is the fallback"
	BuildIngested Point = "resync: blocks were received"
	BuildAdopted  Point = "resync: a received head has taken the place of the one before, in memory"
	BuildFinished Point = "resync: a received head is on disk"
)

// The points of a snapshot, of a revert and of letting a snapshot go.
const (
	SnapshotAsked  Point = "snapshot: it is about to be asked for"
	SnapshotLogged Point = "snapshot: it is on the members' disks and has no name"
	SnapshotNamed  Point = "snapshot: its name is committed and nobody was told"
	SnapshotKept   Point = "snapshot: a member has its root, in memory"
	RevertLogged   Point = "revert: it is on the members' disks"
	RevertMerged   Point = "revert: a member's head is the snapshot's, in memory"
	DropAsked      Point = "snapshot delete: its name is gone and no member knows"
	DropLogged     Point = "snapshot delete: it is on the members' disks"
	DropMerged     Point = "snapshot delete: a member has let the root go, in memory"
)

// The points of the end of a volume, and of giving space back.
const (
	DeleteBegun     Point = "delete: a replica is to be removed"
	DeleteLogged    Point = "delete: a replica's end is on its disk"
	DeleteRemoved   Point = "delete: a replica is removed and the record names it"
	DeleteForgotten Point = "delete: the record does not name the replica any more"
	SpaceSome       Point = "delete: some blocks of what is gone are free"
	SpaceAll        Point = "delete: all blocks of what is gone are free"
)

// All returns every point.
func All() []Point {
	return []Point{
		CommitBegun, CommitWritten, CommitSynced, CommitTold,
		CheckpointCaptured, CheckpointPages, CheckpointCopy, CheckpointCatalog, CheckpointHalfRoot, CheckpointRoot, CheckpointDone,
		CleanerChosen, CleanerWritten, CleanerMoved, CleanerEmptied,
		RecoveryRead, RecoveryBegun,
		TakeoverClaimed, TakeoverPromised, TakeoverCutBack, TakeoverFilled, TakeoverSettled, TakeoverBegun, TakeoverWaited,
		MemberPromised, MemberCut, MemberBegun,
		MemberEjected, JoinPrepared, JoinRootSent, JoinAttached, JoinBegun, JoinCopied, JoinBuilt, JoinCounts, JoinCommitted,
		RootBegun, RootFinished, BuildBegun, BuildIngested, BuildAdopted, BuildFinished,
		SnapshotAsked, SnapshotLogged, SnapshotNamed, SnapshotKept, RevertLogged, RevertMerged, DropAsked, DropLogged, DropMerged,
		DeleteBegun, DeleteLogged, DeleteRemoved, DeleteForgotten, SpaceSome, SpaceAll,
	}
}
