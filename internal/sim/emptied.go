package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// emptyLimit is how long it may take until nothing is left of what was deleted.
const emptyLimit = 2 * time.Minute

// emptied deletes everything there is, and waits until the disks are as empty as
// new ones: no replica is left on them, and nothing in use. It ends a run.
func (s *simulation) emptied() {
	clock.Sleep(s.c, strayWait)
	strays := s.strays()
	s.tell("everything is deleted")
	var left string
	for end := s.w.Now() + emptyLimit; s.w.Now() < end; clock.Sleep(s.c, time.Second) {
		err := s.op.on(s.hosts[0], deleteAll)
		s.checkpoint()
		if left = s.leftOver(strays); err == nil && left == "" {
			s.tell("all disks are as empty as new ones, but for %d replicas that no record named before", len(strays))
			return
		}
		if err != nil {
			left = err.Error()
		}
	}
	s.fail("everything was deleted, and something is left: %s", left)
}

// deleteAll deletes all VMs and volumes as far as that can be done now; an image
// goes after its clones.
func deleteAll(p *provision.Provisioner) error {
	st, err := p.Cluster.Refresh()
	if err != nil {
		return err
	}
	for _, vm := range st.SortedVMs() {
		if !vm.Val.Deleted {
			if err := p.DeleteVM(vm.Val.ID, cluster.VMRemoval{Force: true}); err != nil {
				return err
			}
		}
	}
	for _, v := range st.SortedVolumes() {
		if !v.Val.Deleted {
			if err := p.DeleteVolume(v.Val.ID, false); err != nil && !holdfast.IsKind(err, holdfast.Conflict) {
				return err
			}
		}
	}
	if n := len(st.Volumes) + len(st.VMs); n > 0 {
		return holdfast.Errorf(holdfast.Conflict, "%d volumes and VMs have records", n)
	}
	return nil
}

// checkpoint has all disks make one: what a map no longer needs is given back with
// the next.
func (s *simulation) checkpoint() {
	for _, h := range s.hosts {
		s.runOn(h, emptyLimit, func() {
			for _, st := range h.node.Volumes.Stores() {
				_ = st.Checkpoint() // what keeps it from that is found by what is left
			}
		})
	}
}

// strayWait is as long as hosts take at most to remove what their volumes have
// dropped.
const strayWait = 25 * time.Second

// strays finds the replicas that no record names: they were made for a volume, or a
// copy, whose commit never came, or are on an old copy of a disk. While their volume
// has a record a host removes them; once it has none they are left alone, for the
// record may be missing by mistake, and their space is not given back.
func (s *simulation) strays() map[holdfast.ReplicaID]bool {
	named, out := make(map[holdfast.ReplicaID]bool), make(map[holdfast.ReplicaID]bool)
	for _, v := range s.eye.State().Volumes {
		for _, r := range append(slices.Clone(v.Val.InSync), v.Val.Others...) {
			named[r.ID] = true
		}
	}
	for _, h := range s.hosts {
		if h.node == nil {
			continue
		}
		for _, st := range h.node.Volumes.Stores() {
			for _, r := range st.Replicas() {
				if id := r.State().Replica; !named[id] {
					out[id] = true
				}
			}
		}
	}
	return out
}

// leftOver says what the disks still hold that is no stray; "" if nothing.
func (s *simulation) leftOver(strays map[holdfast.ReplicaID]bool) string {
	for _, h := range s.hosts {
		if h.node == nil {
			return h.name + " does not serve"
		}
		for _, st := range h.node.Volumes.Stores() {
			all := st.Replicas()
			for _, r := range all {
				if is := r.State(); !strays[is.Replica] {
					return fmt.Sprintf("a replica of volume %s on a disk of %s", is.Volume.Short(), h.name)
				}
			}
			if len(all) > 0 {
				continue // what they hold cannot be told from what would be too much
			}
			if u := st.Usage(); u.Live > 0 {
				return fmt.Sprintf("%d bytes are in use on a disk of %s", u.Live, h.name)
			}
		}
	}
	return ""
}
