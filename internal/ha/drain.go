package ha

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// drain moves VMs off drained hosts, a few at a time and within the start
// tokens of where they go: each is told to leave, its host has the guest shut
// down, and then it is assigned elsewhere. Nothing leaves that no other host
// can take, and what nobody can take any more once it is shut down starts
// again where it was.
func (m *Machine) drain(now time.Duration, d *draft) {
	m.recall(d)
	moves := placement.Moves(d.v, m.options(now, d))
	busy := m.busy(now, d)
	leaving := map[holdfast.HostID]int{}
	for _, mv := range moves {
		if mv.Stage == placement.Left || mv.Stage == placement.Leaving {
			leaving[mv.From]++
			busy[mv.To]++
		}
	}
	for _, mv := range moves {
		rec := d.v.State.VMs[mv.VM]
		switch {
		case d.moved[mv.VM]: // by this step
		case mv.Stage == placement.Left && mv.To.IsZero():
			rec.Val.Leave = 0
			d.commit(Change{What: "stay", Text: fmt.Sprintf("%s on host %s: %s", mv.Name, d.v.HostName(mv.From), mv.Reason()), VMs: vmChange(rec)})
		case mv.Stage == placement.Left:
			rec.Val.Leave = 0
			c := Change{What: "move"}
			c.add(d.v, rec, placement.Restart{VM: mv.VM, Name: mv.Name, To: mv.To, Why: mv.Why})
			c.VMs[0].Val.Came = came(d.v, mv)
			d.commit(c)
		case mv.Stage == placement.Waiting && leaving[mv.From] < m.cfg.Moves && busy[mv.To] < m.cfg.StartTokens:
			leaving[mv.From]++
			busy[mv.To]++
			rec.Val.Leave = rec.Val.Generation
			d.commit(Change{What: "leave", Text: fmt.Sprintf("%s is to go from host %s to %s", mv.Name, d.v.HostName(mv.From), strings.Join(mv.Why.Chosen, ", ")),
				VMs: vmChange(rec), Lives: []Life{{Host: mv.To, Mod: d.v.State.Alive[mv.To].Mod}}})
		}
	}
}

// came says how a VM leaves its host, and how its guest took it.
func came(v *placement.View, mv placement.Move) string {
	text := "from host " + v.HostName(mv.From) + ", which was drained"
	if why := v.State.Machines[mv.VM].Val.Reason; why != "" {
		text += "; " + why
	}
	return text
}

// recall takes back that a VM is to leave a host that is no longer drained.
func (m *Machine) recall(d *draft) {
	c := Change{What: "stay"}
	for _, vm := range d.v.VMs {
		h := d.v.Host(vm.Host)
		if !vm.Leaving() || !h.Up() || h.Drained || len(c.VMs) == kv.MaxOps/3 {
			continue
		}
		rec := d.v.State.VMs[vm.ID]
		rec.Val.Leave = 0
		c.VMs = append(c.VMs, rec)
		if c.Text != "" {
			c.Text += ", "
		}
		c.Text += fmt.Sprintf("%s on host %s, which is not drained any more", vm.Name, h.Name)
	}
	if len(c.VMs) > 0 {
		d.commit(c)
	}
}

func vmChange(rec cluster.Versioned[cluster.VM]) []cluster.Versioned[cluster.VM] {
	return []cluster.Versioned[cluster.VM]{rec}
}
