package node_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// starts counts how often the guest of a VM has booted on its machine of now.
func (s *scene) starts(vm holdfast.VMID) (n int, last uint32) {
	for _, b := range s.boxes {
		if b.vms == nil {
			continue // without power
		}
		for _, m := range b.vms.Machines() {
			if m.Spec().VM == vm {
				return bytes.Count(m.History(), []byte("probe start")), m.Flushed()
			}
		}
	}
	return -1, 0
}

// A VM's memory is kept while it runs, and it goes on; set back, it goes on where
// it was, without a boot; with the snapshot goes what holds the memory.
func TestAVMIsSetBackToItsMemory(t *testing.T) {
	s := newScene(t, 1, 3)
	a := s.boxes[0]
	vm, kept := s.withMemory(a, "db")
	if kept.Memory == nil || kept.Memory.Bytes == 0 {
		t.Fatalf("kept: %+v", kept)
	}
	_, then := s.starts(vm.ID)
	s.until("it goes on", func(st *cluster.State) bool {
		_, now := s.starts(vm.ID)
		return runs(st, "db") && st.VMs[vm.ID].Val.Keeping == nil && now > then+20
	})
	s.on(a, func(p *provision.Provisioner) {
		s.kind(p.DeleteVolume(kept.Memory.Volume, false), holdfast.Conflict)
		s.ok(p.StopVM(vm.ID, true))
	})
	s.setBack(a, vm, kept, true)
	s.until("it runs", func(st *cluster.State) bool { return runs(st, "db") && st.VMs[vm.ID].Val.Wake.IsZero() })
	s.until("it goes on where it was", func(*cluster.State) bool { n, at := s.starts(vm.ID); return n == 0 && at > then })

	s.on(a, func(p *provision.Provisioner) { s.ok(p.StopVM(vm.ID, true)) })
	s.setBack(a, vm, kept, false)
	s.on(a, func(p *provision.Provisioner) { s.ok(p.StartVM(vm.ID)) })
	s.until("without its memory it boots", func(st *cluster.State) bool { n, _ := s.starts(vm.ID); return runs(st, "db") && n == 1 })

	s.on(a, func(p *provision.Provisioner) { s.ok(p.ForgetVMSnapshot(vm.ID, kept.ID)) })
	s.until("the memory is gone", func(st *cluster.State) bool { _, there := st.Volumes[kept.Memory.Volume]; return !there })
	s.whole()
}

// withMemory makes a VM, and keeps its memory.
func (s *scene) withMemory(a *box, name string) (vm cluster.VM, kept cluster.VMSnapshot) {
	image := s.image(a)
	s.on(a, func(p *provision.Provisioner) {
		var err error
		spec := vmSpec(name, image)
		spec.VM.MemoryMiB = 8 // the disks are small
		vm, err = p.CreateVM(spec)
		s.ok(err)
	})
	s.until("its guest has come far", func(st *cluster.State) bool { _, at := s.starts(vm.ID); return runs(st, name) && at > 10 })
	s.on(a, func(p *provision.Provisioner) {
		var err error
		kept, err = p.SnapshotVMMemory(vm.ID, "running")
		s.ok(err)
	})
	return vm, kept
}

// setBack sets a VM that is being stopped back, with its memory or without.
func (s *scene) setBack(a *box, vm cluster.VM, kept cluster.VMSnapshot, wake bool) {
	s.until("the VM is off", func(st *cluster.State) bool { return st.Machines[vm.ID].Val.State == "off" })
	s.on(a, func(p *provision.Provisioner) {
		s.ok(provision.MayWake(p.Cluster.State(), vm, kept))
		s.ok(p.BeginRevert(vm.ID, kept.ID))
		for _, d := range kept.Disks {
			s.ok(p.Revert(d.Volume, d.Snapshot))
		}
		s.ok(p.EndRevert(vm.ID, kept.ID, wake))
	})
}

// keeps has the record of a VM say that its memory is being kept, as who then goes
// away for good.
func (s *scene) keeps(a *box, vm cluster.VM) holdfast.VolumeID {
	var rec cluster.Volume
	s.on(a, func(p *provision.Provisioner) {
		var err error
		rec, err = p.CreateVolume(provision.VolumeSpec{Name: "left", Blocks: 2000})
		s.ok(err)
	})
	s.as(s.eyes, func() {
		st, err := s.eye.Refresh()
		s.ok(err)
		v, vol := st.VMs[vm.ID], st.Volumes[rec.ID]
		v.Val.Keeping = &cluster.Keeping{Name: "left", Volume: rec.ID, Generation: v.Val.Generation}
		vol.Val.VM = vm.ID
		tx := s.eye.Begin()
		tx.PutVM(v.Val, v.Mod)
		tx.PutVolume(vol.Val, vol.Mod)
		_, err = tx.Commit()
		s.ok(err)
	})
	return rec.ID
}

