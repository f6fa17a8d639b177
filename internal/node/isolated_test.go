package node_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// awake counts the running machines of a VM.
func (s *scene) awake(vm holdfast.VMID) (on []string) {
	for _, b := range s.boxes {
		for _, m := range b.vms.Machines() {
			if m.Spec().VM == vm && m.State() == hypervisor.Running {
				on = append(on, b.name)
			}
		}
	}
	return on
}

// watch lets time go by and sees that no two machines of a VM run at any time.
func (s *scene) watch(vm holdfast.VMID, d time.Duration) {
	s.Helper()
	for end := s.w.Now() + d; s.w.Now() < end; s.run(10 * time.Millisecond) {
		if on := s.awake(vm); len(on) > 1 {
			s.Fatalf("%v: machines of one VM run on %v", s.w.Now(), on)
		}
	}
}

// cutOff parts a host from others, in one of the ways a network fails, and returns
// what mends that.
func (s *scene) cutOff(w *box, rng *rand.Rand) (what string, mend func()) {
	others := make([]*box, 0, len(s.boxes))
	for _, b := range s.boxes {
		if b != w {
			others = append(others, b)
		}
	}
	rng.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	in, out := true, true
	switch rng.IntN(4) {
	case 0:
		in = false
	case 1:
		out = false
	}
	from := others[:rng.IntN(len(others)+1)] // of the data network
	s.kv.Cut(w.name, out, in)
	for _, b := range from {
		if in {
			s.net.Cut(b.rec.ID, w.rec.ID)
		}
		if out {
			s.net.Cut(w.rec.ID, b.rec.ID)
		}
		what += " " + b.name
	}
	return fmt.Sprintf("in %v, out %v, from the control plane and%s", in, out, what), func() {
		s.kv.Cut(w.name, false, false)
		for _, b := range from {
			s.net.Mend(b.rec.ID, w.rec.ID)
			s.net.Mend(w.rec.ID, b.rec.ID)
		}
	}
}

// Whoever is cut off, however and for however long, has stopped its machine before
// another one of the VM runs, with clocks as unlike as is allowed. And another one
// does run if it lasts.
func TestNoTwoMachinesOfAVMRunWhileAHostIsCutOff(t *testing.T) {
	moved := 0
	for seed := range uint64(24) {
		s := newScene(t, seed, 3)
		rng := rand.New(rand.NewPCG(seed, 7))
		for _, b := range s.boxes { // the next life has such a clock
			b.skew = simclock.Skew{Drift: []float64{-0.0099, 0, 0.0099}[rng.IntN(3)]}
			b.pull()
			b.powerOn()
		}
		s.run(10 * time.Second) // the lives before are forgotten
		s.until("everybody is back", func(st *cluster.State) bool {
			disks := 0
			for _, a := range st.SortedAlive() {
				disks += len(a.Val.Disks)
			}
			return disks == 3 && !st.Leader.IsZero()
		})
		image := s.image(s.boxes[0])
		spec := vmSpec("db", image)
		spec.VM.Isolation = []cluster.Isolation{cluster.IsolationPause, cluster.IsolationOff}[seed%2]
		var vm cluster.VM
		s.on(s.boxes[0], func(p *provision.Provisioner) {
			var err error
			vm, err = p.CreateVM(spec)
			s.ok(err)
		})
		for range 4 {
			s.until("the VM runs and has its copies", func(st *cluster.State) bool { return runs(st, "db") && mended(st) && len(st.Alive) == 3 })
			host := s.eye.State().VMs[vm.ID].Val.Host
			s.watch(vm.ID, time.Duration(rng.Int64N(int64(2*time.Second))))
			what, mend := s.cutOff(s.box(host), rng)
			length := time.Duration(rng.Int64N(int64(12 * time.Second)))
			begun := s.w.Now()
			s.watch(vm.ID, length)
			mend()
			s.watch(vm.ID, time.Duration(rng.Int64N(int64(8*time.Second))))
			if s.eye.State().VMs[vm.ID].Val.Host != host {
				moved++
			}
			t.Logf("seed %d: cut off %s at %v for %v", seed, what, begun, length)
			if t.Failed() {
				return
			}
		}
		s.close()
	}
	if moved < 10 {
		t.Errorf("the VM was moved %d times: this tests nothing", moved)
	}
	t.Logf("moved %d times", moved)
}

