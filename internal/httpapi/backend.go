package httpapi

import (
	"context"
	"io"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/series"
	"github.com/holdfast-cloud/holdfast/internal/telemetry"
)

// Backend is what the API needs from the host it runs on. The API parses,
// limits and validates requests, resolves names to identifiers and renders
// answers; the Backend acts. Every method may be called from any goroutine and
// returns errors of a holdfast kind, whose text is shown to people as it is.
// ctx ends when the client goes away; work that must be finished once begun
// does not follow it.
type Backend interface {
	Reader
	Members
	Disks
	Pools
	Keys
	Volumes
	Groups
	Images
	VMs
	VMSnapshots
	Exports
	Integrity
	Backups
	Schedules
	Recoverer
	Mover
	Rehearser
	Upgrader
}

// Mover moves the control plane from the cluster's own hosts into the external etcd
// that the hosts' configurations name.
type Mover interface {
	// KVReady says whether this host could have it there.
	KVReady(ctx context.Context) v1.KVReady
	// MovePlan says what a move would do, and who could not follow. Conflict: it is
	// in an external etcd already, or this host was not given a good one.
	MovePlan(ctx context.Context) (v1.KVMove, error)
	// MoveKV makes the move; name is the cluster's, to confirm. Conflict: a host
	// could not follow. Unknown: it has begun, and could neither be ended nor given up.
	MoveKV(ctx context.Context, name string) (v1.KVMove, error)
	// CancelMove gives up what has begun. Conflict: nothing has, or it has arrived.
	CancelMove(ctx context.Context) error
}

// Recoverer is about a control plane whose majority is lost for good.
type Recoverer interface {
	// Recovery tells of the last recovery on this host.
	Recovery(ctx context.Context) (v1.Recovery, error)
	// RecoveryPlan says what a recovery here would do. Conflict: the control plane
	// has its majority, or could have; Denied: the key is not the one that the kept
	// records are sealed with, or none was given.
	RecoveryPlan(ctx context.Context, from RecoverFrom) (v1.Recovery, error)
	// Recover begins a recovery; name is the cluster's, to confirm.
	Recover(ctx context.Context, name string, from RecoverFrom) (v1.Recovery, error)
}

// RecoverFrom is what a recovery begins with beside what the host has itself.
type RecoverFrom struct {
	Key   NewKey   // empty: what is in memory, or none is needed
	Disks []string // of lost hosts, in a host that is in no cluster
}

// Integrity is about the bytes on the disks. local keeps a call from being
// handed on to other hosts.
type Integrity interface {
	// Integrity tells what the hosts know of their disks and replicas.
	Integrity(ctx context.Context, local bool) (v1.Integrity, error)
	// ScrubDisk has a disk scrubbed now. Unavailable: its host is away.
	ScrubDisk(ctx context.Context, id holdfast.DiskID) error
	// ScrubVolume has every replica of a volume scrubbed now. Unavailable: no
	// host of one can be reached.
	ScrubVolume(ctx context.Context, id holdfast.VolumeID, local bool) error
	// Acknowledge has the faults of a volume no longer told as conditions.
	Acknowledge(ctx context.Context, id holdfast.VolumeID, local bool) error
}

// Reader is the read side. Everything that lists or shows is rendered from it.
type Reader interface {
	// Self describes this host; it works before the host is in a cluster.
	Self() Self
	// State returns a picture that includes every change this host has made
	// through the Backend. Unavailable: the host is not in a cluster yet, or
	// has had no picture since it started.
	State(ctx context.Context) (*cluster.State, error)
	// AwaitChange waits until the picture is a newer one than that of a revision, but
	// no longer than so long, and for as long in a host that is in no cluster.
	AwaitChange(after kv.Rev, most time.Duration)
	// Report adds what State does not say; internal/health makes the sentence
	// and the conditions from both.
	Report(ctx context.Context) (Report, error)
	// Work tells what long work the hosts are at, evacuations left out; local
	// keeps the call from being handed on to other hosts.
	Work(ctx context.Context, local bool) (v1.Works, error)
	// CancelWork cancels a backup or a restore. NotFound: there is none of that id.
	CancelWork(ctx context.Context, id string, local bool) error
	// Diagnose tells what the hosts' processes are doing; local keeps the call from
	// being handed on to other hosts. It works before the host is in a cluster.
	Diagnose(ctx context.Context, local bool) (v1.Diagnoses, error)
	// Activity returns counters of a volume from the host that writes it (or
	// wrote it last), asking that host if it is another one. NotFound if no
	// host has the volume open.
	Activity(ctx context.Context, id holdfast.VolumeID) (v1.Activity, error)
	// History adds to 'to', which says what it is of and when, what was measured of
	// it in a window; local keeps the call from being handed on to other hosts.
	History(ctx context.Context, to *v1.History, id holdfast.UUID, w series.Window, local bool) error
	// Measure adds what this host knows of itself and of the disks and volumes that
	// it has open. It does not wait.
	Measure(m *telemetry.Samples)
}

