package qemu

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// Plug implements hypervisor.Machine. QEMU finds the disk's socket as a hard
// link in a directory of the machine's own, which its jail has shown since the
// start: so it reaches the sockets of its own disks and no others, those that
// come later included.
//
// The record is written first: an agent that dies in between leaves a record
// that names a disk too many, which is seen when the machine is adopted.
func (m *Machine) Plug(d hypervisor.Disk) error {
	if err := checkDisk(d); err != nil {
		return err
	}
	m.plugging.Lock()
	defer m.plugging.Unlock()
	spec := m.Spec()
	if have, ok := spec.At(d.Slot); ok {
		if have.Volume != d.Volume {
			return holdfast.Errorf(holdfast.Busy, "VM %s has another disk at slot %d", spec.VM, d.Slot)
		}
		return m.showAgain(d)
	}
	mon, err := m.talking()
	if err != nil {
		return err
	}
	if err := m.show(d); err != nil {
		return err
	}
	if err := m.keepDisks(append(spec.Disks, d)); err != nil {
		return err
	}
	if err := m.plug(mon, d); err != nil {
		m.forgetDisk(d.Slot)
		return err
	}
	return nil
}

// plug tells QEMU.
func (m *Machine) plug(mon *monitor, d hypervisor.Disk) error {
	if err := m.addNode(mon, d); err != nil {
		return err
	}
	err := mon.execute("device_add", map[string]any{
		"driver": "virtio-blk-pci", "drive": diskNode(d.Slot), "id": diskDevice(d.Slot), "addr": "0x" + strconv.FormatInt(int64(slotFirstDisk+d.Slot), 16),
		"serial": serial(d), "write-cache": "on", "werror": "stop", "rerror": "report",
	}, nil, commandTimeout)
	if err != nil {
		mon.execute("blockdev-del", map[string]any{"node-name": diskNode(d.Slot)}, nil, commandTimeout)
	}
	return err
}

// addNode has QEMU connect to a disk whose socket the jail shows.
func (m *Machine) addNode(mon *monitor, d hypervisor.Disk) error {
	// A node may be left of an agent that died over it.
	mon.execute("blockdev-del", map[string]any{"node-name": diskNode(d.Slot)}, nil, commandTimeout)
	return mon.execute("blockdev-add", map[string]any{
		"driver": "nbd", "node-name": diskNode(d.Slot), "export": d.Export, "reconnect-delay": reconnectDelay,
		"server": map[string]any{"type": "unix", "path": m.dir.disk(d.Slot)},
		"cache":  map[string]any{"direct": true, "no-flush": false}, "discard": "unmap", "read-only": d.ReadOnly,
	}, nil, commandTimeout)
}

// Unplug implements hypervisor.Machine. QEMU forgets the device when the guest
// has let go of it, or is reset.
func (m *Machine) Unplug(slot int) error {
	m.plugging.Lock()
	defer m.plugging.Unlock()
	spec := m.Spec()
	if _, ok := spec.At(slot); !ok {
		return nil
	}
	mon, err := m.talking()
	if err != nil {
		return err
	}
	err = mon.execute("device_del", map[string]any{"id": diskDevice(slot)}, nil, commandTimeout)
	switch {
	case err == nil, strings.Contains(err.Error(), "in the process of unplug"):
		return holdfast.Errorf(holdfast.Busy, "the guest of VM %s has not let its disk %d go yet", spec.VM, slot)
	case !strings.Contains(err.Error(), "not found"):
		return err
	}
	err = mon.execute("blockdev-del", map[string]any{"node-name": diskNode(slot)}, nil, commandTimeout)
	if err != nil && !strings.Contains(err.Error(), "Failed to find node") {
		return err
	}
	return m.forgetDisk(slot)
}

// forgetDisk takes a disk that the machine does not have out of its record.
func (m *Machine) forgetDisk(slot int) error {
	os.Remove(m.dir.disk(slot))
	return m.keepDisks(slices.DeleteFunc(m.Spec().Disks, func(d hypervisor.Disk) bool { return d.Slot == slot }))
}

// keepDisks makes disks what the machine has, also for the next agent.
func (m *Machine) keepDisks(disks []hypervisor.Disk) error {
	slices.SortFunc(disks, func(a, b hypervisor.Disk) int { return a.Slot - b.Slot })
	m.mu.Lock()
	m.rec.Spec.Disks = disks
	m.mu.Unlock()
	return m.save()
}

// save writes the machine's record.
func (m *Machine) save() error {
	m.recording.Lock()
	defer m.recording.Unlock()
	m.mu.Lock()
	rec := m.rec
	m.mu.Unlock()
	return m.dir.writeRecord(rec)
}

// show makes a disk's socket visible in the jail.
func (m *Machine) show(d hypervisor.Disk) error {
	at := m.dir.disk(d.Slot)
	tmp := at + ".new"
	os.Remove(tmp)
	err := os.Link(d.Socket, tmp)
	if err == nil {
		err = os.Rename(tmp, at)
	}
	if err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "VM %s is to get a disk while it runs, whose socket cannot be shown to it: %w", m.rec.Spec.VM, err)
	}
	return nil
}

// showAgain is show, if the disk came while the machine ran and its socket is
// another one since: that of an agent's next life.
func (m *Machine) showAgain(d hypervisor.Disk) error {
	shown, err := os.Lstat(m.dir.disk(d.Slot))
	if err != nil {
		return nil // the jail shows the directory that the socket lies in
	}
	if now, err := os.Lstat(d.Socket); err != nil || os.SameFile(shown, now) {
		return nil
	}
	return m.show(d)
}

// tidyDisks takes out of the record of an adopted machine the disks that QEMU
// does not have, and out of its CD-ROM drive what the record does not name.
func (m *Machine) tidyDisks(mon *monitor) error {
	var devices []struct {
		Name string `json:"name"`
	}
	if err := mon.execute("qom-list", map[string]any{"path": "/machine/peripheral"}, &devices, commandTimeout); err != nil {
		return err
	}
	has := make(map[string]bool)
	for _, d := range devices {
		has[d.Name] = true
	}
	spec := m.Spec()
	if spec.CD == nil && has[driveCD] {
		if err := m.load(mon, nil); err != nil {
			m.h.cfg.Log.Warn("what lies in a machine's CD-ROM drive could not be taken out", "vm", spec.VM.String(), "error", err)
		}
	}
	left := slices.DeleteFunc(slices.Clone(spec.Disks), func(d hypervisor.Disk) bool { return !has[diskDevice(d.Slot)] })
	if len(left) == len(spec.Disks) {
		return nil
	}
	return m.keepDisks(left)
}
