package serve

import (
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// stood is a machine that is in some state.
type stood struct {
	hypervisor.Machine
	state hypervisor.State
}

func (s stood) State() hypervisor.State { return s.state }

// A host that is cut off tells what its own machines do, and of all others what
// it last knew.
func TestAHostThatIsCutOffKnowsItsOwnMachines(t *testing.T) {
	id := func(n byte) (v holdfast.VMID) { v.UUID[0] = n; return v }
	var self, other holdfast.HostID
	self.UUID[0], other.UUID[0] = 1, 2
	st := &cluster.State{Machines: map[holdfast.VMID]cluster.Versioned[cluster.Machine]{}}
	for n, m := range map[byte]cluster.Machine{
		1: {Host: self, State: "running"}, 2: {Host: self, State: "running"}, 3: {Host: self, State: "running"},
		4: {Host: other, State: "running"}, 5: {Host: self, State: "failed", Reason: "why"},
	} {
		st.Machines[id(n)] = cluster.Versioned[cluster.Machine]{Val: m}
	}
	here := map[holdfast.VMID]hypervisor.Machine{id(1): stood{state: hypervisor.Paused}, id(2): stood{state: hypervisor.Running}}
	got := ownMachines(st, self, func(id holdfast.VMID) hypervisor.Machine { return here[id] })
	for n, want := range map[byte]string{1: "paused", 2: "running", 3: "off", 4: "running", 5: "failed"} {
		m := got.Machines[id(n)].Val
		if m.State != want || (m.Reason == cutOffReason) != (n == 1 || n == 3) {
			t.Errorf("machine %d is said to be %s (%s), not %s", n, m.State, m.Reason, want)
		}
	}
	if st.Machines[id(1)].Val.State != "running" {
		t.Error("the shared picture was changed")
	}
}
