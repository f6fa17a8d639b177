package qemu

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// SetDeny replaces the networks that guests may not reach.
func (h *Hypervisor) SetDeny(deny []netip.Prefix) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deny = append([]netip.Prefix(nil), deny...)
}

func (h *Hypervisor) startNet(d runDir, s hypervisor.Spec) (process, error) {
	return process{}, nil
}

// endNet ends a machine's network companion.
func (h *Hypervisor) endNet(p process) {}

// endGroup removes a machine's control group, which is empty by now.
func (h *Hypervisor) endGroup(vm holdfast.VMID) {
	if h.cfg.Cgroup != "" {
		os.Remove(filepath.Join(h.cfg.Cgroup, vm.String()))
	}
}

// Dial implements hypervisor.Machine.
func (m *Machine) Dial(guestPort int) (io.ReadWriteCloser, error) {
	return nil, holdfast.Errorf(holdfast.Unavailable, "VM %s has no network", m.rec.Spec.VM)
}
