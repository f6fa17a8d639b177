package placement

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// A replica is replaced before it goes: another is built, comes into sync, and
// only then is the old one let go. Nothing in between is worse off than before
// (ADR 0050).

// Going reports whether a replica is to be replaced: its disk is evacuated, or
// somebody wants it elsewhere.
func (v *View) Going(vol cluster.Volume, r cluster.Replica) bool {
	return v.State.Disks[r.Disk].Val.Evacuate || slices.Contains(vol.Moving, r.ID)
}

// staying returns the usable replicas of a list that are not going.
func (v *View) staying(vol cluster.Volume, list []cluster.Replica) (out []cluster.Replica) {
	for _, r := range list {
		if v.Usable(r) && !v.Going(vol, r) {
			out = append(out, r)
		}
	}
	return out
}

// usable returns the replicas of a list that can be used now.
func (v *View) usable(list []cluster.Replica) (out []cluster.Replica) {
	for _, r := range list {
		if v.Usable(r) {
			out = append(out, r)
		}
	}
	return out
}

// countUsable is how many usable returns.
func (v *View) countUsable(list []cluster.Replica) (n int) {
	for _, r := range list {
		if v.Usable(r) {
			n++
		}
	}
	return n
}

// standing is what a set of replicas stands: on how many hosts and racks they
// are. More than the copies that a volume wants counts for nothing.
type standing struct{ hosts, racks int }

func (v *View) standing(vol cluster.Volume, list []cluster.Replica) standing {
	var s standing
	for i, r := range list {
		h := v.Host(r.Host)
		if h == nil {
			continue
		}
		host, rack := true, true // that nothing before it stands on
		for _, o := range list[:i] {
			if b := v.Host(o.Host); b != nil {
				host, rack = host && b != h, rack && b.Domain != h.Domain
			}
		}
		if host {
			s.hosts++
		}
		if rack {
			s.racks++
		}
	}
	return standing{min(s.hosts, vol.Copies), min(s.racks, vol.Copies)}
}

func (s standing) atLeast(o standing) bool { return s.hosts >= o.hosts && s.racks >= o.racks }

// Copies counts the hosts with a usable in-sync replica, as far as the volume
// wants them: two disks of one host are one copy.
func (v *View) Copies(vol cluster.Volume) int { return v.standing(vol, v.InSync(vol)).hosts }

// Lost is how many copies are missing, those that are being built or brought up
// to date not counted.
func (v *View) Lost(vol cluster.Volume) int {
	return vol.Copies - v.standing(vol, v.usable(slices.Concat(vol.InSync, vol.Others))).hosts
}

// Wanted is how many copies are to be built: those missing, and those in place
// of replicas that are going.
func (v *View) Wanted(vol cluster.Volume) int {
	return vol.Copies - v.standing(vol, v.staying(vol, slices.Concat(vol.InSync, vol.Others))).hosts
}

// Replaced reports whether the replicas that stay, in sync and usable, stand as
// much as all that can be used now, with those that are being built.
func (v *View) Replaced(vol cluster.Volume) bool {
	stay := v.staying(vol, vol.InSync)
	all := append(v.InSync(vol), v.staying(vol, vol.Others)...)
	return len(stay) > 0 && v.standing(vol, stay).atLeast(v.standing(vol, all))
}

// Release says what the writer of a volume is to let go of now: replicas that
// are going and have been replaced, and those without which the rest stands as
// much; nil: nothing. Nothing goes while a copy is missing that could be built.
// why tells people.
func (v *View) Release(vol cluster.Volume) (rel *cluster.Release, why string) {
	if v.Lost(vol) > 0 {
		if _, ok, _ := v.PlaceReplica(vol); ok {
			return nil, ""
		}
	}
	stay := v.InSync(vol)
	if !v.standing(vol, stay).atLeast(v.standing(vol, append(v.InSync(vol), v.staying(vol, vol.Others)...))) {
		return nil, "" // what is being built may be needed
	}
	var let []cluster.Replica
	if v.Replaced(vol) {
		let = slices.DeleteFunc(slices.Clone(stay), func(r cluster.Replica) bool { return !v.Going(vol, r) })
		stay = v.staying(vol, stay)
	}
	for {
		i := v.spare(vol, stay)
		if i < 0 {
			break
		}
		let = append(let, stay[i])
		stay = slices.Delete(stay, i, i+1)
	}
	if len(let) == 0 || len(stay) < vol.Min {
		return nil, ""
	}
	rel = &cluster.Release{}
	for _, r := range let {
		rel.Go = append(rel.Go, r.ID)
	}
	for _, r := range stay {
		rel.Keep = append(rel.Keep, r.ID)
	}
	return rel, fmt.Sprintf("%s without that on %s: it stands on %s", vol.Name, v.places(let), v.places(stay))
}

// spare returns which of a volume's replicas in sync can be spared: the others
// stand as much without it. Rather one that is going, then one that its writer
// does not have on its own host, then one on a disk with little room. -1: none.
func (v *View) spare(vol cluster.Volume, list []cluster.Replica) int {
	all := v.standing(vol, list)
	best := -1
	for i, r := range list {
		rest := slices.Delete(slices.Clone(list), i, i+1)
		if len(rest) > 0 && v.standing(vol, rest).atLeast(all) && (best < 0 || v.rather(vol, r, list[best])) {
			best = i
		}
	}
	return best
}

// rather reports whether a replica is rather spared than another.
func (v *View) rather(vol cluster.Volume, a, b cluster.Replica) bool {
	if x, y := v.Going(vol, a), v.Going(vol, b); x != y {
		return x
	}
	if x, y := a.Host != vol.Writer, b.Host != vol.Writer; x != y {
		return x
	}
	return v.free(a) < v.free(b)
}

func (v *View) free(r cluster.Replica) int64 {
	if h := v.Host(r.Host); h.Up() {
		for _, d := range h.Alive.Disks {
			if d.Disk == r.Disk {
				return d.Free
			}
		}
	}
	return 0
}

func (v *View) places(list []cluster.Replica) string {
	var out []string
	for _, r := range list {
		out = append(out, v.DiskName(r))
	}
	return strings.Join(out, ", ")
}

// DiskName returns HOST:PATH of a replica's disk.
func (v *View) DiskName(r cluster.Replica) string { return diskName(v, v.HostName(r.Host), r.Disk) }

// Surplus returns the replicas outside the in-sync set that are not needed any
// more: all, if the volume has its copies without them, and those that are
// going once they stand for nothing and will not be missed.
func (v *View) Surplus(vol cluster.Volume) (out []cluster.Replica) {
	stay := v.standing(vol, v.staying(vol, vol.InSync)).hosts
	rest := slices.Concat(vol.InSync, vol.Others)
	for _, r := range vol.Others {
		less := slices.DeleteFunc(slices.Clone(rest), func(o cluster.Replica) bool { return o == r })
		idle := v.Up(r.Host) && v.standing(vol, v.usable(less)).atLeast(v.standing(vol, v.usable(rest)))
		if stay >= vol.Copies || v.Going(vol, r) && v.Replaced(vol) && idle {
			out, rest = append(out, r), less
		}
	}
	return out
}
