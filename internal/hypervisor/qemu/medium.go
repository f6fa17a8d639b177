package qemu

import (
	"os"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// Load implements hypervisor.Machine. The record says that the drive is empty
// while that changes: an agent that dies in between has its next life load the
// medium once more.
func (m *Machine) Load(medium *hypervisor.Disk) error {
	if medium != nil {
		if err := checkMedium(*medium); err != nil {
			return err
		}
	}
	m.plugging.Lock()
	defer m.plugging.Unlock()
	mon, err := m.talking()
	if err != nil {
		return err
	}
	switch now := m.Spec().CD; {
	case now == nil && medium == nil:
		return nil
	case now != nil && medium != nil && now.Volume == medium.Volume:
		return m.showAgain(*medium)
	}
	return m.load(mon, medium)
}

// load changes what lies in the drive. A guest may have locked it, as most do
// while they use it: what people say goes.
func (m *Machine) load(mon *monitor, medium *hypervisor.Disk) error {
	if err := m.keepMedium(nil); err != nil {
		return err
	}
	do := func(name string, args map[string]any) error { return mon.execute(name, args, nil, commandTimeout) }
	drive := map[string]any{"id": driveCD}
	err := do("blockdev-open-tray", map[string]any{"id": driveCD, "force": true})
	if err != nil && strings.Contains(err.Error(), "not found") {
		return holdfast.Errorf(holdfast.Unavailable, "the machine has no CD-ROM drive, as it was started by an earlier version; it has one when it is stopped and started")
	}
	if err == nil {
		err = do("blockdev-remove-medium", drive)
	}
	if err != nil {
		return err
	}
	do("blockdev-del", map[string]any{"node-name": diskNode(hypervisor.SlotCD)}) // there may be none
	os.Remove(m.dir.disk(hypervisor.SlotCD))
	if medium != nil {
		err = m.insert(mon, *medium)
	}
	if shut := do("blockdev-close-tray", drive); err == nil {
		err = shut
	}
	if err != nil || medium == nil {
		return err
	}
	return m.keepMedium(medium)
}

func (m *Machine) insert(mon *monitor, d hypervisor.Disk) error {
	err := m.show(d)
	if err == nil {
		err = m.addNode(mon, d)
	}
	if err != nil {
		return err
	}
	return mon.execute("blockdev-insert-medium", map[string]any{"id": driveCD, "node-name": diskNode(d.Slot)}, nil, commandTimeout)
}

// keepMedium makes a medium what the machine has in its drive, also for the
// next agent.
func (m *Machine) keepMedium(medium *hypervisor.Disk) error {
	m.mu.Lock()
	m.rec.Spec.CD = medium
	m.mu.Unlock()
	return m.save()
}

// loadFirst puts into the drive of a machine that is being started what is to
// lie there. A medium that cannot be had keeps no machine from starting.
func (m *Machine) loadFirst(mon *monitor) {
	medium := m.rec.Spec.CD
	if medium == nil {
		return
	}
	if err := m.load(mon, medium); err != nil {
		m.h.cfg.Log.Warn("a machine starts with an empty CD-ROM drive", "vm", m.rec.Spec.VM.String(), "medium", medium.Export, "error", err)
	}
}
