package client

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync/atomic"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// Status asks how the cluster is.
func (c *Client) Status(ctx context.Context) (v1.Status, error) {
	return fetch[v1.Status](ctx, c, "GET", path("status"), nil)
}

// Self asks which host answers.
func (c *Client) Self(ctx context.Context) (v1.Self, error) {
	return fetch[v1.Self](ctx, c, "GET", path("self"), nil)
}

// Cluster describes the cluster.
func (c *Client) Cluster(ctx context.Context) (v1.Cluster, error) {
	return fetch[v1.Cluster](ctx, c, "GET", path("cluster"), nil)
}

// InitCluster makes a cluster of the host that is called.
func (c *Client) InitCluster(ctx context.Context, s v1.ClusterInit) (v1.Admin, error) {
	return fetch[v1.Admin](ctx, c, "POST", path("cluster"), s)
}

// CreateJoinCode makes a code that admits one host.
func (c *Client) CreateJoinCode(ctx context.Context, s v1.JoinCodeSpec) (v1.JoinCodeText, error) {
	return fetch[v1.JoinCodeText](ctx, c, "POST", path("join-codes"), s)
}

// JoinCodes lists the codes that may still be used.
func (c *Client) JoinCodes(ctx context.Context) ([]v1.JoinCodeInfo, error) {
	return fetch[[]v1.JoinCodeInfo](ctx, c, "GET", path("join-codes"), nil)
}

// RevokeJoinCode makes a code useless. id is its id or the beginning of it.
func (c *Client) RevokeJoinCode(ctx context.Context, id string) error {
	return c.call(ctx, "DELETE", path("join-codes", id), nil, nil)
}

// JoinSelf makes the host that is called a member of the code's cluster.
func (c *Client) JoinSelf(ctx context.Context, s v1.HostJoin) (v1.Self, error) {
	return fetch[v1.Self](ctx, c, "POST", path("self", "join"), s)
}

// Hosts lists the hosts.
func (c *Client) Hosts(ctx context.Context) ([]v1.Host, error) {
	return fetch[[]v1.Host](ctx, c, "GET", path("hosts"), nil)
}

// Host shows one host.
func (c *Client) Host(ctx context.Context, host string) (v1.Host, error) {
	return fetch[v1.Host](ctx, c, "GET", path("hosts", host), nil)
}

// Drain moves work off a host, or lets it take work again, and says what is to
// be moved.
func (c *Client) Drain(ctx context.Context, host string, s v1.DrainSpec) (v1.Drain, error) {
	return fetch[v1.Drain](ctx, c, "POST", path("hosts", host, "drain"), s)
}

// DrainPlan says what draining a host would move, or what is still to be moved.
func (c *Client) DrainPlan(ctx context.Context, host string) (v1.Drain, error) {
	return fetch[v1.Drain](ctx, c, "GET", path("hosts", host, "drain"), nil)
}

// HostRemoval says what removing a host would mean.
func (c *Client) HostRemoval(ctx context.Context, host string, lost bool) (v1.Removal, error) {
	return fetch[v1.Removal](ctx, c, "GET", path("hosts", host, "removal")+lostQuery(lost), nil)
}

// RemoveHost strikes a host from the membership and says what that meant.
func (c *Client) RemoveHost(ctx context.Context, host string, s v1.RemovalSpec) (v1.Removal, error) {
	return fetch[v1.Removal](ctx, c, "POST", path("hosts", host, "removal"), s)
}

// Racks lists the racks.
func (c *Client) Racks(ctx context.Context) ([]v1.Rack, error) {
	return fetch[[]v1.Rack](ctx, c, "GET", path("racks"), nil)
}

// Rack shows one rack.
func (c *Client) Rack(ctx context.Context, rack string) (v1.Rack, error) {
	return fetch[v1.Rack](ctx, c, "GET", path("racks", rack), nil)
}

// RackRemoval says what removing all hosts of a rack would mean.
func (c *Client) RackRemoval(ctx context.Context, rack string, lost bool) (v1.Removal, error) {
	return fetch[v1.Removal](ctx, c, "GET", path("racks", rack, "removal")+lostQuery(lost), nil)
}

