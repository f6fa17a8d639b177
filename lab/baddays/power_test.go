package baddays

import (
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/lab"
)

// TestBadDays breaks one lab of three racks in one way after the other. Every
// part leaves it whole.
func TestBadDays(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	needs(t, "qemu-system-x86_64")
	s := newLab(t, 3, lab.DefaultDiskSize)
	s.importProbe()
	w := s.startProbe("witness")
	w.goesOn()
	s.inSync("witness")
	for _, part := range []struct {
		name string
		f    func(*scene, *witness)
	}{
		{"published ports", publishedPorts},
		{"a host's process is killed and started again", aProcessIsKilled},
		{"a host is upgraded in order", aHostIsUpgraded},
		{"a replica loses power for a moment, then the writer's rack is lost and comes back", aReplicaForgets},
		{"a frozen rack thaws after its VM moved", aFrozenRackThaws},
		{"all hosts are stopped in order at once", allHostsAreStopped},
		{"all racks are killed at once", allRacksAreKilled},
		{"bytes rot on a disk", bytesRot},
	} {
		ok := t.Run(part.name, func(t *testing.T) {
			s := s.as(t)
			w.s = s
			s.whole()
			s.inSync("witness")
			part.f(s, w)
		})
		w.s = s
		if !ok {
			t.Fatal("the lab is in no state to go on")
		}
	}
}

// anyHost returns a host that answers.
func (s *scene) anyHost() lab.Host {
	s.t.Helper()
	var found lab.Host
	s.until("a host to answer", func() (bool, string) {
		for _, h := range s.l.Hosts {
			if _, code := command(s.t, nil, "--socket", h.Socket(), "status"); code == 0 {
				found = h
				return true, ""
			}
		}
		return false, "none does"
	})
	return found
}

// aProcessIsKilled: SIGKILL for the process of the host that runs the VM. The
// machine lives on; a new process takes it over before anybody else does.
func aProcessIsKilled(s *scene, w *witness) { s.bounce(w, syscall.SIGKILL) }

// aHostIsUpgraded: SIGTERM and a start. The machine goes on.
func aHostIsUpgraded(s *scene, w *witness) { s.bounce(w, syscall.SIGTERM) }

func (s *scene) bounce(w *witness, sig syscall.Signal) {
	for !s.bounced(w, sig) {
		s.t.Log("the host was away for so long that it was rightly taken for lost: once more")
		s.whole()
	}
	s.oneMachine(1)
	s.inSync(w.vm)
}

// quick is how soon a host is back that nobody takes for lost: it is, once its
// lease of the control plane has ended.
const quick = 3 * time.Second

// bounced is false if the VM was moved and the host was not back at once.
func (s *scene) bounced(w *witness, sig syscall.Signal) bool {
	s.t.Helper()
	before := s.running(w.vm, 0)
	h := s.host(before.Host)
	begun := time.Now()
	s.endServe(h, sig)
	if n := s.qemus(); n != 1 {
		s.t.Fatalf("%d machines run while the host's process is away, not 1", n)
	}
	s.start(h.Rack)
	away := time.Since(begun)
	w.goesOn()
	after := s.running(w.vm, 0)
	if after.Assigned != before.Assigned && away > quick {
		return false
	}
	if after.Machine.PID != before.Machine.PID || after.Host != before.Host || after.Assigned != before.Assigned {
		s.t.Errorf("the machine was process %d on host %s (assignment %d), and is process %d on host %s (assignment %d)",
			before.Machine.PID, before.Host, before.Assigned, after.Machine.PID, after.Host, after.Assigned)
	}
	return true
}

// aReplicaForgets: the rack of the replica that does not write loses power and
// is back at once, under load, before anybody counts it as lost; then the
// writer's rack is lost, so that the replica that forgot has to be the one that
// remembers.
func aReplicaForgets(s *scene, w *witness) {
	vm := s.running(w.vm, 0)
	var other lab.Host
	for _, r := range s.inSync(w.vm).Replicas {
		if r.Host != vm.Host {
			other = s.host(r.Host)
		}
	}
	s.kill(other.Rack)
	s.start(other.Rack)
	w.goesOn()
	s.inSync(w.vm)
	acked := w.acknowledged()
	s.kill(vm.Rack)
	acked = max(acked, w.acknowledged())
	s.running(w.vm, vm.Assigned+1)
	w.verified(acked)

	s.start(vm.Rack)
	s.whole()
	s.inSync(w.vm)
	s.oneMachine(1)
	w.reset()
}

