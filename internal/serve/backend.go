package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/once"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

var _ httpapi.Backend = (*Host)(nil)

// Self implements httpapi.Reader.
func (h *Host) Self() httpapi.Self {
	h.mu.Lock()
	m := h.run
	h.mu.Unlock()
	leads := false
	if m != nil && m.etcd.Load() != nil {
		leads = m.etcd.Load().Leads()
	}
	accel, why := h.hyper.Accelerator()
	return httpapi.Self{ID: h.dir.id.Host, Name: h.cfg.Name, Domain: h.cfg.Domain(), Version: h.version,
		DataDir: h.dir.path, InCluster: m != nil || h.waits != nil, LeadsKV: leads, Witness: h.cfg.Witness, External: m != nil && m.ms.Load().External || errors.Is(h.waits, errLeft), Accelerator: accel, Why: why, Sandbox: h.hyper.Sandbox()}
}

// State implements httpapi.Reader.
func (h *Host) State(ctx context.Context) (*cluster.State, error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := h.errStruck(m); err != nil {
		return nil, err
	}
	st := m.node.Cluster.State()
	if st.Rev == 0 {
		if err := m.node.Cluster.Err(); err != nil {
			return nil, err
		}
		if m.ms.Load().External {
			return nil, holdfast.Errorf(holdfast.Unavailable, "this host has not reached the external etcd since it started%s", m.whyAway())
		}
		return nil, holdfast.Errorf(holdfast.Unavailable, "this host has not reached the control plane since it started; it needs a majority of its members")
	}
	if !m.node.Lease().Valid() {
		return ownMachines(st, h.dir.id.Host, m.node.Agent.Machine), nil
	}
	return st, nil
}

// onceLog remembers the keys of requests.
func (h *Host) onceLog() (*once.Log, error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	return &once.Log{KV: m.kv, Clock: clock.System{}}, nil
}

// AwaitChange implements httpapi.Reader.
func (h *Host) AwaitChange(after kv.Rev, most time.Duration) {
	m, err := h.member()
	if err != nil {
		time.Sleep(most)
		return
	}
	m.node.Cluster.WaitRev(after+1, most)
}

// Report implements httpapi.Reader.
func (h *Host) Report(ctx context.Context) (httpapi.Report, error) {
	m, err := h.member()
	if err != nil {
		return httpapi.Report{}, err
	}
	var r httpapi.Report
	if move := m.node.Cluster.State().Moved; move != nil {
		r.Stale = fmt.Sprintf("the control plane is moving into the external etcd at %s and has not arrived, nothing can be changed until it has; 'holdfast cluster move-kv' goes on, --cancel gives it up", strings.Join(move.To, ", "))
	} else if !m.node.Lease().Valid() {
		r.Stale = "this host has not reached a majority of the control plane for a while"
		if m.ms.Load().External {
			r.Stale = "this host has not reached the external etcd for a while" + m.whyAway()
		}
	} else if full := m.full.Load(); full != nil {
		r.Full = *full
	}
	return r, nil
}

// Activity implements httpapi.Reader.
func (h *Host) Activity(ctx context.Context, id holdfast.VolumeID) (v1.Activity, error) {
	m, err := h.member()
	if err != nil {
		return v1.Activity{}, err
	}
	if a, ok := h.importing(id); ok {
		return a, nil
	}
	if v := m.node.Volumes.Opened(id); v != nil {
		s := v.Stats()
		a := v1.Activity{Host: h.cfg.Name, Epoch: uint32(v.Epoch()), ReadBytes: s.ReadBytes, WrittenBytes: s.WrittenBytes,
			Flushes: int64(s.Flushes), ResentBytes: s.ResyncBytes, Delayed: s.Delayed}
		if c, joining := v.Mending(); joining {
			a.Resync, a.ResyncDone = "a replica is being brought up to date", c.Done
			a.ResyncHost, a.ResyncRate, a.ResyncLeftSecs = m.node.Cluster.State().Hosts[c.Host].Val.Name, c.Rate, int64(c.Left/time.Second)
			a.ResyncLimit, a.ResyncLimitedBy = c.Limit, c.LimitedBy
			if c.Waits {
				a.Resync, a.ResyncWaits, a.ResyncAhead = "a replica waits for its turn to be brought up to date", true, c.Ahead
			}
		}
		return a, nil
	}
	st := m.node.Cluster.State()
	rec, ok := st.Volumes[id]
	if !ok || rec.Val.Writer.IsZero() || rec.Val.Writer == h.dir.id.Host || !st.AliveHost(rec.Val.Writer) {
		return v1.Activity{}, holdfast.Errorf(holdfast.NotFound, "no host has the volume open")
	}
	c := m.peer(st.Hosts[rec.Val.Writer].Val)
	defer c.Close()
	return c.Activity(ctx, id.String())
}