// Self is this host.
type Self struct {
	ID          holdfast.HostID
	Name        string
	Domain      holdfast.FaultDomain
	Version     string
	DataDir     string
	InCluster   bool
	LeadsKV     bool   // its member leads the control plane
	Witness     bool   // it votes and does nothing else
	External    bool   // its cluster has the control plane in an external etcd
	Accelerator string // "kvm" or "tcg", with why
	Why         string
	Sandbox     string // "full" or "reduced"
	Simulated   bool   // there is no such host, and the cluster is none
}

// Report is what this host adds to the picture.
type Report struct {
	// Stale is set while the picture cannot be refreshed, with why: "this host
	// has not reached a majority of the control plane since …". The API then
	// says so first.
	Stale string
	// Full is set while an external etcd takes no changes, with what its owner is to
	// do. The picture is right then, but what happens next changes nothing in it.
	Full string
}

// Members is about the cluster and its hosts.
type Members interface {
	// InitCluster makes a cluster of this host alone. Conflict if the host is
	// in one already.
	InitCluster(ctx context.Context, name string) (Admin, error)
	// CreateJoinCode mints a code that admits one host within a time, 0: an
	// hour; rack may be empty (any). The text is v1.JoinCode.String().
	CreateJoinCode(ctx context.Context, rack string, life time.Duration) (string, error)
	// JoinCodes returns the codes that may still be used, without their secrets.
	JoinCodes(ctx context.Context) ([]cluster.JoinCode, error)
	// RevokeJoinCode makes the code of that hash useless. NotFound: it is.
	RevokeJoinCode(ctx context.Context, hash string) error
	// Join makes this host a member, with a code from another host. It calls
	// the other host with client.Join. Conflict if the host is in a cluster.
	Join(ctx context.Context, code v1.JoinCode) error
	// Admit is the other side of Join: it checks and spends the code's secret
	// in one commit together with the new host's record. Denied: wrong, spent
	// or expired code.
	Admit(ctx context.Context, r v1.JoinRequest) (v1.JoinAnswer, error)
	// Drain has work moved off a host (on), guests shutting down within a time
	// in seconds (0: the default), or lets it take work again.
	Drain(ctx context.Context, id holdfast.HostID, on bool, guestSeconds int) error
	// RemoveHosts strikes hosts from the membership: lost ones, or such that are
	// drained and hold nothing. Conflict, with why: see placement.PlanRemoval; or
	// volumes would be unreachable that are not given up. It may be repeated.
	RemoveHosts(ctx context.Context, ids []holdfast.HostID, lost bool, giveUp []holdfast.VolumeID) error
}

// Admin is the administrator's credential, given out once by InitCluster.
type Admin struct {
	CA, Cert, Key []byte // PEM
}

// Disks is about the disks of this host.
type Disks interface {
	// AddDisk formats and takes a disk on this host. Exists: the file has other
	// content or the disk is in use. NoSpace: so much memory is not left.
	AddDisk(ctx context.Context, d NewDisk) (cluster.Disk, error)
	// EvacuateDisk has the replicas on a disk of any host moved off (on), and
	// with remove the disk given back afterwards, or lets it have replicas again.
	EvacuateDisk(ctx context.Context, id holdfast.DiskID, on, remove bool) error
	// ReplaceDisk is AddDisk on the host of a disk, which is then evacuated to
	// the new one first, and given back. Unavailable: that host is away.
	ReplaceDisk(ctx context.Context, id holdfast.DiskID, d NewDisk) (cluster.Disk, error)
}

// NewDisk is a disk to be taken: a block device or file at Path, or memory.
type NewDisk struct {
	Path string
	Size int64 // makes a file of that many bytes; 0 for a device or to take a file as it is
	RAM  int64 // or takes that many bytes of memory
	Pool cluster.Pool
}

// Pools is about pools.
type Pools interface {
	// CreatePool makes a pool of that name, tier, copies and i/o. Exists: the
	// name is taken.
	CreatePool(ctx context.Context, p cluster.Pool) (cluster.Pool, error)
	// DeletePool deletes a pool. Conflict while it holds a disk or a volume.
	DeletePool(ctx context.Context, id holdfast.PoolID) error
}