// aFrozenRackThaws: the rack of the VM stands still until the VM runs
// elsewhere, and then goes on where it stood, its machine included.
func aFrozenRackThaws(s *scene, w *witness) {
	vm := s.running(w.vm, 0)
	if err := lab.Freeze(s.rack(vm.Rack)); err != nil {
		s.t.Fatal(err)
	}
	acked := w.acknowledged()
	moved := s.running(w.vm, vm.Assigned+1)
	if moved.Rack == vm.Rack {
		s.t.Fatalf("the VM runs in the frozen rack %s", vm.Rack)
	}
	w.verified(acked)
	if n := s.qemus(); n != 2 {
		s.t.Fatalf("%d machines, of which one is frozen; 2 were expected", n)
	}
	if err := lab.Thaw(s.rack(vm.Rack)); err != nil {
		s.t.Fatal(err)
	}
	s.oneMachine(1)
	w.goesOn()
	s.whole()
	s.inSync(w.vm)
	if now := s.running(w.vm, 0); now.Assigned != moved.Assigned || now.Host != moved.Host {
		s.t.Errorf("the VM was moved again, to host %s", now.Host)
	}
	w.reset()
}

// allHostsAreStopped: nobody answers for a while, but nothing is lost: memory
// was written out before it went. The machine goes on where it stood, on the
// cache generation it has; a reset would be a lie about what happened.
func allHostsAreStopped(s *scene, w *witness) {
	vm, before := s.running(w.vm, 0), s.inSync(w.vm)
	if err := lab.Stop(s.t.Context(), s.l.Hosts); err != nil {
		s.t.Fatal(err)
	}
	if n := s.qemus(); n != 1 {
		s.t.Fatalf("%d machines run while all hosts' processes are away, not 1", n)
	}
	s.start(vm.Rack) // first: a host that is late is taken for lost by the others
	for _, h := range s.l.Hosts {
		s.start(h.Rack)
	}
	s.whole()
	w.goesOn()
	after, volume := s.running(w.vm, 0), s.inSync(w.vm)
	if after.Machine.PID != vm.Machine.PID || after.Assigned != vm.Assigned {
		s.t.Errorf("the machine was process %d (assignment %d), and is process %d (assignment %d): %s", vm.Machine.PID, vm.Assigned, after.Machine.PID, after.Assigned, after.Machine.Reason)
	}
	if volume.Generation != before.Generation {
		s.t.Errorf("the cache generation rose from %d to %d, though every host was stopped in order", before.Generation, volume.Generation)
	}
	w.reset()
}

// allRacksAreKilled: a power cut for the whole site; racks come back in
// whatever order, and nobody has to do anything. What was only in memory is
// gone, and the cache generation says so.
func allRacksAreKilled(s *scene, w *witness) {
	for _, order := range [][]int{{1, 0, 2}, {2, 1, 0}} { // 0 is the VM's rack
		vm, before := s.running(w.vm, 0), s.inSync(w.vm)
		second := s.other(vm.Rack)
		racks := []string{vm.Rack, second, s.other(vm.Rack, second)}
		if err := lab.Kill(s.l.Hosts); err != nil {
			s.t.Fatal(err)
		}
		acked := w.acknowledged()
		if n := s.qemus(); n != 0 {
			s.t.Fatalf("%d machines outlived the power cut", n)
		}
		for _, i := range order {
			s.start(racks[i])
		}
		w.verified(acked)
		s.whole()
		if after := s.inSync(w.vm); after.Generation <= before.Generation {
			s.t.Errorf("the cache generation was %d and is %d: it did not rise though all memory was lost", before.Generation, after.Generation)
		}
		s.oneMachine(1)
		s.t.Logf("flushed before the power cut: %d", acked)
	}
}
