package httpapi

import (
	"fmt"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/health"
)

// renderOwn is the status for somebody of a project: how its VMs and volumes are, by
// their own records, and nothing of racks, hosts, disks and others. What can be lost
// depends on all that the cluster has to do, so it is not told.
func (p picture) renderOwn(self Self, r Report) v1.Status {
	all := p.counts()
	s := v1.Status{Level: "ok", Simulated: self.Simulated, Host: renderSelf(self), Conditions: []v1.Condition{}, Work: []v1.Work{},
		Counts:  v1.Counts{VMs: all.VMs, VMsOn: all.VMsOn, VMsRunning: all.VMsRunning, Volumes: all.Volumes, VolumesDegraded: all.VolumesDegraded},
		CanLose: v1.CanLose{Racks: []string{}, Hosts: []string{}, Unknown: "that is told to who may see the whole cluster"}}
	add := func(c v1.Condition) {
		s.Conditions = append(s.Conditions, c)
		if s.Level != health.Error {
			s.Level = c.Severity
		}
	}
	for _, vm := range p.vms() {
		if state, why := p.vmState(vm); !vm.Deleted && vm.Power == cluster.On && state != "running" {
			add(ownVMCondition(vm, state, why))
		}
	}
	for _, v := range p.volumes() {
		switch p.volumeState(v) {
		case "degraded":
			add(v1.Condition{ID: "volume-degraded/" + v.Name, Severity: health.Warning, Text: fmt.Sprintf("volume %s has fewer good copies than it should", v.Name)})
		case "unavailable":
			add(v1.Condition{ID: "volume-away/" + v.Name, Severity: health.Error, Text: fmt.Sprintf("volume %s is unavailable", v.Name)})
		case "lost":
			add(v1.Condition{ID: "volume-lost/" + v.Name, Severity: health.Error, Text: fmt.Sprintf("volume %s is lost", v.Name)})
		case "locked":
			add(v1.Condition{ID: "volumes-locked/" + v.Name, Severity: health.Error, Text: fmt.Sprintf("volume %s is locked", v.Name)})
		}
	}
	s.Sentence = ownSentence(s.Counts)
	if r.Stale != "" {
		s.Sentence, s.Level = "This may be out of date: the control plane cannot be asked now. Last known: "+s.Sentence, health.Error
	}
	return s
}

func ownVMCondition(vm cluster.VM, state, why string) v1.Condition {
	c := v1.Condition{ID: "vm-down/" + vm.Name, Severity: health.Error, Text: fmt.Sprintf("VM %s is %s", vm.Name, state)}
	if state == "starting" {
		c.Severity = health.Warning
	}
	if why != "" {
		c.Text += ": " + why
	}
	return c
}

func ownSentence(c v1.Counts) string {
	out := fmt.Sprintf("%d of %d VMs running.", c.VMsRunning, c.VMsOn)
	switch {
	case c.VMsOn == 0:
		out = "No VM should be running."
	case c.VMsOn == 1 && c.VMsRunning == 1:
		out = "The 1 VM is running."
	case c.VMsRunning == c.VMsOn:
		out = fmt.Sprintf("All %d VMs are running.", c.VMsOn)
	}
	if c.VolumesDegraded == 1 {
		out += " 1 volume has fewer good copies than it should."
	} else if c.VolumesDegraded > 1 {
		out += fmt.Sprintf(" %d volumes have fewer good copies than they should.", c.VolumesDegraded)
	}
	return out
}