// Who asked for a memory goes away: the machine stands still for a while, then it
// goes on and nothing is kept. The life of its host may end in between.
func TestAMemoryThatNobodyNamesIsGivenUp(t *testing.T) {
	for _, dies := range []bool{false, true} {
		s := newScene(t, 2, 3)
		a := s.boxes[0]
		vm, _ := s.withMemory(a, "db")
		s.until("it goes on", func(st *cluster.State) bool { return runs(st, "db") })
		id := s.keeps(a, vm)
		whole := func(st *cluster.State) bool {
			m := st.Machines[vm.ID].Val
			return m.State == "paused" && m.Kept != nil && m.Kept.Whole
		}
		s.until("its memory is whole", whole)
		_, at := s.starts(vm.ID)
		s.run(5e9)
		if _, now := s.starts(vm.ID); now != at {
			t.Fatalf("it does not stand still: %d, then %d", at, now)
		}
		if host := s.box(s.eye.State().VMs[vm.ID].Val.Host); dies {
			host.kill()
			s.run(1e9)
			host.start()
			s.run(5e9)
			if _, now := s.starts(vm.ID); now != at {
				t.Fatalf("a new life of its host has it go on: %d, then %d", at, now)
			}
		}
		s.until("it is given up", func(st *cluster.State) bool {
			_, there := st.Volumes[id]
			return st.VMs[vm.ID].Val.Keeping == nil && !there
		})
		s.until("it goes on", func(st *cluster.State) bool {
			n, now := s.starts(vm.ID)
			return runs(st, "db") && now > at && n == 1
		})
		s.whole()
		s.close()
	}
}

// The host of a machine that stands still is lost: the VM starts elsewhere, from
// its disks, and nothing is kept.
func TestAHostIsLostWhileAMemoryIsKept(t *testing.T) {
	s := newScene(t, 3, 3)
	a := s.boxes[0]
	vm, kept := s.withMemory(a, "db")
	s.until("it goes on", func(st *cluster.State) bool { return runs(st, "db") })
	id := s.keeps(a, vm)
	s.until("it stands still", func(st *cluster.State) bool { return st.Machines[vm.ID].Val.State == "paused" })
	host := s.box(s.eye.State().VMs[vm.ID].Val.Host)
	host.pull()
	s.until("it starts elsewhere, and nothing is kept", func(st *cluster.State) bool {
		v := st.VMs[vm.ID].Val
		rec, there := st.Volumes[id]
		n, _ := s.starts(vm.ID)
		return runs(st, "db") && v.Host != host.rec.ID && v.Keeping == nil && (!there || rec.Val.Deleted) && n == 1
	})
	if st := s.eye.State(); st.Volumes[kept.Memory.Volume].Val.Deleted {
		t.Error("the memory of a snapshot that stands is gone")
	}
}

// A machine of other parts does not get a memory, and says what differs.
func TestAMemoryIsOfOneMachine(t *testing.T) {
	s := newScene(t, 4, 3)
	vm, kept := s.cannotWake()
	other := kept
	memory := *kept.Memory
	memory.Kind = "QEMU 9"
	other.Memory = &memory
	s.kind(provision.MayWake(s.eye.State(), s.eye.State().VMs[vm.ID].Val, other), holdfast.Conflict)
}

// A memory that was kept with a disk is not given to a machine that has lost it
// since: it is told before anything is set back.
func TestAMemoryIsOfAllItsDisks(t *testing.T) {
	s := newScene(t, 7, 3)
	vm, kept := s.withMemory(s.boxes[0], "db")
	st := s.eye.State()
	s.ok(provision.MayWake(st, st.VMs[vm.ID].Val, kept))
	kept.Disks = append(slices.Clone(kept.Disks), cluster.VMSnapshotDisk{Volume: holdfast.VolumeID{UUID: holdfast.UUID{1}}, Slot: 1})
	s.kind(provision.MayWake(st, st.VMs[vm.ID].Val, kept), holdfast.Conflict)
}

// What cannot be read back is tried again and again, and its volume gets the copies
// that it lacks all the same.
func TestAMemoryThatIsNotReadBackLosesACopy(t *testing.T) {
	s := newScene(t, 6, 4)
	vm, kept := s.cannotWake()
	st := s.eye.State()
	var lost holdfast.HostID
	for _, r := range st.Volumes[kept.Memory.Volume].Val.InSync {
		if r.Host != st.VMs[vm.ID].Val.Host {
			lost = r.Host
		}
	}
	s.box(lost).pull()
	s.until("it has two copies elsewhere", func(st *cluster.State) bool {
		in := st.Volumes[kept.Memory.Volume].Val.InSync
		return len(in) == 2 && !slices.ContainsFunc(in, func(r cluster.Replica) bool { return r.Host == lost })
	})
	s.on(s.box(st.VMs[vm.ID].Val.Host), func(p *provision.Provisioner) {
		one := 1
		s.ok(p.StopVM(vm.ID, true))
		_, err := p.ChangeVM(vm.ID, cluster.VMChange{CPUs: &one})
		s.ok(err)
		s.ok(p.StartVM(vm.ID))
	})
	s.until("it has its memory back, and that is open nowhere any more", func(st *cluster.State) bool {
		open := slices.ContainsFunc(s.boxes, func(b *box) bool { return b.node != nil && b.node.Volumes.Opened(kept.Memory.Volume) != nil })
		return runs(st, "db") && st.VMs[vm.ID].Val.Wake.IsZero() && !open
	})
}