// RemoveRack strikes all hosts of a rack from the membership.
func (c *Client) RemoveRack(ctx context.Context, rack string, s v1.RemovalSpec) (v1.Removal, error) {
	return fetch[v1.Removal](ctx, c, "POST", path("racks", rack, "removal"), s)
}

func lostQuery(lost bool) string {
	if lost {
		return "?lost=true"
	}
	return ""
}

// Disks lists the disks of all hosts.
func (c *Client) Disks(ctx context.Context) ([]v1.Disk, error) {
	return fetch[[]v1.Disk](ctx, c, "GET", path("disks"), nil)
}

// AddDisk gives a disk of the host that is called to the cluster.
func (c *Client) AddDisk(ctx context.Context, s v1.DiskSpec) (v1.Disk, error) {
	return fetch[v1.Disk](ctx, c, "POST", path("disks"), s)
}

// EvacuationPlan says what evacuating a disk would move, or what is still to be
// moved.
func (c *Client) EvacuationPlan(ctx context.Context, disk string) (v1.Evacuation, error) {
	return fetch[v1.Evacuation](ctx, c, "GET", path("disks", disk, "evacuation"), nil)
}

// Evacuate has copies of volumes moved off a disk, or lets it have some again.
func (c *Client) Evacuate(ctx context.Context, disk string, s v1.EvacuationSpec) (v1.Evacuation, error) {
	return fetch[v1.Evacuation](ctx, c, "POST", path("disks", disk, "evacuation"), s)
}

// ReplaceDisk gives a new disk of the same host to the cluster in a disk's place;
// that is evacuated and then taken back.
func (c *Client) ReplaceDisk(ctx context.Context, disk string, s v1.DiskSpec) (v1.Disk, error) {
	return fetch[v1.Disk](ctx, c, "POST", path("disks", disk, "replace"), s)
}

// RemoveDisk has a disk evacuated and then taken back.
func (c *Client) RemoveDisk(ctx context.Context, disk string) error {
	return c.call(ctx, "DELETE", path("disks", disk), nil, nil)
}

// ClusterKey says what is known of the cluster's key.
func (c *Client) ClusterKey(ctx context.Context) (v1.ClusterKey, error) {
	return fetch[v1.ClusterKey](ctx, c, "GET", path("cluster", "key"), nil)
}

// InitClusterKey gives the cluster its first key.
func (c *Client) InitClusterKey(ctx context.Context, s v1.KeySpec) (v1.ClusterKey, error) {
	return fetch[v1.ClusterKey](ctx, c, "POST", path("cluster", "key"), s)
}

// UnlockClusterKey loads the key on the host that is called; the others take it
// from there.
func (c *Client) UnlockClusterKey(ctx context.Context, s v1.KeySpec) (v1.ClusterKey, error) {
	return fetch[v1.ClusterKey](ctx, c, "POST", path("cluster", "key", "unlock"), s)
}

// RotateClusterKey replaces the key.
func (c *Client) RotateClusterKey(ctx context.Context, s v1.KeySpec) (v1.ClusterKey, error) {
	return fetch[v1.ClusterKey](ctx, c, "POST", path("cluster", "key", "rotate"), s)
}

// Pools lists the pools, the default one first.
func (c *Client) Pools(ctx context.Context) ([]v1.Pool, error) {
	return fetch[[]v1.Pool](ctx, c, "GET", path("pools"), nil)
}

// Pool shows one pool.
func (c *Client) Pool(ctx context.Context, pool string) (v1.Pool, error) {
	return fetch[v1.Pool](ctx, c, "GET", path("pools", pool), nil)
}

// CreatePool makes a pool without disks.
func (c *Client) CreatePool(ctx context.Context, s v1.PoolSpec) (v1.Pool, error) {
	return create[v1.Pool](ctx, c, path("pools"), s)
}

// DeletePool deletes a pool that nothing is in.
func (c *Client) DeletePool(ctx context.Context, pool string) error {
	return c.call(ctx, "DELETE", path("pools", pool), nil, nil)
}

// Volumes lists the volumes that are not images.
func (c *Client) Volumes(ctx context.Context) ([]v1.Volume, error) {
	return fetch[[]v1.Volume](ctx, c, "GET", path("volumes"), nil)
}

