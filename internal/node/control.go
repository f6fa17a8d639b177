package node

import (
	"math"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/agent"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// diskReport is how often a host looks whether its disks' free space has
// changed enough to be told.
const diskReport = 5 * time.Second

// control is the cluster's records as the volumes and the agent see them.
type control struct{ n *Node }

// ReadVolume implements volume.Records.
func (c *control) ReadVolume(id holdfast.VolumeID) (cluster.Volume, kv.Rev, error) {
	v, err := c.n.Cluster.ReadVolume(id)
	return v.Val, v.Mod, err
}

// CommitVolume implements volume.Records.
func (c *control) CommitVolume(v cluster.Volume, mod kv.Rev) (kv.Rev, error) {
	tx := c.n.Cluster.Begin()
	tx.PutVolume(v, mod)
	return tx.Commit()
}

// ClaimVolume implements volume.Records.
func (c *control) ClaimVolume(v cluster.Volume, mod kv.Rev) (kv.Rev, error) {
	if c.n.Witness {
		return 0, holdfast.Errorf(holdfast.Unavailable, "host %s is a witness and opens no volumes; ask another host of the cluster", c.n.hostName())
	}
	tx := c.n.Cluster.Begin()
	tx.PutVolume(v, mod)
	if vm, ok := c.n.Cluster.State().VMs[v.VM]; ok && vm.Val.Power == cluster.On {
		if vm.Val.Host != c.n.Self {
			return 0, holdfast.Errorf(holdfast.Unavailable, "volume %s belongs to VM %s, which is assigned to another host", v.Name, vm.Val.Name)
		}
		tx.RequireVM(v.VM, vm.Mod)
	}
	return tx.Commit()
}

// Alive implements volume.Records.
func (c *control) Alive(h holdfast.HostID) bool { return c.n.Cluster.State().AliveHost(h) }

// Uses implements volume.Records.
func (c *control) Uses(r cluster.Replica) bool {
	h, ok := c.n.Cluster.State().Alive[r.Host]
	return ok && slices.ContainsFunc(h.Val.Disks, func(d cluster.DiskUse) bool { return d.Disk == r.Disk && d.Error == "" })
}

// State implements agent.Control.
func (c *control) State() *cluster.State {
	if s := c.n.Cluster.State(); s.Rev > 0 {
		return s
	}
	return nil
}

// Confirmed implements agent.Control.
func (c *control) Confirmed() time.Duration {
	at, ok := c.n.alive.Standing()
	if !ok {
		at = c.n.born // a life that has just begun is not cut off yet
	}
	return c.n.Clock.Now() - at
}

// PutMachine implements agent.Control.
func (c *control) PutMachine(m cluster.Machine, vm holdfast.VMID, mod kv.Rev) error {
	tx := c.n.Cluster.Begin()
	tx.RequireVM(vm, mod)
	tx.PutMachine(m, cluster.Any)
	rev, err := tx.Commit()
	if err == nil {
		c.n.Cluster.WaitRev(rev, time.Second)
	}
	return err
}

// PowerOff implements agent.Control.
func (c *control) PowerOff(v cluster.VM, m cluster.Machine, mod kv.Rev) error {
	tx := c.n.Cluster.Begin()
	tx.PutVM(v, mod)
	tx.PutMachine(m, cluster.Any)
	_, err := tx.Commit()
	return err
}

// DetachDisks implements agent.Control.
func (c *control) DetachDisks(v cluster.VM, ids []holdfast.VolumeID, mod kv.Rev) error {
	tx := c.n.Cluster.Begin()
	for _, id := range ids {
		if rec, ok := c.n.Cluster.State().Volumes[id]; ok && rec.Val.VM == v.ID {
			rec.Val.VM = holdfast.VMID{}
			tx.PutVolume(rec.Val, rec.Mod)
		}
	}
	v.Disks = v.WithoutDisks(ids...)
	tx.PutVM(v, mod)
	_, err := tx.Commit()
	return err
}

// PutVM implements agent.Control.
func (c *control) PutVM(v cluster.VM, without holdfast.VolumeID, mod kv.Rev) error {
	st := c.n.Cluster.State()
	tx := c.n.Cluster.Begin()
	tx.PutVM(v, mod)
	cluster.Discard(st, tx, without)
	_, err := tx.Commit()
	return err
}

// DeleteVM implements agent.Control.
func (c *control) DeleteVM(v cluster.VM, mod kv.Rev) error {
	tx := c.n.Cluster.Begin()
	tx.DeleteVM(v.ID, mod)
	if m, ok := c.n.Cluster.State().Machines[v.ID]; ok {
		tx.DeleteMachine(v.ID, m.Mod)
	}
	_, err := tx.Commit()
	return err
}

// DeleteVolume implements agent.Control. A deleted snapshot that was kept for
// this last clone of it goes from its volume's record as well.
func (c *control) DeleteVolume(v cluster.Volume, mod kv.Rev) error {
	tx := c.n.Cluster.Begin()
	tx.DeleteVolume(v.ID, mod)
	if rec, mod, ok := unneeded(c.n.Cluster.State(), v); ok {
		tx.PutVolume(rec, mod)
	}
	_, err := tx.Commit()
	return err
}

// unneeded returns the record of the volume that v was cloned from without the
// snapshot it was made of, if that is deleted and v was its last clone.
func unneeded(st *cluster.State, v cluster.Volume) (rec cluster.Volume, mod kv.Rev, ok bool) {
	if v.Origin == nil || v.Origin.Snapshot.IsZero() {
		return rec, 0, false
	}
	for _, o := range st.SortedVolumes() {
		if w := o.Val.Origin; w != nil && w.Snapshot == v.Origin.Snapshot && o.Val.ID != v.ID {
			return rec, 0, false
		}
	}
	from, ok := st.Volumes[v.Origin.Volume]
	if !ok {
		return rec, 0, false
	}
	rec = from.Val
	rec.Snapshots = slices.DeleteFunc(slices.Clone(rec.Snapshots), func(s cluster.Snapshot) bool { return s.Hidden && s.ID == v.Origin.Snapshot })
	return rec, from.Mod, len(rec.Snapshots) < len(from.Val.Snapshots)
}

// publishDisks tells the cluster what is free, if that has changed by a
// hundredth, or what is written for it by a tenth, or a disk came or failed.
func (n *Node) publishDisks() {
	n.publishing.Lock() // a disk may be added while others are looked at
	defer n.publishing.Unlock()
	var disks []cluster.DiskUse
	for _, st := range n.Volumes.Stores() {
		disks = append(disks, diskUse(st))
	}
	if slices.EqualFunc(n.published, disks, sameUse) {
		return
	}
	n.published = disks
	n.alive.Update(func(a *cluster.Alive) { a.Disks = disks })
}

// tellMachines tells the cluster what machines of this host are made of, and
// whether it can start VMs with UEFI, if that has changed: QEMU and firmware may
// be installed while it runs.
func (n *Node) tellMachines() {
	now := machines{kind: n.Hyper.Kind(), uefi: n.toldMachines.uefi}
	if f, ok := n.Hyper.(agent.Firmware); ok {
		now.uefi = f.UEFI()
	}
	if now != n.toldMachines {
		n.toldMachines = now
		n.alive.Update(func(a *cluster.Alive) { a.Machines, a.UEFI = now.kind, now.uefi })
	}
}

// machines is what a host says of those that it starts.
type machines struct {
	kind string
	uefi bool
}

// diskUse is the state of a disk. What nothing refers to is free, wherever it
// lies: the cleaner makes room of it when room is needed.
func diskUse(st *store.Store) cluster.DiskUse {
	u := st.Usage()
	d := cluster.DiskUse{Disk: st.Identity().Disk, Total: u.Total, Free: max(0, u.Total-u.Live), Full: u.Live >= u.Usable,
		WriteAmp: hundredths(u.WriteAmp()), MapAmp: hundredths(u.MapAmp()), Scrubs: st.Scrubbing().Running}
	if err := st.Err(); err != nil {
		d.Error = err.Error()
	}
	return d
}

func hundredths(x float64) float64 { return math.Round(x*100) / 100 }

func sameUse(a, b cluster.DiskUse) bool {
	diff, amp := a.Free-b.Free, a.WriteAmp-b.WriteAmp
	return a.Disk == b.Disk && a.Total == b.Total && a.Full == b.Full && a.Error == b.Error && a.Scrubs == b.Scrubs &&
		diff < a.Total/100 && -diff < a.Total/100 && math.Abs(amp) < max(a.WriteAmp, 1)/10
}
