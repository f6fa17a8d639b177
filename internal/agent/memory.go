package agent

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/saved"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// A VM's memory is kept, and given back, at the word of its record (ADR 0074).
// While that says so the guard lets the machine not go on; what takes the word
// back, a snapshot that is named or somebody who gives it up, lets it go on.
const (
	// namedWithin is how long a machine stands still for a snapshot whose memory is
	// whole: then whoever was to name it is taken to be gone.
	namedWithin = 30 * time.Second
	// tellEvery is how often progress is told.
	tellEvery = time.Second
)

// standing looks after a machine that is not to go on.
func (w *worker) standing(m hypervisor.Machine, vm cluster.VM) {
	if !vm.Wake.IsZero() { // it has got its memory, and stands still
		w.kept = nil
		w.put("that a VM has its memory back", func(now *cluster.VM) (holdfast.VolumeID, bool) {
			still := now.Wake == vm.Wake && now.Generation == m.Spec().Generation
			now.Wake = holdfast.GroupID{}
			return holdfast.VolumeID{}, still
		})
		return
	}
	k := w.kept
	switch {
	case k != nil && k.Volume == vm.Keeping.Volume && k.Failed != "":
		w.drop(m, vm)
	case k == nil || k.Volume != vm.Keeping.Volume || !k.Whole:
		if err := w.keep(m, vm); err != nil {
			w.keepNot(m, vm, err)
		}
	case w.keptAt == 0:
		w.keptAt = w.a.Clock.Now() // by an earlier life
	case w.a.Clock.Now()-w.keptAt > namedWithin:
		w.keepNot(m, vm, holdfast.Errorf(holdfast.Unavailable, "who asked for the snapshot has not gone on with it for %v", namedWithin))
	}
}

// keep writes a machine's memory, for which it stands still.
func (w *worker) keep(m hypervisor.Machine, vm cluster.VM) error {
	id := vm.Keeping.Volume
	w.keptAt = 0
	w.kept = &cluster.Kept{Volume: id, Kind: m.Kind()}
	if w.kept.Kind == "" {
		return holdfast.Errorf(holdfast.Unavailable, "nobody knows what its machine is made of; it is known when it was stopped and started")
	}
	if err := m.Pause(); err != nil {
		return err
	}
	w.tell(m, vm)
	w.a.Log.Info("a machine stands still while its memory is kept", "vm", vm.Name, "snapshot", vm.Keeping.Name)
	dev, err := w.memoryOn(id, false)
	if err != nil {
		return err
	}
	defer dev.close()
	about := saved.About{VM: vm.ID, Volume: id, Kind: w.kept.Kind, Parts: parts(m.Spec())}
	out, err := saved.NewWriter(dev, about)
	if err == nil {
		err = m.Save(&keeper{Writer: out, w: w, m: m, vm: vm})
	}
	if err != nil {
		return err
	}
	n, err := out.Close()
	if err != nil {
		return err
	}
	w.kept = &cluster.Kept{Volume: id, Done: n, Whole: true, Kind: about.Kind}
	w.keptAt = w.a.Clock.Now()
	w.tell(m, vm)
	return nil
}

// keeper passes a memory on as long as it is wanted, and tells how far it is.
type keeper struct {
	io.Writer
	w    *worker
	m    hypervisor.Machine
	vm   cluster.VM
	done int64
	told time.Duration
}

func (k *keeper) Write(p []byte) (int, error) {
	if !k.w.keeps(k.vm) {
		return 0, holdfast.Errorf(holdfast.Conflict, "it is not wanted any more")
	}
	n, err := k.Writer.Write(p)
	k.done += int64(n)
	if now := k.w.a.Clock.Now(); now-k.told >= tellEvery {
		k.told = now
		k.w.kept = &cluster.Kept{Volume: k.vm.Keeping.Volume, Done: k.done, Kind: k.w.kept.Kind}
		k.w.tell(k.m, k.vm)
	}
	return n, err
}

// keeps reports whether a memory is still to be kept.
func (w *worker) keeps(vm cluster.VM) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.vm.Keeping
	return !w.a.stopped() && w.present && now != nil && now.Volume == vm.Keeping.Volume && w.vm.StandsStill(vm.Generation) &&
		w.vm.Power == cluster.On && !w.vm.Deleted && w.vm.Host == w.a.Self && w.vm.Generation == vm.Generation
}

// tell reports how far a memory is.
func (w *worker) tell(m hypervisor.Machine, vm cluster.VM) {
	if !w.current(vm.Generation) {
		return // it may be another host's by now
	}
	seen := observed(m, m.State(), m.Spec().Epoch)
	if k := w.kept; k != nil && vm.Keeping != nil {
		seen.Reason = fmt.Sprintf("it stands still while its memory is kept for snapshot %s: %d MiB of at most %d", vm.Keeping.Name, k.Done>>20, vm.MemoryMiB)
	}
	w.report(seen, vm)
}

// keepNot gives up keeping a memory, and tells why.
func (w *worker) keepNot(m hypervisor.Machine, vm cluster.VM, why error) {
	w.a.Log.Warn("a machine's memory was not kept", "vm", vm.Name, "error", why)
	w.kept = &cluster.Kept{Volume: vm.Keeping.Volume, Failed: why.Error()}
	if m != nil {
		w.tell(m, vm)
	}
	w.drop(m, vm)
}