// Volume shows one volume.
func (c *Client) Volume(ctx context.Context, volume string) (v1.Volume, error) {
	return fetch[v1.Volume](ctx, c, "GET", path("volumes", volume), nil)
}

// CreateVolume makes a volume, empty or a linked clone.
func (c *Client) CreateVolume(ctx context.Context, s v1.VolumeSpec) (v1.Volume, error) {
	return create[v1.Volume](ctx, c, path("volumes"), s)
}

// DeleteVolume deletes a volume and its snapshots.
func (c *Client) DeleteVolume(ctx context.Context, volume string) error {
	return c.call(ctx, "DELETE", path("volumes", volume), nil, nil)
}

// EraseVolume deletes an encrypted volume; it is refused where erasing its key
// would not make all copies unreadable.
func (c *Client) EraseVolume(ctx context.Context, volume string) error {
	return c.call(ctx, "DELETE", query(path("volumes", volume), "erase", "true"), nil, nil)
}

// Activity returns a volume's counters.
func (c *Client) Activity(ctx context.Context, volume string) (v1.Activity, error) {
	return fetch[v1.Activity](ctx, c, "GET", path("volumes", volume, "activity"), nil)
}

// Integrity tells what the hosts know of the bytes on their disks; local: only
// the one that is called.
func (c *Client) Integrity(ctx context.Context, local bool) (v1.Integrity, error) {
	return fetch[v1.Integrity](ctx, c, "GET", path("integrity")+here(local), nil)
}

// Work tells what long work the hosts are at; local: only the one that is called.
func (c *Client) Work(ctx context.Context, local bool) (v1.Works, error) {
	return fetch[v1.Works](ctx, c, "GET", path("work")+here(local), nil)
}

// CancelWork cancels a backup or a restore by its id; local: only on the host that
// is called.
func (c *Client) CancelWork(ctx context.Context, id string, local bool) error {
	return c.call(ctx, "DELETE", path("work", id)+here(local), nil, nil)
}

// ScrubVolume has every copy of a volume scrubbed now.
func (c *Client) ScrubVolume(ctx context.Context, volume string, local bool) error {
	return c.call(ctx, "POST", path("volumes", volume, "scrub")+here(local), nil, nil)
}

// ScrubDisk has a disk scrubbed now.
func (c *Client) ScrubDisk(ctx context.Context, disk string) error {
	return c.call(ctx, "POST", path("disks", disk, "scrub"), nil, nil)
}

// Faults lists the blocks of a volume whose bytes did not match their hash.
func (c *Client) Faults(ctx context.Context, volume string) ([]v1.Fault, error) {
	return fetch[[]v1.Fault](ctx, c, "GET", path("volumes", volume, "faults"), nil)
}

// AcknowledgeFaults takes what is known of a volume's faults out of the status.
func (c *Client) AcknowledgeFaults(ctx context.Context, volume string, local bool) error {
	return c.call(ctx, "POST", path("volumes", volume, "faults", "acknowledge")+here(local), nil, nil)
}

// here is the query of a call that is not to be handed on.
func here(local bool) string {
	if local {
		return "?local=true"
	}
	return ""
}

// GrowVolume makes a volume larger.
func (c *Client) GrowVolume(ctx context.Context, volume string, s v1.GrowSpec) (v1.Volume, error) {
	return fetch[v1.Volume](ctx, c, "POST", path("volumes", volume, "grow"), s)
}

// MoveVolume has a copy of a volume built elsewhere and then let go where it is.
func (c *Client) MoveVolume(ctx context.Context, volume string, s v1.VolumeMoveSpec) (v1.VolumeMove, error) {
	return fetch[v1.VolumeMove](ctx, c, "POST", path("volumes", volume, "move"), s)
}

// SetVolume changes a volume while it is used.
func (c *Client) SetVolume(ctx context.Context, volume string, s v1.VolumeSet) (v1.VolumeChanged, error) {
	return fetch[v1.VolumeChanged](ctx, c, "PATCH", path("volumes", volume), s)
}

// Snapshot keeps the volume as it is now.
func (c *Client) Snapshot(ctx context.Context, volume string, s v1.SnapshotSpec) (v1.Snapshot, error) {
	return create[v1.Snapshot](ctx, c, path("volumes", volume, "snapshots"), s)
}

