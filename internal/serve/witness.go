package serve

import (
	"context"
	"io"
	"net/netip"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// A witness is a host that votes in the control plane and does nothing else
// (docs/adr/0060): it starts no hypervisor, no watchdog, no server of volumes, and
// takes no disk and no cluster key.

// machines is what a host runs its VMs with.
type machines interface {
	hypervisor.Hypervisor
	// Sandbox says how well they are confined: "full", "reduced", "" for none.
	Sandbox() string
	// UEFI reports whether there is firmware for VMs with UEFI.
	UEFI() bool
	// SetDeny keeps guests from addresses.
	SetDeny([]netip.Prefix) error
	// Close lets go of them; they run on.
	Close()
}

// noMachines is what a witness runs VMs with: nothing.
type noMachines struct{ name string }

// Start implements hypervisor.Hypervisor.
func (n noMachines) Start(s hypervisor.Spec) (hypervisor.Machine, error) {
	return nil, errWitness(n.name, "runs no VMs")
}

// Restore implements hypervisor.Hypervisor.
func (n noMachines) Restore(s hypervisor.Spec, _ io.Reader) (hypervisor.Machine, error) {
	return n.Start(s)
}

// Adopt implements hypervisor.Hypervisor.
func (noMachines) Adopt() ([]hypervisor.Machine, error) { return nil, nil }

// Accelerator implements hypervisor.Hypervisor.
func (noMachines) Accelerator() (name, why string) { return "", "a witness runs no VMs" }

// Kind implements hypervisor.Hypervisor.
func (noMachines) Kind() string { return "" }

// Notify implements hypervisor.Hypervisor.
func (noMachines) Notify(func(holdfast.VMID, hypervisor.State)) {}

// Sandbox implements machines.
func (noMachines) Sandbox() string { return "" }

// UEFI implements machines.
func (noMachines) UEFI() bool { return false }

// SetDeny implements machines.
func (noMachines) SetDeny([]netip.Prefix) error { return nil }

// Close implements machines.
func (noMachines) Close() {}

// errWitness says what a witness does not do, and who does.
func errWitness(name, what string) error {
	return holdfast.Errorf(holdfast.Invalid, "host %s is a witness: it votes in the control plane and %s; ask another host of the cluster", name, what)
}

// errWitnessDisk says why a witness takes no disk.
func errWitnessDisk(name string) error {
	return holdfast.Errorf(holdfast.Invalid, "host %s is a witness: it votes in the control plane and has no disks, so that losing it costs nothing and it may be any small computer. "+
		"Give the disk to another host; to make an ordinary host of this one, remove it, take 'witness' out of its configuration, give it an empty data_dir and join it anew", name)
}

// checkRole refuses a host that has joined as one thing and starts as another:
// the others count on what they were told.
func (h *Host) checkRole(ms membership) error {
	switch {
	case ms.Witness == h.cfg.Witness:
		return nil
	case ms.Witness:
		return holdfast.Errorf(holdfast.Invalid, "host %s joined as a witness and is started as an ordinary host; start it with --witness, or remove it from the cluster, give it an empty data_dir and join it anew", h.cfg.Name)
	}
	return holdfast.Errorf(holdfast.Invalid, "host %s joined as an ordinary host and is started as a witness; start it without, or drain and remove it, give it an empty data_dir and join it anew", h.cfg.Name)
}

// checkPlace refuses a newcomer whose rack would be lost together with a witness,
// and a witness that nobody needs.
func checkPlace(st *cluster.State, rec cluster.Host, member bool) error {
	for _, o := range st.SortedHosts() {
		switch same := o.Val.Domain == rec.Domain && o.Val.ID != rec.ID; {
		case same && rec.Witness:
			return holdfast.Errorf(holdfast.Conflict, "host %s stands in rack %s, too: a witness decides what goes on when a rack is lost, so it stands in none that can be; give it a rack name of its own", o.Val.Name, rec.Domain)
		case same && o.Val.Witness:
			return holdfast.Errorf(holdfast.Conflict, "rack %s is that of the witness %s, which decides what goes on when a rack is lost; give host %s another rack", rec.Domain, o.Val.Name, rec.Name)
		}
	}
	if rec.Witness && !member {
		return holdfast.Errorf(holdfast.Conflict, "the control plane has its members in %d racks, or is an external one: there is nothing for a witness to decide", maxMembers)
	}
	return nil
}

// importElsewhere has a host with disks import an image.
func (h *Host) importElsewhere(ctx context.Context, m *member, n httpapi.NewImage, r io.Reader) (cluster.Volume, error) {
	st := m.node.Cluster.State()
	for _, o := range st.SortedHosts() {
		if o.Val.Witness || !st.AliveHost(o.Val.ID) {
			continue
		}
		c := m.peer(o.Val)
		defer c.Close()
		v, err := c.ImportImage(ctx, client.NewImage{Name: n.Name, Size: n.Size, Copies: n.Copies, Pool: st.PoolName(n.Pool),
			Encrypt: n.Encrypt, Compress: n.Compression, AsIs: n.AsIs}, r)
		if err != nil {
			return cluster.Volume{}, err
		}
		if st, err = m.node.Cluster.Refresh(); err != nil {
			return cluster.Volume{}, err
		}
		u, err := holdfast.ParseUUID(v.ID)
		return st.Volumes[holdfast.VolumeID{UUID: u}].Val, err
	}
	return cluster.Volume{}, holdfast.Errorf(holdfast.Unavailable, "no host with disks is alive to import image %s", n.Name)
}
