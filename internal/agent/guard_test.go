package agent

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/replica"
)

// guard looks once, since seconds after the control plane's last word. The
// volumes of these scenes are open nowhere, so nobody stands by their writer.
func (s *scene) guard(since time.Duration) time.Duration {
	s.r.confirmed = since
	return s.w.guard(s.m, s.vm, true)
}

// Whoever holds a machine back has done so before anybody could be given its VM,
// whatever the clocks.
func TestAMachineStandsStillBeforeAnotherMayStart(t *testing.T) {
	soonest := cluster.LeaseTTL - cluster.LeaseTTL/replica.Drift
	if latest := standFor + StopTime; latest > soonest {
		t.Errorf("a machine may run until %v after the control plane's last word, and another may be started after %v", latest, soonest)
	}
	if startWithin+leaseSpare >= standFor {
		t.Errorf("started within %v, held after %v: a start has no time", startWithin, standFor)
	}
}

func TestAHostThatIsCutOff(t *testing.T) {
	for _, c := range []struct {
		response      cluster.Isolation
		atOnce, later string
	}{{cluster.IsolationPause, "pause", "pause"}, {cluster.IsolationOff, "pause", "pause kill"}, {cluster.IsolationLeave, "", ""}} {
		t.Run(string(c.response), func(t *testing.T) {
			s := running()
			s.vm.Isolation = c.response
			if wait := s.guard(standFor - 200*time.Millisecond); wait > 200*time.Millisecond {
				t.Errorf("looks again in %v", wait)
			}
			s.did(t, "")
			s.guard(standFor)
			s.guard(standFor) // once
			s.did(t, c.atOnce)
			s.w.heldAt -= offAfter
			s.guard(standFor)
			s.did(t, c.later)
		})
	}
}

func (s *scene) did(t *testing.T, want string) {
	t.Helper()
	got := ""
	for _, d := range s.m.done {
		if got != "" {
			got += " "
		}
		got += d
	}
	if got != want {
		t.Fatalf("done to the machine: %q, want %q", got, want)
	}
}

// The control plane answers again, but the picture gives the VM to another host:
// the word is none for this machine.
func TestAMachineWhoseVMWasGivenAwayIsHeld(t *testing.T) {
	s := running()
	given := s.vm
	given.Generation++
	s.guard(0)
	s.did(t, "")
	s.r.st.VMs[given.ID] = cluster.Versioned[cluster.VM]{Val: given}
	s.guard(0)
	s.did(t, "pause")
}

// A machine that is held waits for the other replicas, whatever the control plane
// says: somebody may have opened its volumes.
func TestAMachineThatIsHeldWaitsForItsReplicas(t *testing.T) {
	s := running()
	s.guard(standFor)
	s.guard(0)
	s.did(t, "pause")
	if s.m.state != hypervisor.Paused {
		t.Error(s.m.state)
	}
}

// A pause that fails is tried again, soon.
func TestAPauseThatFailsIsTriedAgain(t *testing.T) {
	s := running()
	s.m.fails = 1
	if wait := s.guard(standFor); wait > guardEvery {
		t.Errorf("looks again in %v", wait)
	}
	s.did(t, "")
	s.guard(standFor)
	s.did(t, "pause")
}

// An agent that has just begun and has not seen the cluster yet knows of a machine
// what it was started with.
func TestAMachineThatIsLeftOnStaysSoBeforeAnythingIsKnown(t *testing.T) {
	s := running()
	s.r.st = nil
	s.m.spec.LeaveOn = true
	s.r.confirmed = standFor
	s.w.guard(s.m, cluster.VM{}, false)
	s.did(t, "")
	s.m.spec.LeaveOn = false
	s.w.guard(s.m, cluster.VM{}, false)
	s.did(t, "pause")
}

// A machine stands still since an earlier life of this agent, maybe for its memory
// to be kept: before the VM's record is known it does not go on.
func TestAMachineDoesNotGoOnBeforeItsRecordIsKnown(t *testing.T) {
	s := running()
	s.m.spec.Disks, s.m.state = nil, hypervisor.Paused // all its replicas stand by this writer
	s.w.guard(s.m, cluster.VM{}, false)
	s.did(t, "")
	s.w.guard(s.m, s.vm, true)
	s.did(t, "resume")
}

// A guard looks again when the leases do not count any more, not up to a tenth of a
// second later: what is left until another machine may run is for holding this one.
func TestAGuardLooksAgainWhenTheLeasesEnd(t *testing.T) {
	for _, left := range []time.Duration{time.Millisecond, 40 * time.Millisecond, guardEvery, time.Second} {
		do, again := Sight{State: hypervisor.Running, Lease: leaseSpare + left}.Decide()
		if do != Nothing || again > left && again > shortest {
			t.Errorf("with %v left it does %v and looks again in %v", left, do, again)
		}
	}
	// The leases are shortened for the writer as they are for the slowest clock, so
	// these are true times but for holding a machine.
	held := replica.LeaseWriter - leaseSpare + shortest + StopTime
	if starts := replica.Lease - replica.Lease/replica.Drift + StartTime - StartTime/replica.Drift; held > starts {
		t.Errorf("held %v after the question, another may run after %v", held, starts)
	}
}