// peer is a client of another host's API, as this host.
func (m *member) peer(host cluster.Host) *client.Client {
	c := client.HTTPS(host.APIAddr, auth.ClientTLS(m.creds, nil))
	c.Through(m.traces.Through)
	return c
}

// Drain implements httpapi.Members.
func (h *Host) Drain(ctx context.Context, id holdfast.HostID, on bool, guestSeconds int) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return drainHost(m.node.Cluster, id, on, guestSeconds)
}

func drainHost(c *cluster.Client, id holdfast.HostID, on bool, guestSeconds int) error {
	return changeHost(c, id, func(tx *cluster.Txn, rec cluster.Versioned[cluster.Host]) error {
		rec.Val.Drained, rec.Val.DrainSeconds = on, guestSeconds
		tx.PutHost(rec.Val, rec.Mod)
		return nil
	})
}

func (h *Host) changeHost(id holdfast.HostID, f func(*cluster.Txn, cluster.Versioned[cluster.Host]) error) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return changeHost(m.node.Cluster, id, f)
}

// changeHost has f decide on a host's newest record, again if somebody else was
// quicker.
func changeHost(c *cluster.Client, id holdfast.HostID, f func(*cluster.Txn, cluster.Versioned[cluster.Host]) error) error {
	for range 5 {
		st, err := c.Refresh()
		if err != nil {
			return err
		}
		rec, ok := st.Hosts[id]
		if !ok {
			return holdfast.Errorf(holdfast.NotFound, "host %s is not a member", id.Short())
		}
		tx := c.Begin()
		if err := f(tx, rec); err != nil {
			return err
		}
		rev, err := tx.Settle(kv.CallTimeout)
		if err == nil {
			c.WaitRev(rev, kv.CallTimeout)
			return nil
		}
		if !holdfast.IsKind(err, holdfast.Conflict) {
			return err
		}
	}
	return holdfast.Errorf(holdfast.Conflict, "the host's record kept changing; try again")
}

// CreatePool implements httpapi.Pools.
func (h *Host) CreatePool(ctx context.Context, p cluster.Pool) (cluster.Pool, error) {
	m, err := h.member()
	if err != nil {
		return p, err
	}
	return m.node.Make.CreatePool(p)
}

// DeletePool implements httpapi.Pools.
func (h *Host) DeletePool(ctx context.Context, id holdfast.PoolID) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return m.node.Make.DeletePool(id)
}

// onWriter runs f where a volume may be opened: here if nobody else who lives
// writes it, otherwise by remote at the writer's API.
func (h *Host) onWriter(m *member, id holdfast.VolumeID, here func() error, remote func(*client.Client) error) error {
	st, err := m.node.Cluster.Refresh()
	if err != nil {
		return err
	}
	rec, ok := st.Volumes[id]
	if !ok {
		return holdfast.Errorf(holdfast.NotFound, "volume %s does not exist", id.Short())
	}
	w := rec.Val.Writer
	if vm, ok := st.VMs[rec.Val.VM]; ok && vm.Val.Power == cluster.On {
		w = vm.Val.Host
	}
	if w.IsZero() || w == h.dir.id.Host || !st.AliveHost(w) {
		if !h.holds(rec.Val) {
			for _, ref := range rec.Val.InSync { // better where a replica is
				if st.AliveHost(ref.Host) && (w.IsZero() || h.cfg.Witness) {
					c := m.peer(st.Hosts[ref.Host].Val)
					defer c.Close()
					return remote(c)
				}
			}
		}
		return here()
	}
	c := m.peer(st.Hosts[w].Val)
	defer c.Close()
	return remote(c)
}

