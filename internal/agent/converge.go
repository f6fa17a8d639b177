package agent

import (
	"slices"
	"sort"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/crashpoint"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

const (
	convergeEvery = time.Second
	petFor        = 15 * time.Second // how long the machines outlive a hung agent
)

// run follows the cluster's state until the agent stops.
func (a *Agent) run() {
	for !a.stopped() {
		if st := a.Control.State(); st != nil {
			a.follow(st)
		}
		if a.Watchdog != nil {
			if err := a.Watchdog.Pet(petFor); err != nil {
				a.Log.Warn("the watchdog cannot be petted", "error", err)
			}
		}
		a.wake.Wait(convergeEvery)
	}
}

func (a *Agent) follow(st *cluster.State) {
	a.followVolumes(st)
	a.followVMs(st)
	a.takeCare(st)
	a.removeReplicas(st)
	a.removeDropped(st)
}

// workerIDs returns the VMs with workers in order; a.mu is held.
func (a *Agent) workerIDs() []holdfast.VMID {
	ids := make([]holdfast.VMID, 0, len(a.workers))
	for id := range a.workers {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return string(ids[i].UUID[:]) < string(ids[j].UUID[:]) })
	return ids
}

// followVMs hands every VM that concerns this host to its worker.
func (a *Agent) followVMs(st *cluster.State) {
	vms := st.SortedVMs()
	a.mu.Lock()
	for _, vm := range vms {
		if vm.Val.Host == a.Self && a.workers[vm.Val.ID] == nil {
			a.worker(vm.Val.ID)
		}
	}
	ids := a.workerIDs()
	workers := make([]*worker, len(ids))
	for i, id := range ids {
		workers[i] = a.workers[id]
	}
	a.mu.Unlock()
	for _, w := range workers {
		vm, ok := st.VMs[w.id]
		w.want(vm, ok, st.Rev)
	}
	if a.Published != nil {
		list := make([]cluster.VM, len(vms))
		for i := range vms {
			list[i] = vms[i].Val
		}
		a.Published(list)
	}
}

// followVolumes exports every volume, images once they are sealed and only to be
// read, and tells open ones what their records say now.
func (a *Agent) followVolumes(st *cluster.State) {
	for _, v := range st.SortedVolumes() {
		rec := v.Val
		a.Volumes.NoteRecord(rec, v.Mod)
		exported := a.Socket(rec.ID) != ""
		switch {
		case a.Exports == nil: // a witness, which offers nothing
		case rec.Deleted || rec.Image && !rec.Sealed:
			if exported {
				a.withdraw(rec.ID)
			}
		case !exported:
			a.publish(rec)
		}
	}
	for _, id := range a.exportedIDs() {
		if _, ok := st.Volumes[id]; !ok {
			a.withdraw(id)
		}
	}
}

func (a *Agent) exportedIDs() []holdfast.VolumeID {
	a.mu.Lock()
	defer a.mu.Unlock()
	ids := make([]holdfast.VolumeID, 0, len(a.published))
	for id := range a.published {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return string(ids[i].UUID[:]) < string(ids[j].UUID[:]) })
	return ids
}

func (a *Agent) publish(rec cluster.Volume) {
	id := rec.ID
	path, err := a.Exports.Publish(id, rec.Name, a.Volumes.Target(rec))
	if err != nil {
		a.Log.Error("a volume could not be exported", "volume", rec.Name, "error", err)
		return
	}
	a.mu.Lock()
	a.published[id] = path
	a.mu.Unlock()
}

func (a *Agent) withdraw(id holdfast.VolumeID) {
	a.Exports.Withdraw(id)
	a.mu.Lock()
	delete(a.published, id)
	a.mu.Unlock()
}

// MayOpen decides whether a session here may make this host the writer: a
// VM's disk is opened only where the VM is assigned.
func (a *Agent) MayOpen(id holdfast.VolumeID) error {
	st := a.Control.State()
	if st == nil {
		return holdfast.Errorf(holdfast.Unavailable, "this host has not seen the cluster's state yet")
	}
	rec, ok := st.Volumes[id]
	if !ok {
		return holdfast.Errorf(holdfast.NotFound, "volume %s does not exist", id.Short())
	}
	vm, ok := st.VMs[rec.Val.VM]
	if ok && vm.Val.Host != a.Self && vm.Val.Power == cluster.On {
		return holdfast.Errorf(holdfast.Unavailable, "volume %s belongs to VM %s, which runs on another host", rec.Val.Name, vm.Val.Name)
	}
	return nil
}

// MaySession refuses a machine that was started at an earlier cache generation
// of its volume: what it wrote and did not flush may be gone, so a flush would
// lie to it (invariant 12). Its worker restarts it. And it refuses one that is of an
// earlier assignment of its VM, which may have been elsewhere since and written there.
func (a *Agent) MaySession(id holdfast.VolumeID, generation uint32) error {
	st := a.Control.State()
	for _, w := range a.machines() {
		spec, ok := w.running()
		if !ok {
			continue
		}
		d, has := spec.Disk(id)
		if !has {
			continue
		}
		if st != nil {
			if vm := st.VMs[spec.VM].Val; vm.Host != a.Self || vm.Generation != spec.Generation {
				w.wake.Set()
				return holdfast.Errorf(holdfast.Fenced, "the machine of VM %s here is of generation %d, and the VM was assigned anew since", spec.Name, spec.Generation)
			}
		}
		if d.Cache != generation {
			w.wake.Set()
			return holdfast.Errorf(holdfast.LostCache, "VM %s got its disk %s at cache generation %d and that is at %d: it must be restarted", spec.Name, d.Export, d.Cache, generation)
		}
	}
	return nil
}