// NewKey is a cluster key as it is given: a key, or a passphrase.
type NewKey struct {
	Key        *keyring.Key
	Passphrase []byte
}

// Keys is about the cluster key.
type Keys interface {
	// InitKey gives the cluster its first key. Exists: there is one.
	InitKey(ctx context.Context, k NewKey) error
	// UnlockKey loads the key on this host. Denied: it is another one.
	UnlockKey(ctx context.Context, k NewKey) error
	// RotateKey makes another key the cluster's; wrapping anew goes on in the
	// background. Busy: that of the last rotation does. Unavailable: the key
	// to be replaced is not loaded here.
	RotateKey(ctx context.Context, k NewKey) error
}

// NewVolume is a volume to be made. Image or (Volume, Snapshot) make it a
// linked clone; Blocks may then be 0 (as large as the origin).
type NewVolume struct {
	Name        string
	Blocks      uint64
	Copies      int // 0: default (2, or as many as there are racks, at least 1)
	Min         int // 0: 1
	Durability  cluster.Durability
	Reads       cluster.Reads   // "": leased
	Pool        holdfast.PoolID // of a clone: its origin's
	Encrypt     bool
	Compression string // "" (as the origin, or off), "off", "fast", "auto"
	Limits      cluster.Limits
	Weight      int             // of its share of a disk; 0: the default
	Origin      *cluster.Origin // Snapshot zero: of an image, or of the volume as it is now
}

// Volumes is about volumes and their snapshots. Records are returned as
// committed.
type Volumes interface {
	CreateVolume(ctx context.Context, v NewVolume) (cluster.Volume, error)
	// DeleteVolume marks it deleted; space comes back in the background.
	// Conflict while attached or cloned from.
	// The keys of an encrypted volume are erased with it; with erase set it is
	// refused where that does not make it unreadable.
	DeleteVolume(ctx context.Context, id holdfast.VolumeID, erase bool) error
	GrowVolume(ctx context.Context, id holdfast.VolumeID, blocks uint64) (cluster.Volume, error)
	// MoveReplica has a replica's successor built and the replica then let go.
	MoveReplica(ctx context.Context, id holdfast.VolumeID, from, to placement.Somewhere) (goes cluster.Replica, spot placement.Spot, err error)
	// StayReplicas takes back that replicas are to move. NotFound: none is.
	StayReplicas(ctx context.Context, id holdfast.VolumeID) error
	// ChangeVolume changes a volume while it is used.
	ChangeVolume(ctx context.Context, id holdfast.VolumeID, c placement.Change) (cluster.Volume, error)
	Snapshot(ctx context.Context, id holdfast.VolumeID, name string) (cluster.Snapshot, error)
	DeleteSnapshot(ctx context.Context, id holdfast.VolumeID, snap holdfast.SnapshotID) error
	// Diff tells what differs between two roots, on the host that writes the
	// volume. NotFound if a snapshot is not there any more.
	Diff(ctx context.Context, id holdfast.VolumeID, c Comparison) (v1.Diff, error)
	// CopyOut lays a volume, a snapshot of it or a sealed image out as a file of n
	// bytes, on the host that writes it. out fails if ctx ends, and is to be closed.
	CopyOut(ctx context.Context, id holdfast.VolumeID, c CopyOut) (out io.ReadCloser, n int64, err error)
	// Verify compares the volume's copies from a place on, on the host that
	// writes it.
	Verify(ctx context.Context, id holdfast.VolumeID, from VerifyPlace) (v1.Verify, error)
	// PlanForce says what opening a volume from a stale replica would mean; it
	// asks the hosts that can be reached.
	PlanForce(ctx context.Context, id holdfast.VolumeID, from holdfast.HostID) (v1.Force, error)
	// ForceOpen makes a stale replica the only one in sync. Conflict while one in
	// sync can be reached, or may come back and f does not say that it will not.
	ForceOpen(ctx context.Context, id holdfast.VolumeID, f Force) (cluster.Volume, error)
	// AcknowledgeForce takes the mark of it off. NotFound: there is none.
	AcknowledgeForce(ctx context.Context, id holdfast.VolumeID) (cluster.Volume, error)
	// RebuildCopies does without copies, and has others built in their place.
	// Conflict if too few would be left.
	RebuildCopies(ctx context.Context, id holdfast.VolumeID, hosts []string) error
	// Revert sets the volume back to a snapshot. Conflict while a VM runs on it.
	Revert(ctx context.Context, id holdfast.VolumeID, snap holdfast.SnapshotID) error
}

