package v1

import "time"

// SnapshotGroupSpec asks for snapshots of several volumes at one point.
type SnapshotGroupSpec struct {
	Name    string   `json:"name" maxLength:"63" doc:"Of the snapshot of each volume"`
	Volumes []string `json:"volumes" minItems:"1" maxItems:"32" doc:"Names or identities, each once"`
}

// SnapshotGroup is snapshots of several volumes that were made at one point: if
// a write is in its volume's, so is every write to one of the volumes that was
// acknowledged before it was sent.
type SnapshotGroup struct {
	ID      string                `json:"id"`
	Name    string                `json:"name"`
	Created time.Time             `json:"created"`
	Volumes int                   `json:"volumes" doc:"How many it was made of"`
	Members []SnapshotGroupMember `json:"members" doc:"What is left of it, by volume; the others were deleted since"`
}

// SnapshotGroupMember is one volume's snapshot in a group.
type SnapshotGroupMember struct {
	Volume   string `json:"volume"`
	Snapshot string `json:"snapshot" doc:"Its identity"`
	LSN      string `json:"lsn"`
}
