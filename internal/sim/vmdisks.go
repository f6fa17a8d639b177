package sim

import (
	"math/rand/v2"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// In every second seed VMs are given a second disk, which the operator takes
// away again and gives back. The guest writes it too and verifies it when it
// boots.

// secondEvery is how many acts of the operator there are to one of these.
const secondEvery = 6

// vmDisks are the second disks of VMs.
type vmDisks struct {
	s    *simulation
	rng  *rand.Rand
	on   bool
	made map[holdfast.VMID]holdfast.VolumeID
}

func newVMDisks(s *simulation) *vmDisks {
	d := &vmDisks{s: s, rng: s.w.Rand("disks of VMs"), made: make(map[holdfast.VMID]holdfast.VolumeID)}
	d.on = d.rng.IntN(2) == 0 && s.with("second-disks")
	return d
}

func (d *vmDisks) turn() bool { return d.on && len(d.s.vms.vms) > 0 && d.rng.IntN(secondEvery) == 0 }

// secondDisk gives a VM its second disk, or takes it away.
func (o *operator) secondDisk() (string, error) {
	d := o.s.vmDisks
	vm := o.s.vms.vms[d.rng.IntN(len(o.s.vms.vms))]
	what := "give " + vm.Name + " its second disk"
	err := o.on(o.s.hosts[d.rng.IntN(len(o.s.hosts))], func(p *provision.Provisioner) error {
		st, err := p.Cluster.Refresh()
		if err != nil {
			return err
		}
		now := st.VMs[vm.ID].Val
		if len(now.Disks) > 0 {
			what = "take the second disk from " + vm.Name
			_, err = p.RemoveVMDisk(vm.ID, now.Disks[0].Volume)
			return err
		}
		disk := provision.VMDisk{Volume: d.made[vm.ID]}
		if disk.Volume.IsZero() {
			disk.New = o.s.sealings.spec(provision.VolumeSpec{Name: vm.Name + "-second", Blocks: probe.FirstBlock + probe.SecondSlots})
			if v, ok := st.VolumeByName(disk.New.Name); ok { // whether it was made was not known
				disk = provision.VMDisk{Volume: v.Val.ID}
			}
		}
		now, err = p.AddVMDisk(vm.ID, disk)
		if err == nil {
			d.made[vm.ID] = now.Disks[0].Volume
		}
		return err
	})
	return what, err
}
