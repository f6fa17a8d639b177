package cluster

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// MaxGroup bounds the volumes of a group snapshot: all of it is named in one
// commit.
const MaxGroup = 32

// SnapshotGroup is snapshots of several volumes that were made at one point.
type SnapshotGroup struct {
	ID      holdfast.GroupID
	Name    string // that all of them were given
	Size    int    // how many volumes it was made of
	Created time.Time
	Members []GroupMember // those that are still there, in order of the volumes' names
}

// GroupMember is one snapshot of a group.
type GroupMember struct {
	Volume   holdfast.VolumeID
	Name     string // of the volume
	Snapshot Snapshot
}

// SnapshotGroups returns the groups of which a snapshot is left that is not
// hidden, the newest last.
func (s *State) SnapshotGroups() []SnapshotGroup {
	byID := make(map[holdfast.GroupID]*SnapshotGroup)
	var order []*SnapshotGroup
	for _, v := range s.SortedVolumes() {
		if v.Val.Deleted {
			continue
		}
		for _, snap := range v.Val.Snapshots {
			if snap.Group.IsZero() || snap.Hidden {
				continue
			}
			g := byID[snap.Group]
			if g == nil {
				g = &SnapshotGroup{ID: snap.Group, Name: snap.Name, Size: snap.GroupSize, Created: snap.Created}
				byID[snap.Group] = g
				order = append(order, g)
			}
			g.Members = append(g.Members, GroupMember{v.Val.ID, v.Val.Name, snap})
		}
	}
	out := make([]SnapshotGroup, 0, len(order))
	for _, g := range order {
		out = append(out, *g)
	}
	slices.SortStableFunc(out, func(a, b SnapshotGroup) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID.String(), b.ID.String()))
	})
	return out
}
