package qemu

import (
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// DiskSize returns the size in bytes that the guest sees of a disk.
func (m *Machine) DiskSize(disk int) (int64, error) {
	mon, err := m.talking()
	if err != nil {
		return 0, err
	}
	var nodes []struct {
		Name  string `json:"node-name"`
		Image struct {
			Size int64 `json:"virtual-size"`
		} `json:"image"`
	}
	if err := mon.execute("query-named-block-nodes", map[string]any{"flat": true}, &nodes, commandTimeout); err != nil {
		return 0, err
	}
	for _, n := range nodes {
		if n.Name == diskNode(disk) {
			return n.Image.Size, nil
		}
	}
	return 0, holdfast.Errorf(holdfast.NotFound, "VM %s has no disk %d", m.rec.Spec.VM, disk)
}

// Grow has the guest see that a disk has become larger. Kind Unavailable: QEMU
// has not read the new size yet, as it does when it connects.
func (m *Machine) Grow(disk int, size int64) error {
	mon, err := m.talking()
	if err != nil {
		return err
	}
	// QEMU connects anew when there is something to do.
	touch := map[string]any{"command-line": "qemu-io " + diskNode(disk) + " flush"}
	if err := mon.execute("human-monitor-command", touch, nil, commandTimeout); err != nil {
		return err
	}
	err = mon.execute("block_resize", map[string]any{"node-name": diskNode(disk), "size": size}, nil, commandTimeout)
	if err != nil && strings.Contains(err.Error(), "Cannot grow NBD") {
		return holdfast.Errorf(holdfast.Unavailable, "the disk of VM %s was not connected anew yet: %w", m.rec.Spec.VM, err)
	}
	return err
}

// talking returns the monitor of a machine that runs.
func (m *Machine) talking() (*monitor, error) {
	m.mu.Lock()
	mon, state := m.monitor, m.state
	m.mu.Unlock()
	switch {
	case state == hypervisor.Off:
		return nil, m.offError()
	case mon == nil || m.proc.stopped():
		return nil, holdfast.Errorf(holdfast.Unavailable, "the machine of VM %s is held", m.rec.Spec.VM)
	}
	return mon, nil
}
