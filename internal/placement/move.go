package placement

import (
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// Somewhere is a host, or one of its disks; all zero: anywhere.
type Somewhere struct {
	Host holdfast.HostID
	Disk holdfast.DiskID // zero: any of the host's
}

// PlaceMove decides which replica of a volume goes from somewhere, and where its
// successor is built: on the disk or host that was asked for, or else wherever
// is best but not where it comes from. Kind NotFound: there is no replica; kind
// Conflict: it is on its way already; kind NoSpace: it cannot go there.
func PlaceMove(s *cluster.State, vol cluster.Volume, from, to Somewhere) (goes cluster.Replica, spot Spot, why Why, err error) {
	v := Look(s)
	here := func(r cluster.Replica) bool {
		return (from.Host.IsZero() || r.Host == from.Host) && (from.Disk.IsZero() || r.Disk == from.Disk)
	}
	i := slices.IndexFunc(vol.InSync, here)
	if i < 0 {
		return goes, spot, why, holdfast.Errorf(holdfast.NotFound, "volume %s has no copy in sync there; it has them on %s", vol.Name, v.places(vol.InSync))
	}
	goes = vol.InSync[i]
	if v.Going(vol, goes) {
		return goes, spot, why, holdfast.Errorf(holdfast.Conflict, "the copy of volume %s on %s is on its way already", vol.Name, v.DiskName(goes))
	}
	c := Constraints{}
	switch {
	case !to.Disk.IsZero():
		c.Only = []holdfast.DiskID{to.Disk}
	case !to.Host.IsZero():
		c.Only = v.disksWithout(to.Host, goes.Disk)
	case from.Disk.IsZero():
		c.Exclude = []holdfast.HostID{goes.Host}
	}
	vol.Moving = append(slices.Clone(vol.Moving), goes.ID)
	spot, ok, why := v.placeReplica(vol, c)
	if !ok {
		return goes, spot, why, holdfast.Errorf(holdfast.NoSpace, "the copy of volume %s on %s cannot move there: %s", vol.Name, v.DiskName(goes), why.String())
	}
	return goes, spot, why, nil
}

// disksWithout lists a host's disks but one. It is never empty: a disk that does
// not exist stands for none.
func (v *View) disksWithout(host holdfast.HostID, but holdfast.DiskID) []holdfast.DiskID {
	out := []holdfast.DiskID{{}}
	if h := v.Host(host); h.Up() {
		for _, d := range h.Alive.Disks {
			if d.Disk != but {
				out = append(out, d.Disk)
			}
		}
	}
	return out
}

// The stages of a replica that is on its way off a disk, besides Waiting and
// Stays: its successor is being built; it has one and is let go.
const (
	Copying   Stage = "copying"
	LettingGo Stage = "letting go"
)

// Departure is what is to become of one volume's replica on a disk.
type Departure struct {
	Volume holdfast.VolumeID
	Name   string
	Blocks uint64
	Stage  Stage
	To     string // HOST:PATH, "" if there is no place
	Why    string // why there, or why nowhere
}

// Departures plans the evacuation of a disk, or says how far it has come: what
// stands on it, in the order of its going.
func Departures(s *cluster.State, disk holdfast.DiskID) (out []Departure) {
	then := *s
	d := s.Disks[disk]
	d.Val.Evacuate = true
	then.Disks = make(map[holdfast.DiskID]cluster.Versioned[cluster.Disk], len(s.Disks))
	for id, rec := range s.Disks {
		then.Disks[id] = rec
	}
	then.Disks[disk] = d
	then.Volumes = make(map[holdfast.VolumeID]cluster.Versioned[cluster.Volume], len(s.Volumes))
	for id, rec := range s.Volumes {
		then.Volumes[id] = rec
	}
	on := func(r cluster.Replica) bool { return r.Disk == disk }
	for _, linked := range []bool{false, true} { // what was cloned goes after what it was cloned from
		for _, vol := range Look(s).Volumes {
			if (vol.Origin != nil) != linked || !slices.ContainsFunc(vol.InSync, on) && !slices.ContainsFunc(vol.Others, on) {
				continue
			}
			out = append(out, depart(&then, vol))
		}
	}
	return out
}

// depart plans one volume's part, and notes in s what it would take up.
func depart(s *cluster.State, vol cluster.Volume) Departure {
	v := Look(s)
	out := Departure{Volume: vol.ID, Name: vol.Name, Blocks: vol.Blocks}
	if v.Wanted(vol) <= 0 {
		next := v.staying(vol, vol.Others)
		out.Stage, out.To = Copying, v.places(next)
		if len(next) == 0 {
			out.Stage = LettingGo
		}
		return out
	}
	spot, ok, why := v.placeReplica(vol, Constraints{})
	if !ok || len(v.InSync(vol)) == 0 {
		out.Stage, out.Why = Stays, why.String()
		return out
	}
	next := cluster.Replica{Host: spot.Host, Disk: spot.Disk}
	out.Stage, out.To, out.Why = Waiting, v.DiskName(next), strings.Join(why.Chosen, "; ")
	rec := s.Volumes[vol.ID]
	rec.Val.Others = append(slices.Clone(rec.Val.Others), next)
	s.Volumes[vol.ID] = rec
	return out
}

// Holds names the volumes that have a replica on a disk, those that are being
// deleted included.
func Holds(s *cluster.State, disk holdfast.DiskID) (names []string) {
	on := func(r cluster.Replica) bool { return r.Disk == disk }
	for _, v := range s.SortedVolumes() {
		if slices.ContainsFunc(v.Val.InSync, on) || slices.ContainsFunc(v.Val.Others, on) {
			names = append(names, v.Val.Name)
		}
	}
	return names
}

// Unknown reports whether a disk is none of the cluster's, and no volume names it:
// it was taken back while its host was away.
func Unknown(s *cluster.State, disk holdfast.DiskID) bool {
	_, known := s.Disks[disk]
	return !known && len(Holds(s, disk)) == 0
}

// SpotName names a spot for people.
func (v *View) SpotName(s Spot) string {
	return v.DiskName(cluster.Replica{Host: s.Host, Disk: s.Disk})
}
