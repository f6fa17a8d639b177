package baddays

import (
	"syscall"
	"testing"

	"github.com/holdfast-cloud/holdfast/lab"
)

// TestBadDays breaks one lab of three racks in one way after the other. Every
// part leaves it whole.
func TestBadDays(t *testing.T) {
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
		{"a replica loses its memory, then the writer's rack is lost and comes back", aReplicaForgets},
		{"a frozen rack thaws after its VM moved", aFrozenRackThaws},
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
	before := s.running(w.vm, 0)
	h := s.host(before.Host)
	s.endServe(h, sig)
	if n := s.qemus(); n != 1 {
		s.t.Fatalf("%d machines run while the host's process is away, not 1", n)
	}
	s.startServe(h)
	w.goesOn()
	after := s.running(w.vm, 0)
	if after.Machine.PID != before.Machine.PID || after.Host != before.Host || after.Assigned != before.Assigned {
		s.t.Errorf("the machine was process %d on host %s (assignment %d), and is process %d on host %s (assignment %d)",
			before.Machine.PID, before.Host, before.Assigned, after.Machine.PID, after.Host, after.Assigned)
	}
	s.oneMachine(1)
	s.inSync(w.vm)
}

// aReplicaForgets: the process of the replica that does not write loses its
// memory and is back at once, under load; then the writer's rack is lost, so
// that the replica that forgot has to be the one that remembers.
func aReplicaForgets(s *scene, w *witness) {
	vm := s.running(w.vm, 0)
	var other lab.Host
	for _, r := range s.inSync(w.vm).Replicas {
		if r.Host != vm.Host {
			other = s.host(r.Host)
		}
	}
	s.endServe(other, syscall.SIGKILL)
	s.startServe(other)
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

// allRacksAreKilled: a power cut for the whole site; racks come back in
// whatever order, and nobody has to do anything.
func allRacksAreKilled(s *scene, w *witness) {
	vm := s.running(w.vm, 0)
	if err := lab.Kill(s.l.Hosts); err != nil {
		s.t.Fatal(err)
	}
	acked := w.acknowledged()
	if n := s.qemus(); n != 0 {
		s.t.Fatalf("%d machines outlived the power cut", n)
	}
	for _, rack := range []string{s.other(vm.Rack), vm.Rack, s.other(vm.Rack, s.other(vm.Rack))} {
		s.start(rack)
	}
	w.verified(acked)
	s.whole()
	s.inSync(w.vm)
	s.oneMachine(1)
	s.t.Logf("flushed before the power cut: %d", acked)
}