// SnapshotPage lists at most limit snapshots of a volume, in the order of their
// making, after the page before, which says what after is; at first it is empty.
func (c *Client) SnapshotPage(ctx context.Context, volume, after string, limit int) (v1.SnapshotList, error) {
	return fetch[v1.SnapshotList](ctx, c, "GET", query(path("volumes", volume, "snapshots"), "after", after, "limit", strconv.Itoa(limit)), nil)
}

// Snapshots lists all snapshots of a volume, the newest last.
func (c *Client) Snapshots(ctx context.Context, volume string) ([]v1.Snapshot, error) {
	all := []v1.Snapshot{}
	for after := ""; ; {
		page, err := c.SnapshotPage(ctx, volume, after, snapshotsAtOnce)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Snapshots...)
		if page.Next == "" {
			return all, nil
		}
		if len(page.Snapshots) == 0 || page.Next == after {
			return nil, holdfast.Errorf(holdfast.Invalid, "the host's list of the snapshots of volume %s does not go on after %s", volume, page.Next)
		}
		after = page.Next
	}
}

// snapshotsAtOnce is the longest page of snapshots that a host gives out.
const snapshotsAtOnce = 1000

// SnapshotOf shows one snapshot of a volume.
func (c *Client) SnapshotOf(ctx context.Context, volume, snapshot string) (v1.Snapshot, error) {
	return fetch[v1.Snapshot](ctx, c, "GET", path("volumes", volume, "snapshots", snapshot), nil)
}

// DeleteSnapshot lets a snapshot go.
func (c *Client) DeleteSnapshot(ctx context.Context, volume, snapshot string) error {
	return c.call(ctx, "DELETE", path("volumes", volume, "snapshots", snapshot), nil, nil)
}

// Revert sets a volume back to a snapshot.
func (c *Client) Revert(ctx context.Context, volume string, s v1.RevertSpec) error {
	return c.call(ctx, "POST", path("volumes", volume, "revert"), s, nil)
}

// Exports lists the exports.
func (c *Client) Exports(ctx context.Context) ([]v1.Export, error) {
	return fetch[[]v1.Export](ctx, c, "GET", path("exports"), nil)
}

// Export shows one export.
func (c *Client) Export(ctx context.Context, export string) (v1.Export, error) {
	return fetch[v1.Export](ctx, c, "GET", path("exports", export), nil)
}

// CreateExport makes volumes reachable as an iSCSI target; nobody may log in
// yet.
func (c *Client) CreateExport(ctx context.Context, s v1.ExportSpec) (v1.Export, error) {
	return create[v1.Export](ctx, c, path("exports"), s)
}

// DeleteExport ends an export and its sessions; the volumes stay.
func (c *Client) DeleteExport(ctx context.Context, export string) error {
	return c.call(ctx, "DELETE", path("exports", export), nil, nil)
}

// AllowInitiator lets an initiator log in, or changes its secrets.
func (c *Client) AllowInitiator(ctx context.Context, export string, s v1.InitiatorSpec) (v1.Export, error) {
	return fetch[v1.Export](ctx, c, "POST", path("exports", export, "initiators"), s)
}

// DenyInitiator takes that back and ends the initiator's sessions.
func (c *Client) DenyInitiator(ctx context.Context, export, initiator string) (v1.Export, error) {
	return fetch[v1.Export](ctx, c, "DELETE", path("exports", export, "initiators", initiator), nil)
}

// Images lists the images.
func (c *Client) Images(ctx context.Context) ([]v1.Volume, error) {
	return fetch[[]v1.Volume](ctx, c, "GET", path("images"), nil)
}

// Image shows one image.
func (c *Client) Image(ctx context.Context, image string) (v1.Volume, error) {
	return fetch[v1.Volume](ctx, c, "GET", path("images", image), nil)
}

// DeleteImage deletes an image.
func (c *Client) DeleteImage(ctx context.Context, image string) error {
	return c.call(ctx, "DELETE", path("images", image), nil, nil)
}

// NewImage says what is imported.
type NewImage struct {
	Name   string
	Size   int64 // bytes; -1: the end of the stream decides
	Copies int   // 0: the default
	Pool   string

	Encrypt  bool
	Compress string
	AsIs     bool // no disk: the bytes are kept whatever they look like, as of a compressed initrd
}

