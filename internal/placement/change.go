package placement

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/fair"
)

// Change is what is to be different about a volume; nil fields stay.
type Change struct {
	Copies     *int
	Min        *int
	Durability *cluster.Durability
	Reads      *cluster.Reads
	// Of the limits; 0 takes one away.
	IOPS, MBps, BurstMS *int
	Shared              *bool
	Weight              *int // 0 is the default
}

// ChangeVolume decides a change of a volume that may be in use: its record
// without the copies that it is to have in addition, where those go, and what it
// leads to, in words. Kind Invalid: it asks for what cannot be; kind NoSpace:
// there is no room for the copies; kind Unavailable: nothing could be written
// any more.
func ChangeVolume(s *cluster.State, vol cluster.Volume, c Change) (next cluster.Volume, add []Spot, steps []string, err error) {
	v := Look(s)
	next = vol
	if c.Durability != nil && *c.Durability != vol.Durability {
		if vm, ok := s.VMs[vol.VM]; ok && vm.Val.UEFI() && vm.Val.Vars == vol.ID {
			return vol, nil, nil, holdfast.Errorf(holdfast.Denied, "volume %s holds the UEFI variables of VM %s: firmware never flushes, so each of its writes has to be on disk", vol.Name, vm.Val.Name)
		}
		next.Durability = *c.Durability
		steps = append(steps, fmt.Sprintf("A write is acknowledged %s.", acknowledged(next.Durability)))
	}
	if c.Reads != nil && *c.Reads != cmp.Or(vol.Reads, cluster.Leased) {
		next.Reads = *c.Reads
		steps = append(steps, fmt.Sprintf("A read is served %s.", servedUnder(next.Reads)))
	}
	if c.Min != nil && *c.Min != vol.Min {
		next.Min = *c.Min
		steps = append(steps, fmt.Sprintf("Writes go on as long as %s in sync.", count(next.Min, "copy is", "copies are")))
	}
	if next.Limits, err = c.limits(vol.Limits); err != nil {
		return vol, nil, nil, holdfast.Errorf(holdfast.Invalid, "volume %s: %w", vol.Name, err)
	}
	if next.Limits != vol.Limits {
		steps = append(steps, limited(next.Limits))
	}
	if c.Shared != nil && *c.Shared != vol.Shared {
		if vm, ok := s.VMs[vol.VM]; ok && *c.Shared {
			return vol, nil, nil, holdfast.Errorf(holdfast.Conflict, "volume %s is the disk of VM %s, which is never written by anybody else", vol.Name, vm.Val.Name)
		}
		next.Shared = *c.Shared
		steps = append(steps, sharing(next.Shared))
	}
	if c.Weight != nil && *c.Weight != vol.Weight {
		next.Weight = *c.Weight
		if err = cluster.CheckWeight(next.Weight); err != nil {
			return vol, nil, nil, holdfast.Errorf(holdfast.Invalid, "volume %s: %w", vol.Name, err)
		}
		steps = append(steps, fmt.Sprintf("Its share of a disk that others want too has the weight %d, where %d is usual.", cmp.Or(next.Weight, fair.DefaultWeight), fair.DefaultWeight))
	}
	if c.Copies != nil && *c.Copies != vol.Copies {
		next.Copies = *c.Copies
		var more []string
		if add, more, err = v.recopy(vol, next); err != nil {
			return vol, nil, nil, err
		}
		steps = append(steps, more...)
	}
	have := len(v.InSync(vol))
	switch {
	case next.Copies < 1 || next.Copies > cluster.MaxCopies:
		err = holdfast.Errorf(holdfast.Invalid, "volume %s: %d copies are out of range; give 1 to %d", vol.Name, next.Copies, cluster.MaxCopies)
	case next.Min < 1 || next.Min > next.Copies:
		err = holdfast.Errorf(holdfast.Invalid, "volume %s: at least %d of %d copies in sync is out of range; give 1 to %d as the least", vol.Name, next.Min, next.Copies, next.Copies)
	case next.Min > vol.Min && next.Min > have:
		err = holdfast.Errorf(holdfast.Unavailable, "volume %s has %s in sync now: with %d as the least nothing could be written; wait until it has more", vol.Name, count(have, "copy", "copies"), next.Min)
	}
	return next, add, steps, err
}

// limits changes a volume's limits. With the last rate its burst goes, unless
// that is asked for.
func (c Change) limits(l cluster.Limits) (cluster.Limits, error) {
	for _, f := range []struct{ from, to *int }{{c.IOPS, &l.IOPS}, {c.MBps, &l.MBps}, {c.BurstMS, &l.BurstMS}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	if l.IOPS == 0 && l.MBps == 0 && c.BurstMS == nil {
		l.BurstMS = 0
	}
	return l, l.Check()
}

func sharing(on bool) string {
	if on {
		return "Several NBD clients may write it at the same time, at the host that writes it; what they write is theirs to agree on."
	}
	return "One client at a time may write it; those that write it now may go on until they leave."
}

func limited(l cluster.Limits) string {
	if l == (cluster.Limits{}) {
		return "Its reads and writes are not limited any more."
	}
	return fmt.Sprintf("Its reads and writes are limited to %s.", l)
}

func acknowledged(d cluster.Durability) string {
	if d == cluster.Always {
		return "when it is on disk at every copy in sync"
	}
	return "when every copy in sync has it in memory, and a flush when it is on disk there"
}

func servedUnder(r cluster.Reads) string {
	if r == cluster.Confirmed {
		return "when every copy in sync has confirmed that no other host writes the volume: a round trip each time, and no clock is trusted"
	}
	return "while all copies in sync grant its writer a lease: without asking, and clocks are trusted to run alike"
}

// recopy decides where a volume's further copies go, or says which go.
func (v *View) recopy(vol, next cluster.Volume) (add []Spot, steps []string, err error) {
	if next.Copies < vol.Copies {
		if _, why := v.Release(next); why != "" {
			steps = append(steps, fmt.Sprintf("Copies are let go of: %s.", why))
		}
		return nil, steps, nil
	}
	for next.Copies <= cluster.MaxCopies && v.Wanted(next) > 0 {
		spot, ok, why := v.placeReplica(next, Constraints{})
		if !ok {
			return nil, nil, holdfast.Errorf(holdfast.NoSpace, "volume %s cannot have %s: %s", vol.Name, count(next.Copies, "copy", "copies"), why.String())
		}
		add = append(add, spot)
		steps = append(steps, fmt.Sprintf("A copy is built on %s.", why.Chosen[0]))
		next.Others = append(slices.Clone(next.Others), cluster.Replica{Host: spot.Host, Disk: spot.Disk})
	}
	return add, steps, nil
}
