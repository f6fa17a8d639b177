package cluster

import (
	"slices"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

func TestWhatAMachineIsOnlyToldAtItsStartHasAnEdition(t *testing.T) {
	four, text, name, low := 4, "#cloud-config", "orders", 0
	vm := VM{Name: "db1", CPUs: 2, Priority: 1, SSHKeys: []string{"a"}}
	VMChange{Name: &name, CPUs: &four, Priority: &low, Publish: &[]Publish{{Port: 1, GuestPort: 2}}, SSHKeys: &[]string{"a"}}.Apply(&vm)
	if vm.Name != name || vm.CPUs != 4 || vm.Priority != 0 || len(vm.Publish) != 1 || vm.Edition != 0 {
		t.Errorf("%+v", vm)
	}
	VMChange{UserData: &text}.Apply(&vm)
	VMChange{UserData: &text}.Apply(&vm)
	if vm.Edition != 1 || vm.UserData != text {
		t.Errorf("edition %d after one change", vm.Edition)
	}
	VMChange{SSHKeys: &[]string{}}.Apply(&vm)
	if vm.Edition != 2 || len(vm.SSHKeys) != 0 {
		t.Errorf("edition %d, keys %v", vm.Edition, vm.SSHKeys)
	}
}

func TestAMachineIsWhatItWasStartedWith(t *testing.T) {
	id := holdfast.VMID{UUID: holdfast.UUID{1}}
	vm := VM{ID: id, CPUs: 4, MemoryMiB: 64, Edition: 2, Generation: 7}
	machine := func(generation int64, cpus int) *State {
		return &State{Machines: map[holdfast.VMID]Versioned[Machine]{id: {Val: Machine{VM: id, Generation: generation, CPUs: cpus, MemoryMiB: 512, Edition: 1}}}}
	}
	now := machine(7, 2).InForce(vm)
	if got := []int{now.CPUs, now.MemoryMiB, int(now.Edition)}; !slices.Equal(got, []int{2, 512, 1}) {
		t.Errorf("a machine of 2 CPUs, 512 MiB, edition 1 is taken for %v", got)
	}
	if other := machine(6, 2).InForce(vm); other.CPUs != 4 {
		t.Error("a machine of an earlier assignment was taken for the VM's")
	}
	if ended := machine(7, 0).InForce(vm); ended.CPUs != 4 {
		t.Error("what is not running was taken for its machine")
	}
}