func (h *Host) holds(rec cluster.Volume) bool {
	for _, ref := range rec.InSync {
		if ref.Host == h.dir.id.Host {
			return true
		}
	}
	return false
}

// CreateVolume implements httpapi.Volumes.
func (h *Host) CreateVolume(ctx context.Context, n httpapi.NewVolume) (cluster.Volume, error) {
	m, err := h.member()
	if err != nil {
		return cluster.Volume{}, err
	}
	return m.node.Make.CreateVolume(volumeSpec(n))
}

func volumeSpec(n httpapi.NewVolume) provision.VolumeSpec {
	return provision.VolumeSpec{Name: n.Name, Blocks: n.Blocks, Copies: n.Copies, Min: n.Min, Durability: n.Durability, Reads: n.Reads, Origin: n.Origin, Pool: n.Pool,
		Encrypt: n.Encrypt, Compression: n.Compression, Limits: n.Limits, Weight: n.Weight}
}

// DeleteVolume implements httpapi.Volumes.
func (h *Host) DeleteVolume(ctx context.Context, id holdfast.VolumeID, erase bool) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return m.node.Make.DeleteVolume(id, erase)
}

// GrowVolume implements httpapi.Volumes.
func (h *Host) GrowVolume(ctx context.Context, id holdfast.VolumeID, blocks uint64) (cluster.Volume, error) {
	m, err := h.member()
	if err != nil {
		return cluster.Volume{}, err
	}
	return m.node.Make.GrowVolume(id, blocks)
}

// Snapshot implements httpapi.Volumes.
func (h *Host) Snapshot(ctx context.Context, id holdfast.VolumeID, name string) (snap cluster.Snapshot, err error) {
	m, err := h.member()
	if err != nil {
		return snap, err
	}
	err = h.onWriter(m, id, func() error {
		snap, err = m.node.Make.Snapshot(id, name)
		return err
	}, func(c *client.Client) error {
		s, err := c.Snapshot(ctx, id.String(), v1.SnapshotSpec{Name: name})
		if err != nil {
			return err
		}
		u, err := holdfast.ParseUUID(s.ID)
		snap = cluster.Snapshot{ID: holdfast.SnapshotID{UUID: u}, Name: s.Name, Created: s.Created}
		if st, rerr := m.node.Cluster.Refresh(); rerr == nil {
			for _, k := range st.Volumes[id].Val.Snapshots {
				if k.ID == snap.ID {
					snap = k
				}
			}
		}
		return err
	})
	return snap, err
}

// DeleteSnapshot implements httpapi.Volumes.
func (h *Host) DeleteSnapshot(ctx context.Context, id holdfast.VolumeID, snap holdfast.SnapshotID) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return h.onWriter(m, id, func() error { return m.node.Make.DeleteSnapshot(id, snap) },
		func(c *client.Client) error { return c.DeleteSnapshot(ctx, id.String(), snap.String()) })
}

// Revert implements httpapi.Volumes.
func (h *Host) Revert(ctx context.Context, id holdfast.VolumeID, snap holdfast.SnapshotID) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return h.onWriter(m, id, func() error { return m.node.Make.Revert(id, snap) },
		func(c *client.Client) error {
			return c.Revert(ctx, id.String(), v1.RevertSpec{Snapshot: snap.String()})
		})
}

// CreateVM implements httpapi.VMs.
func (h *Host) CreateVM(ctx context.Context, n httpapi.NewVM) (cluster.VM, error) {
	m, err := h.member()
	if err != nil {
		return cluster.VM{}, err
	}
	return m.node.Make.CreateVM(vmSpec(n))
}

func vmSpec(n httpapi.NewVM) provision.VMSpec {
	return provision.VMSpec{Image: n.Image, Blocks: n.Blocks, Copies: n.Copies, Pool: n.Pool, UEFI: n.UEFI, VM: cluster.VM{
		Name: n.Name, Volume: n.Volume, CPUs: n.CPUs, MemoryMiB: n.MemoryMiB, Power: n.Power, Priority: n.Priority, Isolation: n.Isolation,
		Publish: n.Publish, UserData: n.UserData, SSHKeys: n.SSHKeys, Kernel: n.Kernel, Initrd: n.Initrd, Append: n.Append,
		CDROM: n.CDROM, Boot: n.Boot, Vars: n.Vars,
	}}
}

