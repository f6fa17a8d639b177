package fakevm

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// Plug implements hypervisor.Machine. The guest looks for disks when it boots,
// as the probe guest does. It runs on a task of the agent.
func (m *Machine) Plug(d hypervisor.Disk) error {
	v, life := m.host.current()
	m.mu.Lock()
	have, taken := m.spec.At(d.Slot)
	off := m.state == hypervisor.Off
	m.mu.Unlock()
	switch {
	case off || v == nil:
		return m.offError()
	case d.Slot < 0 || d.Slot >= hypervisor.MaxDisks:
		return holdfast.Errorf(holdfast.Invalid, "a disk at slot %d; use 0 to %d", d.Slot, hypervisor.MaxDisks-1)
	case taken && have.Volume == d.Volume:
		return nil
	case taken:
		return holdfast.Errorf(holdfast.Busy, "VM %s has another disk at slot %d", m.spec.VM, d.Slot)
	}
	disk, err := v.open(d.Socket, d.Export)
	if err != nil {
		return holdfast.Errorf(holdfast.KindOf(err), "VM %s: open its disk %d: %w", m.spec.VM, d.Slot, err)
	}
	m.mu.Lock()
	disks := append(slices.Clone(m.spec.Disks), d)
	slices.SortFunc(disks, func(a, b hypervisor.Disk) int { return a.Slot - b.Slot })
	m.spec.Disks = disks
	m.mu.Unlock()
	m.connected(v, life, d.Slot, disk)
	return nil
}

// Unplug implements hypervisor.Machine: this guest lets a disk go when it is
// reset.
func (m *Machine) Unplug(slot int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state == hypervisor.Off {
		return m.offError()
	}
	if _, ok := m.spec.At(slot); !ok {
		return nil
	}
	m.leaving[slot] = true
	return holdfast.Errorf(holdfast.Busy, "the guest of VM %s has not let its disk %d go yet", m.spec.VM, slot)
}

// Load implements hypervisor.Machine. This guest looks at no CD-ROM.
func (m *Machine) Load(medium *hypervisor.Disk) error {
	if medium != nil && (medium.Slot != hypervisor.SlotCD || !medium.ReadOnly) {
		return holdfast.Errorf(holdfast.Invalid, "a medium at slot %d; it is read-only, at %d", medium.Slot, hypervisor.SlotCD)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state == hypervisor.Off {
		return m.offError()
	}
	m.spec.CD = medium
	return nil
}

// letGo takes the disks away that are to go, and returns their sessions. Called
// with mu held.
func (m *Machine) letGo() (gone []*session) {
	for slot, goes := range m.leaving {
		if !goes {
			continue
		}
		m.leaving[slot] = false
		m.spec.Disks = slices.DeleteFunc(slices.Clone(m.spec.Disks), func(d hypervisor.Disk) bool { return d.Slot == slot })
		if s := m.sessions[slot]; s != nil {
			m.sessions[slot] = nil
			gone = append(gone, s)
		}
	}
	return gone
}