// Somebody stops a VM by force, and starts it, while its host hears nothing of that and
// its lease has not run out yet: the machine that is there ends first.
func TestWhatIsStoppedUnheardStartsNowhereElse(t *testing.T) {
	moved := 0
	for seed := range uint64(30) {
		s := newScene(t, 100+seed, 3)
		rng := rand.New(rand.NewPCG(seed, 8))
		vm := s.db(s.boxes[0])
		s.until("it has its copies", mended)
		host := s.eye.State().VMs[vm.ID].Val.Host
		w, by := s.box(host), s.boxes[0]
		if by == w {
			by = s.boxes[1]
		}
		s.kv.Cut(w.name, false, true) // it is heard, and hears nothing
		s.watch(vm.ID, time.Duration(rng.Int64N(int64(200*time.Millisecond))))
		by.clk.Go(func() {
			for range 3 {
				if err := by.node.Make.StopVM(vm.ID, true); err != nil {
					t.Errorf("the stop: %v", err)
				}
				st, err := by.node.Cluster.Refresh()
				if err != nil {
					t.Error(err)
				}
				h := st.Hosts[host]
				h.Val.Drained = true // it is the last that would be chosen
				tx := by.node.Cluster.Begin()
				tx.PutHost(h.Val, h.Mod)
				if _, err := tx.Settle(time.Minute); err != nil {
					t.Error(err)
				}
				clock.Sleep(by.clk, time.Duration(rng.Int64N(int64(200*time.Millisecond))))
				if err := by.node.Make.StartVM(vm.ID); err != nil {
					t.Errorf("the start: %v", err)
				}
				clock.Sleep(by.clk, time.Duration(rng.Int64N(int64(2*time.Second))))
			}
		})
		s.watch(vm.ID, 25*time.Second)
		s.kv.Cut(w.name, false, false)
		s.watch(vm.ID, 5*time.Second)
		s.until("the VM runs", func(st *cluster.State) bool { return runs(st, "db") })
		if s.eye.State().VMs[vm.ID].Val.Host != host {
			moved++
		}
		s.close()
	}
	if moved < 5 {
		t.Errorf("the VM was moved %d times: this tests nothing", moved)
	}
}

// Whoever is known to be off starts where there is room, and not where it was.
func TestWhatIsOffStartsAnywhere(t *testing.T) {
	s := newScene(t, 9, 3)
	a := s.boxes[0]
	vm := s.db(a)
	host := s.eye.State().VMs[vm.ID].Val.Host
	s.on(a, func(p *provision.Provisioner) { s.ok(p.StopVM(vm.ID, true)) })
	s.until("it is off", func(st *cluster.State) bool { return placement.IsOff(st, st.VMs[vm.ID].Val) })
	s.on(a, func(p *provision.Provisioner) {
		four := 4
		_, err := p.ChangeVM(vm.ID, cluster.VMChange{CPUs: &four})
		s.ok(err)
	})
	s.until("and that is said of what it is now", func(st *cluster.State) bool { return placement.IsOff(st, st.VMs[vm.ID].Val) })
	s.drain(host, true)
	s.on(a, func(p *provision.Provisioner) { s.ok(p.StartVM(vm.ID)) })
	if to := s.eye.State().VMs[vm.ID].Val; to.Host == host || to.Leaving() {
		t.Errorf("it starts on a host that is drained: %+v", to)
	}
	s.until("it runs", func(st *cluster.State) bool { return runs(st, "db") })
}