// ChangeVM implements httpapi.VMs.
func (h *Host) ChangeVM(ctx context.Context, id holdfast.VMID, c cluster.VMChange) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	_, err = m.node.Make.ChangeVM(id, c)
	return err
}

// StartVM implements httpapi.VMs.
func (h *Host) StartVM(ctx context.Context, id holdfast.VMID) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return m.node.Make.StartVM(id)
}

// StopVM implements httpapi.VMs.
func (h *Host) StopVM(ctx context.Context, id holdfast.VMID, force bool) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return m.node.Make.StopVM(id, force)
}

// ResetVM implements httpapi.VMs.
func (h *Host) ResetVM(ctx context.Context, id holdfast.VMID) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return m.node.Make.ResetVM(id)
}

// DeleteVM implements httpapi.VMs.
func (h *Host) DeleteVM(ctx context.Context, id holdfast.VMID, r cluster.VMRemoval) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return m.node.Make.DeleteVM(id, r)
}

// AddVMDisk implements httpapi.VMs.
func (h *Host) AddVMDisk(ctx context.Context, id holdfast.VMID, d httpapi.NewVMDisk) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	_, err = m.node.Make.AddVMDisk(id, provision.VMDisk{Volume: d.Volume, New: volumeSpec(d.New)})
	return err
}

// RemoveVMDisk implements httpapi.VMs.
func (h *Host) RemoveVMDisk(ctx context.Context, id holdfast.VMID, volume holdfast.VolumeID) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	_, err = m.node.Make.RemoveVMDisk(id, volume)
	return err
}

// Console implements httpapi.VMs.
func (h *Host) Console(ctx context.Context, id holdfast.VMID, local bool) (io.ReadWriteCloser, error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if mach := m.node.Agent.Machine(id); mach != nil {
		return mach.Console()
	}
	return h.relayed(m, id, local, func(c *client.Client) (io.ReadWriteCloser, error) { return c.Console(ctx, id.String(), true) })
}

// Screen implements httpapi.VMs.
func (h *Host) Screen(ctx context.Context, id holdfast.VMID, local bool) (io.ReadWriteCloser, error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if mach := m.node.Agent.Machine(id); mach != nil {
		s, ok := mach.(hypervisor.Screened)
		if !ok {
			return nil, holdfast.Errorf(holdfast.Unavailable, "VM %s has no screen", id.Short())
		}
		return s.Screen()
	}
	return h.relayed(m, id, local, func(c *client.Client) (io.ReadWriteCloser, error) { return c.Screen(ctx, id.String(), true) })
}

// relayed opens a stream to a VM by the host that runs it, if that is another one.
func (h *Host) relayed(m *member, id holdfast.VMID, local bool, open func(*client.Client) (io.ReadWriteCloser, error)) (io.ReadWriteCloser, error) {
	c, at, err := m.hostOfVM(id, h.dir.id.Host, local)
	if err != nil {
		return nil, err
	}
	con, err := open(c)
	if err != nil {
		return nil, err
	}
	return &relayed{con, m.relays.add(id, at, func() { con.Close() })}, nil
}

// hostOfVM is a client of the host that runs a VM, if that is another one.
func (m *member) hostOfVM(id holdfast.VMID, self holdfast.HostID, local bool) (*client.Client, holdfast.HostID, error) {
	st := m.node.Cluster.State()
	vm, ok := st.VMs[id]
	at := vm.Val.Host
	switch {
	case !ok:
		return nil, at, holdfast.Errorf(holdfast.NotFound, "VM %s does not exist", id.Short())
	case local || at == self || !st.AliveHost(at):
		return nil, at, holdfast.Errorf(holdfast.Unavailable, "VM %s does not run now; 'holdfast vm show %s' says why", vm.Val.Name, vm.Val.Name)
	}
	return m.peer(st.Hosts[at].Val), at, nil
}
