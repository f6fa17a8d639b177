package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// In every third seed the hosts have two disks (topology.go). Disks are pulled and put back,
// and the operator evacuates disks, moves copies and changes how many there are.

const secondPath = "/disk2"

// addSecond gives a host its second disk, before it is formatted.
func (h *host) addSecond() {
	id, err := holdfast.NewUUID(bytesOf{h.s.disks})
	h.s.must(err, "uuid")
	h.second = memdisk.New(h.size, h.s.w.Rand("second disk "+h.name))
	h.secondID = holdfast.DiskID{UUID: id}
	h.s.twoDisks = true
}

// media returns the host's disks.
func (h *host) media() []*memdisk.Disk {
	if h.second == nil {
		return []*memdisk.Disk{h.disk}
	}
	return []*memdisk.Disk{h.disk, h.second}
}

// pullDisk takes a disk out of a running host: everything that is asked of it
// fails. Somebody puts it back later, and may restart the host's process.
func (f *faults) pullDisk() {
	h, d := f.host(), f.length()
	f.strike("disk pull %s for %v", f.disk(h), d)
	if f.rng.IntN(2) == 0 {
		f.after(d+time.Millisecond, func() { f.strike("restart host %s", h.name) })
	}
}

// arrange does what the operator does with disks and copies.
func (o *operator) arrange(rng *rand.Rand) (string, error) {
	st := o.s.eye.State()
	vols := st.SortedVolumes()
	v := vols[rng.IntN(len(vols))].Val
	h := o.s.hosts[rng.IntN(len(o.s.hosts))]
	switch k := rng.IntN(8); {
	case k < 2:
		id := h.did
		if rng.IntN(2) == 0 && h.second != nil {
			id = h.secondID
		}
		on := !st.Disks[id].Val.Evacuate
		return fmt.Sprintf("evacuate %s %s: %v", h.name, st.Disks[id].Val.Path, on), o.on(o.host(), func(p *provision.Provisioner) error {
			_, err := p.EvacuateDisk(id, provision.Evacuation{On: on})
			return err
		})
	case k < 6 && len(v.InSync) > 0:
		from := v.InSync[rng.IntN(len(v.InSync))]
		to := placement.Somewhere{}
		if rng.IntN(2) == 0 {
			to.Host = h.rec.ID
		}
		return fmt.Sprintf("move a copy of %s", v.Name), o.on(o.host(), func(p *provision.Provisioner) error {
			_, _, _, err := p.MoveReplica(v.ID, placement.Somewhere{Host: from.Host, Disk: from.Disk}, to)
			return err
		})
	}
	copies := 2 + rng.IntN(2)
	return fmt.Sprintf("%d copies of %s", copies, v.Name), o.on(o.host(), func(p *provision.Provisioner) error {
		_, err := p.ChangeVolume(v.ID, placement.Change{Copies: &copies})
		return err
	})
}

// unarrange lets all disks take copies again, and copies stay that have no place
// to go to.
func (o *operator) unarrange(p *provision.Provisioner, st *cluster.State) error {
	for _, d := range st.SortedDisks() {
		if d.Val.Evacuate {
			if _, err := p.EvacuateDisk(d.Val.ID, provision.Evacuation{}); err != nil {
				return err
			}
		}
	}
	for _, v := range st.SortedVolumes() {
		if len(v.Val.Moving) > 0 {
			if _, err := p.StayReplicas(v.Val.ID); err != nil && !holdfast.IsKind(err, holdfast.NotFound) {
				return err
			}
		}
	}
	return nil
}

// rearranging says which volume's copies are still on their way.
func rearranging(st *cluster.State) string {
	for _, v := range st.SortedVolumes() {
		hosts := map[holdfast.HostID]bool{}
		for _, r := range v.Val.InSync {
			hosts[r.Host] = true
		}
		if len(v.Val.Moving) > 0 || v.Val.Release != nil || len(hosts) < len(v.Val.InSync) || len(v.Val.InSync) > v.Val.Copies {
			return fmt.Sprintf("volume %s has %d copies on %d hosts, %d of them moving", v.Val.Name, len(v.Val.InSync), len(hosts), len(v.Val.Moving))
		}
	}
	return ""
}