// NewImage is an image to be imported.
type NewImage struct {
	Name   string
	Size   int64 // bytes; -1 if the stream's end decides
	Copies int   // as in NewVolume
	AsIs   bool  // the bytes are no disk: a kernel, an initrd
	Pool   holdfast.PoolID

	Encrypt     bool
	Compression string
}

// Images is about images.
type Images interface {
	// ImportImage reads raw bytes to the end, writes them into a new volume
	// and seals it. r fails with the reason if the client goes away, and the
	// half-made volume is then deleted. Invalid: empty, or shorter or longer
	// than Size. NoSpace: larger than what is free.
	ImportImage(ctx context.Context, n NewImage, r io.Reader) (cluster.Volume, error)
}

// NewVM is a VM to be made. At most one of Image and Volume is set; if none is,
// its boot disk is a new one of Blocks in Pool, empty.
type NewVM struct {
	Name      string
	Image     holdfast.VolumeID // its boot disk is a linked clone of this image, named like the VM
	Volume    holdfast.VolumeID // or this volume, not attached to another VM
	Blocks    uint64            // grow the clone to this; 0: as the image
	Copies    int
	CPUs      int
	MemoryMiB int
	Power     cluster.PowerState
	Priority  int
	Isolation cluster.Isolation
	Publish   []cluster.Publish
	UserData  string
	SSHKeys   []string
	Kernel    string // names of images, checked to exist
	Initrd    string
	Append    string
	Pool      holdfast.PoolID
	CDROM     holdfast.VolumeID // a sealed image, or zero
	UEFI      bool              // it has UEFI, with new variables unless Vars are some
	Vars      holdfast.VolumeID
	Boot      []string
}

// NewVMDisk is a disk that a VM is to be given: Volume, or if that is zero a
// volume to be made, of that name or one that follows from the VM's.
type NewVMDisk struct {
	Volume holdfast.VolumeID
	New    NewVolume
}

// VMs is about VMs. The power methods change desired state and return at
// once; the machine record shows what became of it.
type VMs interface {
	CreateVM(ctx context.Context, n NewVM) (cluster.VM, error)
	// ChangeVM changes what people chose. Exists: the new name is another VM's.
	ChangeVM(ctx context.Context, id holdfast.VMID, c cluster.VMChange) error
	// StartVM sets Power to on.
	StartVM(ctx context.Context, id holdfast.VMID) error
	// StopVM presses the power button and sets Power to off once the guest has
	// gone down, or ends the process at once if forced.
	StopVM(ctx context.Context, id holdfast.VMID, force bool) error
	ResetVM(ctx context.Context, id holdfast.VMID) error
	// DeleteVM removes the VM, and the disks that r says. Conflict while it
	// should run, unless forced.
	DeleteVM(ctx context.Context, id holdfast.VMID, r cluster.VMRemoval) error
	// AddVMDisk gives the VM a disk beside its boot disk: the volume, or a new one.
	// Its machine gets it at once if that can be.
	AddVMDisk(ctx context.Context, id holdfast.VMID, d NewVMDisk) error
	// RemoveVMDisk takes a disk away; the volume stays.
	RemoveVMDisk(ctx context.Context, id holdfast.VMID, volume holdfast.VolumeID) error
	// Console attaches to the VM's serial port, history first, on whichever
	// host it runs (by client.Console to that host's API if it is another).
	// Unavailable: it does not run. local refuses to go to another host, so
	// that a request is handed on once at most.
	Console(ctx context.Context, id holdfast.VMID, local bool) (io.ReadWriteCloser, error)
	// Screen attaches to the VM's screen in the same way (hypervisor.Screened).
	Screen(ctx context.Context, id holdfast.VMID, local bool) (io.ReadWriteCloser, error)
}

// Exports is about volumes made reachable over iSCSI.
type Exports interface {
	// CreateExport makes a target of volumes; nobody may log in yet. Busy: a
	// volume is a VM's disk or a unit of another export.
	CreateExport(ctx context.Context, name string, units []cluster.Unit) (cluster.Export, error)
	// DeleteExport ends it with its sessions and persistent reservations.
	DeleteExport(ctx context.Context, id holdfast.ExportID) error
	// AllowInitiator adds an initiator, or changes the one of that name. Empty
	// CHAP names stand for the initiator's and the target's.
	AllowInitiator(ctx context.Context, id holdfast.ExportID, i cluster.Initiator) (cluster.Export, error)
	// DenyInitiator removes one; its sessions end. NotFound: it is not there.
	DenyInitiator(ctx context.Context, id holdfast.ExportID, name string) (cluster.Export, error)
}