// drop has the record say that no memory is being kept, so that the machine goes
// on, and what was kept of it deleted.
func (w *worker) drop(m hypervisor.Machine, vm cluster.VM) {
	id := vm.Keeping.Volume
	w.closeAll([]holdfast.VolumeID{id})
	done := w.put("that a VM's memory is not kept", func(now *cluster.VM) (holdfast.VolumeID, bool) {
		still := now.Keeping != nil && now.Keeping.Volume == id
		now.Keeping = nil
		return id, still
	})
	if done && m != nil && w.a.stopped() { // nobody else lets it go on
		if err := m.Resume(); err != nil {
			w.a.Log.Error("a machine could not be resumed", "vm", vm.Name, "error", err)
		}
	}
}

// put changes the VM's newest record, and has a volume deleted that it does
// without then, unless that is zero; f reports whether there is something to
// change.
func (w *worker) put(what string, f func(*cluster.VM) (without holdfast.VolumeID, change bool)) bool {
	w.mu.Lock()
	vm, mod := w.vm, w.mod
	w.mu.Unlock()
	without, change := f(&vm)
	if !change {
		return false
	}
	err := w.a.Control.PutVM(vm, without, mod)
	if err != nil && !holdfast.IsKind(err, holdfast.Conflict) {
		w.a.Log.Info(what+" could not be recorded yet", "vm", vm.Name, "error", err)
	}
	return err == nil
}

// begin starts a VM's machine, or gives it the memory that it is to go on with:
// then it stands still until the record says that it has it.
func (w *worker) begin(s hypervisor.Spec, vm cluster.VM) (hypervisor.Machine, error) {
	of := vm.WakesFrom()
	if of == nil {
		return w.a.Hyper.Start(s)
	}
	m, err := w.wakeUp(s, of)
	if err != nil {
		snap, _ := vm.Snapshot(vm.Wake)
		return nil, holdfast.Errorf(holdfast.KindOf(err), "it cannot go on with the memory of snapshot %s: %w; without it: 'holdfast vm snapshot revert %s %s --without-memory --stop'", snap.Name, err, vm.Name, snap.Name)
	}
	return m, nil
}

func (w *worker) wakeUp(s hypervisor.Spec, of *cluster.VMMemory) (hypervisor.Machine, error) {
	if here := w.a.Hyper.Kind(); here != of.Kind {
		return nil, holdfast.Errorf(holdfast.Conflict, "it was kept on %s, and this host has %s", of.Kind, here)
	}
	dev, err := w.memoryOn(of.Volume, true)
	if err != nil {
		return nil, err
	}
	defer dev.close()
	r, err := saved.Open(dev)
	if err != nil {
		return nil, err
	}
	if r.About.VM != s.VM || r.About.Volume != of.Volume || r.About.Kind != of.Kind {
		return nil, holdfast.Errorf(holdfast.Corrupt, "volume %s holds another one", w.volumeName(of.Volume))
	}
	if differs := differences(r.About.Parts, parts(s)); differs != "" {
		return nil, holdfast.Errorf(holdfast.Conflict, "the machine is another one now: %s", differs)
	}
	return w.a.Hyper.Restore(s, r)
}

// parts are what a machine is made of, as far as its memory depends on it.
func parts(s hypervisor.Spec) []string {
	out := []string{fmt.Sprintf("%d CPUs", s.CPUs), fmt.Sprintf("%d MiB of memory", s.MemoryMiB)}
	for _, d := range s.Written() {
		out = append(out, fmt.Sprintf("volume %s at slot %d", d.Volume, d.Slot))
	}
	for _, has := range []struct {
		what string
		ok   bool
	}{{"cloud-init data", s.Seed != ""}, {"a kernel of its own", s.Kernel != ""}, {"UEFI", s.Vars != nil}} {
		if has.ok {
			out = append(out, has.what)
		}
	}
	if s.NIC != nil {
		out = append(out, "network card "+s.NIC.MAC)
	}
	return out
}

// differences says what two machines have not in common, or "".
func differences(then, now []string) string {
	var said []string
	for _, p := range then {
		if !slices.Contains(now, p) {
			said = append(said, "it had "+p)
		}
	}
	for _, p := range now {
		if !slices.Contains(then, p) {
			said = append(said, "it has "+p)
		}
	}
	return strings.Join(said, ", ")
}

// memoryVolume is a volume of a memory that is open here.
type memoryVolume struct {
	w    *worker
	disk export.Disk
	vol  *volume.Volume
}

var _ saved.Device = (*memoryVolume)(nil)

func (w *worker) memoryOn(id holdfast.VolumeID, readOnly bool) (*memoryVolume, error) {
	vols, err := w.openAll([]holdfast.VolumeID{id})
	if err != nil {
		return nil, err
	}
	d, err := vols[0].Session(readOnly)
	if err != nil {
		vols[0].Close()
		return nil, err
	}
	return &memoryVolume{w: w, disk: d, vol: vols[0]}, nil
}

// close ends the use of a memory. Its volume stays open as long as it lacks copies:
// one that cannot be read back is opened again and again, and a copy that is to join
// takes longer than each try.
func (v *memoryVolume) close() {
	v.disk.Close()
	if rec := v.vol.Record(); needsCare(rec) {
		v.w.a.care(rec.ID)
		return
	}
	v.vol.Close()
}

// Size implements saved.Device.
func (v *memoryVolume) Size() int64 { return v.disk.Size() }

// ReadAt implements saved.Device.
func (v *memoryVolume) ReadAt(p []byte, off int64) error {
	return v.w.do(v.disk, export.Request{Op: export.Read, Off: off, Length: int64(len(p)), Data: p})
}

// WriteAt implements saved.Device.
func (v *memoryVolume) WriteAt(p []byte, off int64) error {
	return v.w.do(v.disk, export.Request{Op: export.Write, Off: off, Length: int64(len(p)), Data: p})
}

// Flush implements saved.Device.
func (v *memoryVolume) Flush() error { return v.w.do(v.disk, export.Request{Op: export.Flush}) }