// cannotWake has a VM whose machine cannot get the memory that it is to go on with.
func (s *scene) cannotWake() (vm cluster.VM, kept cluster.VMSnapshot) {
	a := s.boxes[0]
	vm, kept = s.withMemory(a, "db")
	s.on(a, func(p *provision.Provisioner) { s.ok(p.StopVM(vm.ID, true)) })
	s.setBack(a, vm, kept, true)
	s.on(a, func(p *provision.Provisioner) {
		s.ok(p.StopVM(vm.ID, true))
	})
	s.until("it is off", func(st *cluster.State) bool { return st.Machines[vm.ID].Val.State == "off" })
	woken := s.eye.State().VMs[vm.ID].Val.Wake.IsZero() // it may have been quick
	if woken {
		s.setBack(a, vm, kept, false)
		s.as(s.eyes, func() {
			st, err := s.eye.Refresh()
			s.ok(err)
			v := st.VMs[vm.ID]
			v.Val.Wake = kept.ID
			tx := s.eye.Begin()
			tx.PutVM(v.Val, v.Mod)
			_, err = tx.Commit()
			s.ok(err)
		})
	}
	s.on(a, func(p *provision.Provisioner) {
		s.kind(p.Revert(vm.Volume, kept.Disks[0].Snapshot), holdfast.Conflict)
		s.kind(p.ForgetVMSnapshot(vm.ID, kept.ID), holdfast.Conflict)
		two := 2
		_, err := p.ChangeVM(vm.ID, cluster.VMChange{CPUs: &two})
		s.ok(err)
		s.ok(p.StartVM(vm.ID))
	})
	s.until("it says what differs", func(st *cluster.State) bool {
		m := st.Machines[vm.ID].Val
		return m.State == "failed" && strings.Contains(m.Reason, "it had 1 CPUs, it has 2 CPUs") && strings.Contains(m.Reason, "--without-memory")
	})
	return vm, kept
}

// A memory that is kept has its copies made up like every other volume, while the
// VM runs.
func TestAMemoryLosesACopy(t *testing.T) {
	s := newScene(t, 5, 3)
	a := s.boxes[0]
	vm, kept := s.withMemory(a, "db")
	s.until("it goes on", func(st *cluster.State) bool { return runs(st, "db") })
	of := s.eye.State().Volumes[kept.Memory.Volume].Val
	if len(of.InSync) != 2 {
		t.Fatalf("copies: %+v", of.InSync)
	}
	lost := s.box(of.InSync[0].Host)
	lost.pull()
	s.until("both have two copies elsewhere", func(st *cluster.State) bool {
		for _, id := range []holdfast.VolumeID{kept.Memory.Volume, vm.Volume} {
			rec := st.Volumes[id].Val
			n := 0
			for _, r := range rec.InSync {
				if r.Host != lost.rec.ID {
					n++
				}
			}
			if n != 2 {
				return false
			}
		}
		return runs(st, "db")
	})
}

// So it has when its VM runs by now where no copy of it is.
func TestAMemoryLosesACopyWhenItsVMHasMoved(t *testing.T) {
	moved := 0
	for seed := range uint64(12) {
		if s := newScene(t, 20+seed, 4); s.loseCopyAfterAMove() {
			moved++
		}
	}
	if moved == 0 {
		t.Error("no VM went where no copy of its memory is")
	}
}

func (s *scene) loseCopyAfterAMove() (moved bool) {
	a := s.boxes[0]
	vm, kept := s.withMemory(a, "db")
	s.until("it goes on", func(st *cluster.State) bool { return runs(st, "db") })
	was := s.box(s.eye.State().VMs[vm.ID].Val.Host)
	was.pull()
	s.until("it runs elsewhere", func(st *cluster.State) bool { return runs(st, "db") && st.VMs[vm.ID].Val.Host != was.rec.ID })
	was.powerOn()
	s.until("its host is back", func(st *cluster.State) bool { return st.AliveHost(was.rec.ID) })
	st := s.eye.State()
	copies := st.Volumes[kept.Memory.Volume].Val.InSync
	for _, r := range copies {
		if r.Host == st.VMs[vm.ID].Val.Host {
			return false
		}
	}
	lost := copies[0].Host
	s.box(lost).pull()
	s.until("it has two copies elsewhere", func(st *cluster.State) bool {
		n := 0
		for _, r := range st.Volumes[kept.Memory.Volume].Val.InSync {
			if r.Host != lost {
				n++
			}
		}
		return n == 2
	})
	return true
}