// Runs reports whether a machine here has a volume as a disk.
func (a *Agent) Runs(id holdfast.VolumeID) bool {
	return slices.ContainsFunc(a.machines(), func(w *worker) bool {
		spec, ok := w.running()
		if !ok {
			return false
		}
		_, has := spec.Disk(id)
		return has
	})
}

// machines are the workers of all VMs here.
func (a *Agent) machines() []*worker {
	a.mu.Lock()
	defer a.mu.Unlock()
	workers := make([]*worker, 0, len(a.workers))
	for _, vm := range a.workerIDs() {
		workers = append(workers, a.workers[vm])
	}
	return workers
}

// Belongs reports whether a VM that is assigned to this host uses a volume.
func (a *Agent) Belongs(id holdfast.VolumeID) bool {
	st := a.Control.State()
	if st == nil {
		return false
	}
	vm, ok := st.VMs[st.Volumes[id].Val.VM]
	return ok && vm.Val.Host == a.Self && vm.Val.Power == cluster.On
}

// takeCare opens volumes that nobody uses and whose replicas are to change, on
// the first living host that has a good one, so that they are mended too; it
// closes them when that is done. A VM that runs uses its disks, and of its
// memories only one that is being kept or read back.
func (a *Agent) takeCare(st *cluster.State) {
	for _, v := range st.SortedVolumes() {
		rec := v.Val
		vm, attached := st.VMs[rec.VM]
		if rec.Deleted || attached && vm.Val.Power == cluster.On && vm.Val.Uses(rec.ID) {
			continue
		}
		open := a.Volumes.Opened(rec.ID)
		switch {
		case !needsCare(rec):
			if open != nil && !open.Used() && a.cared(rec.ID) {
				a.tasks.Go(open.Close)
			}
		case open == nil && a.caretaker(st, rec) && a.beginOpening(rec.ID):
			a.care(rec.ID)
			a.tasks.Go(func() { a.openForCare(rec) })
		}
	}
}

// care notes that a volume is open only for mending.
func (a *Agent) care(id holdfast.VolumeID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.caring[id] = true
}

// cared takes that back, and reports whether it was so.
func (a *Agent) cared(id holdfast.VolumeID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	was := a.caring[id]
	delete(a.caring, id)
	return was
}

// needsCare reports whether a volume's replicas are to change, which its writer
// does.
func needsCare(rec cluster.Volume) bool { return len(rec.Others) > 0 || rec.Release != nil }

// caretaker reports whether this host is the one to mend a volume: the host
// that last wrote it, or if that is gone, the first with a good replica. What
// belongs to a VM that runs, as its memories do, only its host may open.
func (a *Agent) caretaker(st *cluster.State, rec cluster.Volume) bool {
	if vm, ok := st.VMs[rec.VM]; ok && vm.Val.Power == cluster.On {
		return vm.Val.Host == a.Self
	}
	if !rec.Writer.IsZero() && st.AliveHost(rec.Writer) {
		return rec.Writer == a.Self
	}
	for _, ref := range rec.InSync {
		if st.AliveHost(ref.Host) {
			return ref.Host == a.Self
		}
	}
	return false
}

func (a *Agent) beginOpening(id holdfast.VolumeID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.opening[id] {
		return false
	}
	a.opening[id] = true
	return true
}

func (a *Agent) openForCare(rec cluster.Volume) {
	if _, err := a.Volumes.Open(rec.ID); err != nil {
		a.Log.Info("a volume could not be opened for mending yet", "volume", rec.Name, "error", err)
		clock.Sleep(a.Clock, time.Second)
	}
	a.mu.Lock()
	delete(a.opening, rec.ID)
	a.mu.Unlock()
	a.wake.Set()
}

// removeReplicas drops this host's replicas of deleted volumes, and deletes
// the record of a volume that has none left.
func (a *Agent) removeReplicas(st *cluster.State) {
	for _, v := range st.SortedVolumes() {
		if v.Val.Deleted {
			a.removeReplica(v.Val, v.Mod)
		}
	}
}

func (a *Agent) removeReplica(rec cluster.Volume, mod kv.Rev) {
	if vol := a.Volumes.Opened(rec.ID); vol != nil {
		vol.Close()
	}
	all := append(append([]cluster.Replica(nil), rec.InSync...), rec.Others...)
	var left []cluster.Replica
	mine := false
	for _, ref := range all {
		if ref.Host != a.Self {
			left = append(left, ref)
			continue
		}
		if err := a.Volumes.RemoveReplica(ref); err != nil {
			a.Log.Warn("a deleted volume's replica could not be removed yet", "volume", rec.Name, "error", err)
			return
		}
		mine = true
	}
	if !mine && len(left) > 0 {
		return
	}
	crashpoint.At(crashpoint.DeleteRemoved)
	rec.InSync, rec.Others = nil, left
	var err error
	if len(left) == 0 {
		err = a.Control.DeleteVolume(rec, mod)
	} else {
		_, err = a.Control.CommitVolume(rec, mod)
	}
	crashpoint.At(crashpoint.DeleteForgotten)
	if err != nil && !holdfast.IsKind(err, holdfast.Conflict) {
		a.Log.Info("a deleted volume's record could not be changed yet", "volume", rec.Name, "error", err)
	}
}
