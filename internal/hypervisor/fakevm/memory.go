package fakevm

import (
	"encoding/json"
	"io"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/probe"
)

// memory is all that the guest's program has in it: how far it has come on its
// disks, once it has verified them. A block that was written and not flushed is
// written again.
type memory struct {
	Machine holdfast.VMID `json:"machine"`
	Ready   bool          `json:"ready"`
	Last    [2]uint32     `json:"last"` // by slot
}

// maxMemory bounds what is read of a saved one, in bytes.
const maxMemory = 4096

// Save implements hypervisor.Machine.
func (m *Machine) Save(w io.Writer) error {
	m.mu.Lock()
	state, is := m.state, m.memory
	m.mu.Unlock()
	switch state {
	case hypervisor.Off:
		return m.offError()
	case hypervisor.Running:
		return holdfast.Errorf(holdfast.Conflict, "the machine of VM %s runs; its memory is saved while it stands still", m.spec.VM)
	}
	is.Machine = m.spec.VM
	return json.NewEncoder(w).Encode(is)
}

// Restore implements hypervisor.Hypervisor.
func (v *Hypervisor) Restore(s hypervisor.Spec, from io.Reader) (hypervisor.Machine, error) {
	b, err := io.ReadAll(io.LimitReader(from, maxMemory))
	if err != nil {
		return nil, err
	}
	var is memory
	if err := json.Unmarshal(b, &is); err != nil || is.Machine != s.VM {
		return nil, holdfast.Errorf(holdfast.Corrupt, "machine %s: what it is to go on with is not its memory", s.Name)
	}
	return v.startFrom(s, &is)
}

// Kind implements hypervisor.Hypervisor.
func (v *Hypervisor) Kind() string { return v.host.cfg.Kind }

// Kind implements hypervisor.Machine.
func (m *Machine) Kind() string { return m.host.cfg.Kind }

// remember notes how far the guest has come.
func (m *Machine) remember(boot int, rings []*ring) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.boots != boot {
		return
	}
	m.memory.Ready = true
	for _, r := range rings {
		m.memory.Last[r.disk] = r.last
	}
}

// forget is what a reset does to a memory. Called with mu held.
func (m *Machine) forget() { m.memory = memory{} }

// remembered has rings go on where they were, and reports whether the guest had
// come so far.
func (m *Machine) remembered(rings []*ring) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range rings {
		r.last = m.memory.Last[r.disk]
	}
	return m.memory.Ready
}

// rings are what the guest writes, in the order in which it does.
func (m *Machine) rings() []*ring {
	first := &ring{slots: m.host.cfg.Slots, verified: probe.VerifiedLine, flushed: probe.FlushedLine}
	spec := m.Spec()
	if _, two := spec.At(probe.SecondDisk); !two {
		return []*ring{first}
	}
	return []*ring{{disk: probe.SecondDisk, slots: probe.SecondSlots, verified: probe.SecondVerifiedLine, flushed: probe.SecondFlushedLine}, first}
}