// ImportImage streams a raw disk.
func (c *Client) ImportImage(ctx context.Context, n NewImage, r io.Reader) (v1.Volume, error) {
	var out v1.Volume
	var copies, asIs, encrypt string
	if n.Copies > 0 {
		copies = strconv.Itoa(n.Copies)
	}
	if n.AsIs {
		asIs = "true"
	}
	if n.Encrypt {
		encrypt = "true"
	}
	name, size := n.Name, n.Size
	in := &counted{r: r, want: size}
	req, err := c.request(ctx, "POST", query(path("images"), "name", name, "copies", copies, "pool", n.Pool, "encrypt", encrypt, "compress", n.Compress, "as_is", asIs), io.NopCloser(in))
	if err != nil {
		return out, err
	}
	req.ContentLength = size
	if size == 0 {
		req.Body = nil
	}
	err = c.send(req, &out)
	if err != nil && in.long.Load() {
		return out, holdfast.Errorf(holdfast.Invalid, "image %s: it has more than the %d bytes that were announced; is it the right file?", name, size)
	}
	if err != nil && size > 0 && in.ended.Load() && in.n.Load() != size {
		return out, holdfast.Errorf(holdfast.Invalid, "image %s: it has %d bytes, not the %d that were announced; is the file whole?", name, in.n.Load(), size)
	}
	return out, err
}

// counted counts what is read, to explain a stream that is shorter or longer
// than was announced. One that is longer fails before its announced end: the
// host must not take the beginning for the whole.
type counted struct {
	r     io.Reader
	want  int64 // 0 or less: not announced
	n     atomic.Int64
	ended atomic.Bool
	long  atomic.Bool
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	if errors.Is(err, io.EOF) {
		c.ended.Store(true)
	}
	total := c.n.Add(int64(n))
	if c.want > 0 && total == c.want && err == nil {
		var more [1]byte
		k, merr := io.ReadFull(c.r, more[:])
		total += int64(k)
		err = merr
	}
	if c.want > 0 && total > c.want {
		c.long.Store(true)
		return 0, errLong
	}
	return n, err
}

var errLong = errors.New("longer than announced")

// VMs lists the VMs.
func (c *Client) VMs(ctx context.Context) ([]v1.VM, error) {
	return fetch[[]v1.VM](ctx, c, "GET", path("vms"), nil)
}

// VM shows one VM.
func (c *Client) VM(ctx context.Context, vm string) (v1.VM, error) {
	return fetch[v1.VM](ctx, c, "GET", path("vms", vm), nil)
}

// CreateVM makes a VM.
func (c *Client) CreateVM(ctx context.Context, s v1.VMSpec) (v1.VM, error) {
	return create[v1.VM](ctx, c, path("vms"), s)
}

// ChangeVM changes what people chose of a VM.
func (c *Client) ChangeVM(ctx context.Context, vm string, s v1.VMSet) (v1.VM, error) {
	return fetch[v1.VM](ctx, c, "PATCH", path("vms", vm), s)
}

// StartVM starts a VM.
func (c *Client) StartVM(ctx context.Context, vm string) (v1.VM, error) {
	return fetch[v1.VM](ctx, c, "POST", path("vms", vm, "start"), nil)
}

// StopVM presses a VM's power button, or ends its process.
func (c *Client) StopVM(ctx context.Context, vm string, s v1.StopSpec) (v1.VM, error) {
	return fetch[v1.VM](ctx, c, "POST", path("vms", vm, "stop"), s)
}

// ResetVM presses a VM's reset button.
func (c *Client) ResetVM(ctx context.Context, vm string) (v1.VM, error) {
	return fetch[v1.VM](ctx, c, "POST", path("vms", vm, "reset"), nil)
}

// Incidents lists losses of hosts, newest first.
func (c *Client) Incidents(ctx context.Context) ([]v1.Incident, error) {
	return fetch[[]v1.Incident](ctx, c, "GET", path("incidents"), nil)
}

// Incident shows one loss and its timeline.
func (c *Client) Incident(ctx context.Context, id string) (v1.Incident, error) {
	return fetch[v1.Incident](ctx, c, "GET", path("incidents", id), nil)
}
