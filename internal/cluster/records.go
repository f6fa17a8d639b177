// Package cluster is the typed desired and observed state of the cluster over
// kv. It alone knows key names. A State is an immutable picture of everything
// at one revision, which planners read; changes are commits that name the
// revisions they were decided on.
package cluster

import (
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// Cluster is the one record of the cluster itself.
type Cluster struct {
	ID     holdfast.ClusterID `json:"id"`
	Name   string             `json:"name"`
	Format int                `json:"format"` // version of the records, see docs/format/cluster.md
	// Incarnation counts how often the control plane was rebuilt after its
	// majority was lost. Revisions begin anew with each; Past is the sum of those
	// of the ones before, so that what is named by a revision goes on rising.
	Incarnation int    `json:"incarnation,omitempty"`
	Past        kv.Rev `json:"past,omitempty"`
	// External: the records are in an etcd that somebody else runs, and no host
	// votes.
	External bool `json:"external,omitempty"`
}

// Host is a member computer (desired: it stays when the host is away).
type Host struct {
	ID      holdfast.HostID      `json:"id"`
	Name    string               `json:"name"`
	Domain  holdfast.FaultDomain `json:"domain"`
	Addr    string               `json:"addr"`             // transport, host:port
	APIAddr string               `json:"api_addr"`         // HTTPS API, host:port
	Peer    string               `json:"peer,omitempty"`   // etcd peer URL, if it may vote
	Client  string               `json:"client,omitempty"` // etcd client URL, likewise
	Voter   bool                 `json:"voter,omitempty"`  // should be a voting member of the control plane
	// Witness is a host that only votes: it has no disks, runs no VM and stands in a
	// rack of its own.
	Witness bool   `json:"witness,omitempty"`
	CertKey string `json:"cert_key"` // SHA-256 of its certificate's public key; only this key is let in as this host
	Drained bool   `json:"drained,omitempty"`
	// DrainSeconds is how long a guest may take to shut down when it is moved
	// off this host; 0: DefaultDrainSeconds.
	DrainSeconds int `json:"drain_seconds,omitempty"`
	// Portal is where initiators reach this host over iSCSI, host:port, and
	// PortalGroup the target portal group tag of its rack, from 1; empty and 0
	// if it has no portal.
	Portal      string `json:"portal,omitempty"`
	PortalGroup uint16 `json:"portal_group,omitempty"`
}

// Alive is what a host says of itself, kept under its lease: the key is there
// exactly while the host renews.
type Alive struct {
	Host        holdfast.HostID `json:"host"`
	Boot        holdfast.BootID `json:"boot"`
	CPUs        int             `json:"cpus"`
	MemoryMiB   int             `json:"memory_mib"`
	Accelerator string          `json:"accelerator"`        // "kvm" or "tcg"
	Sandbox     string          `json:"sandbox"`            // "full" or "reduced"
	UEFI        bool            `json:"uefi,omitempty"`     // it has firmware for VMs with UEFI
	Machines    string          `json:"machines,omitempty"` // what its machines are made of: a memory goes on where that is the same
	Version     string          `json:"version"`
	Wall        time.Time       `json:"wall"` // to notice a clock that is wrong
	Disks       []DiskUse       `json:"disks,omitempty"`
	Keys        []keyring.ID    `json:"keys,omitempty"` // of the cluster keys in its memory
	Conditions  []Condition     `json:"conditions,omitempty"`
	// Drained says that the host has noticed that it is drained and has handed over
	// what it could; Writes are then the volumes that initiators still write by way
	// of it.
	Drained bool                `json:"drained,omitempty"`
	Tasks   int                 `json:"tasks,omitempty"` // backups and restores under way; which, the host tells who asks
	Writes  []holdfast.VolumeID `json:"writes,omitempty"`
}

// DiskUse is the observed state of one disk.
type DiskUse struct {
	Disk  holdfast.DiskID `json:"disk"`
	Total int64           `json:"total"` // bytes
	Free  int64           `json:"free"`
	Full  bool            `json:"full,omitempty"`  // only its reserve is left, by its own rules: writers stall
	Error string          `json:"error,omitempty"` // why it is not in use
	// Scrubs says that a scrub is under way; how it goes the host tells who asks.
	Scrubs bool `json:"scrubs,omitempty"`

	// Since the host opened the disk, bytes written to it per byte of its volumes;
	// of that, MapAmp is pages of block maps.
	WriteAmp float64 `json:"write_amp,omitempty"`
	MapAmp   float64 `json:"map_amp,omitempty"`
}

// Condition is something wrong that a person should know, with its cause.
type Condition struct {
	ID       string    `json:"id"`       // stable, e.g. "volume-degraded/db1"
	Severity string    `json:"severity"` // "info", "warning", "error"
	Text     string    `json:"text"`
	Since    time.Time `json:"since"`
}

// Disk is a disk given to Holdfast.
type Disk struct {
	ID   holdfast.DiskID `json:"id"`
	Host holdfast.HostID `json:"host"`
	Path string          `json:"path"`
	Size int64           `json:"size"`          // bytes
	Pool holdfast.PoolID `json:"pool,omitzero"` // zero: the default pool
	// RAM says that the disk is memory of its host: it goes with the process,
	// and what comes after it is another disk, with another identity.
	RAM bool `json:"ram,omitempty"`
	// Evacuate has the replicas on it built elsewhere and then let go; none is
	// placed on it any more.
	Evacuate bool `json:"evacuate,omitempty"`
	// Remove has its host give it back once no volume needs it; Evacuate is set.
	Remove bool `json:"remove,omitempty"`
	// Successor is the disk that its replicas go to first.
	Successor holdfast.DiskID `json:"successor,omitzero"`
}

// Replica is one copy of a volume.
type Replica struct {
	ID   holdfast.ReplicaID `json:"id"`
	Host holdfast.HostID    `json:"host"`
	Disk holdfast.DiskID    `json:"disk"`
}

// Durability says when a write may be acknowledged.
type Durability string

// The durabilities.
const (
	OnFlush Durability = "flush"  // in memory on all in-sync replicas; on disk at FLUSH and FUA
	Always  Durability = "always" // on disk on all, for initiators that never flush
)

// Reads says what a read is served under.
type Reads string

// What reads may be served under.
const (
	Leased    Reads = "leased"    // the leases of all in-sync replicas: no question is asked, clocks' rates are trusted
	Confirmed Reads = "confirmed" // an answer of each, to a question that was sent after the read came: no clock is trusted
)

// Volume is the record of one volume: the only authority on who may write and
// which replicas must acknowledge. It is changed only by compare-and-commit.
type Volume struct {
	ID         holdfast.VolumeID `json:"id"`
	Name       string            `json:"name"`
	Blocks     uint64            `json:"blocks"`        // size in 4 KiB blocks
	Pool       holdfast.PoolID   `json:"pool,omitzero"` // whose disks hold its replicas; a clone's is its origin's
	Copies     int               `json:"copies"`
	Min        int               `json:"min"` // fewest in-sync replicas that may acknowledge
	Durability Durability        `json:"durability"`
	Reads      Reads             `json:"reads,omitempty"` // "": leased

	Epoch      holdfast.Epoch  `json:"epoch"`            // of the last opening or cut
	Writer     holdfast.HostID `json:"writer"`           // zero: nobody may write
	Generation uint32          `json:"cache_generation"` // rises when no in-sync member kept its memory
	InSync     []Replica       `json:"in_sync"`
	Others     []Replica       `json:"others,omitempty"`  // assigned, stale or being built; not in the in-sync set
	Ejected    []Ejected       `json:"ejected,omitempty"` // since when, of those of Others that were in sync
	// Moving are replicas that somebody wants elsewhere: they go when others
	// are in sync in their place.
	Moving []holdfast.ReplicaID `json:"moving,omitempty"`
	// Release is what the writer is to let go of now.
	Release *Release `json:"release,omitempty"`

	Image  bool `json:"image,omitempty"`  // immutable, may be cloned
	Sealed bool `json:"sealed,omitempty"` // an image whose import is complete
	// Importer is the host that imports an image that is not sealed, and
	// ImporterBoot its life in which it does: with that the import ends.
	Importer     holdfast.HostID `json:"importer,omitzero"`
	ImporterBoot holdfast.BootID `json:"importer_boot,omitzero"`
	Deleted      bool            `json:"deleted,omitempty"` // being removed; the record goes when its replicas are gone

	// Compression is "" (off), "fast" or "auto", of what is written from now on.
	Compression string `json:"compression,omitempty"`
	// Keys are the wrapped data keys under which blocks of an encrypted volume
	// are sealed: its own first, then those of what it was cloned from, which
	// it keeps whatever becomes of that.
	Keys []keyring.Wrapped `json:"keys,omitempty"`

	Limits Limits `json:"limits,omitzero"` // of what its initiators get of it
	// Shared lets several clients write it at a time, at the host that writes it.
	// A VM's disk never is.
	Shared bool `json:"shared,omitempty"`
	Weight int  `json:"weight,omitempty"` // of its share of a disk while others want it too; 0: fair.DefaultWeight

	// Compared is what the last comparison of its replicas found; nil: there was
	// none, or what it found was done without.
	Compared *Compared `json:"compared,omitempty"`

	// Forced says that it was opened from a stale replica; nil: it never was.
	Forced *Forced `json:"forced,omitempty"`

	Origin    *Origin       `json:"origin,omitempty"` // of a linked clone
	Snapshots []Snapshot    `json:"-"`                // kept in pages beside the record; in the order of their making
	VM        holdfast.VMID `json:"vm,omitempty"`     // attached to
	Created   time.Time     `json:"created"`
}

// Compared is the outcome of a comparison of a volume's in-sync replicas.
type Compared struct {
	At     time.Time `json:"at"`               // when it began
	Differ uint64    `json:"differ,omitempty"` // blocks, and snapshots, of which not all replicas hold the same; at least
}

// Release lets replicas out of the in-sync set that are not needed. It holds as
// long as all of Keep are in sync: a loss in the meantime takes it back.
type Release struct {
	Go   []holdfast.ReplicaID `json:"go"`
	Keep []holdfast.ReplicaID `json:"keep"`
}

// Tidy forgets of a volume's replicas that are to move, and of those that were
// ejected, those that it no longer has. The record's own lists are not changed.
func (v *Volume) Tidy() {
	var left []holdfast.ReplicaID
	for _, list := range [][]Replica{v.InSync, v.Others} {
		for _, r := range list {
			if slices.Contains(v.Moving, r.ID) {
				left = append(left, r.ID)
			}
		}
	}
	v.Moving = left
	v.tidyEjected()
}

// Encrypted reports whether the volume's blocks are sealed.
func (v *Volume) Encrypted() bool { return len(v.Keys) > 0 }

// Origin says what a linked clone was made from.
type Origin struct {
	Volume   holdfast.VolumeID   `json:"volume"`
	Snapshot holdfast.SnapshotID `json:"snapshot"`
}

// Snapshot is a kept root of a volume.
type Snapshot struct {
	ID      holdfast.SnapshotID `json:"id"`
	Name    string              `json:"name"`
	LSN     holdfast.LSN        `json:"lsn"`
	Hidden  bool                `json:"hidden,omitempty"` // deleted, kept while clones need it
	Created time.Time           `json:"created"`
	// Group is what it was made together with, at one point, and GroupSize how
	// many volumes these were; zero of a snapshot that was made alone.
	Group     holdfast.GroupID `json:"group,omitzero"`
	GroupSize int              `json:"group_size,omitempty"`
}

// PowerState is what a VM should be doing.
type PowerState string

// The desired power states.
const (
	On      PowerState = "on"
	Stopped PowerState = "off"
)

// Isolation is what a host that is cut off does with a VM.
type Isolation string

// The isolation responses.
const (
	IsolationPause Isolation = "pause"
	IsolationOff   Isolation = "off"
	IsolationLeave Isolation = "leave"
)

// VM is a desired machine.
type VM struct {
	ID        holdfast.VMID     `json:"id"`
	Name      string            `json:"name"`
	CPUs      int               `json:"cpus"`
	MemoryMiB int               `json:"memory_mib"`
	Volume    holdfast.VolumeID `json:"volume"`          // boot disk
	Disks     []VMDisk          `json:"disks,omitempty"` // the others, by slot
	Power     PowerState        `json:"power"`
	Priority  int               `json:"priority"` // 0 low, 1 normal, 2 high: restart order
	Isolation Isolation         `json:"isolation"`
	Publish   []Publish         `json:"publish,omitempty"`
	UserData  string            `json:"user_data,omitempty"` // cloud-init
	SSHKeys   []string          `json:"ssh_keys,omitempty"`
	Kernel    string            `json:"kernel,omitempty"` // direct boot: names of images
	Initrd    string            `json:"initrd,omitempty"`
	Append    string            `json:"append,omitempty"`
	Vars      holdfast.VolumeID `json:"vars,omitzero"`  // where its UEFI keeps its variables; zero: it has a BIOS
	CDROM     holdfast.VolumeID `json:"cdrom,omitzero"` // the image in its CD-ROM drive
	Boot      []string          `json:"boot,omitempty"` // what it is started from, in order; empty: see BootOrder
	MAC       string            `json:"mac"`
	Created   time.Time         `json:"created"`
	Deleted   bool              `json:"deleted,omitempty"`

	// Assignment: which host should run it. Generation rises with every
	// assignment, so that a machine of an older one knows it is stale.
	Host       holdfast.HostID `json:"host"`
	Generation int64           `json:"generation"`
	// Request counters: the agent that runs the VM acts when one exceeds what
	// the machine record says it has done.
	Shutdowns int64 `json:"shutdowns,omitempty"` // ACPI power button
	Resets    int64 `json:"resets,omitempty"`
	// Leave is the generation at which the VM is to be given up by its host:
	// that has the guest shut down and reports the machine off, whereupon the
	// VM is assigned elsewhere. Of another generation it means nothing.
	Leave int64 `json:"leave,omitempty"`
	// Came says how the VM came to its host, for people, if it was moved.
	Came string `json:"came,omitempty"`
	// Edition rises with every change of what a machine is only told when it is
	// started: user data, keys, kernel.
	Edition int64 `json:"edition,omitempty"`

	Snapshots []VMSnapshot `json:"snapshots,omitempty"` // in the order of their making
	// Reverting is the snapshot that the VM is being set back to: its disks may
	// be of different points until that is done, and it is not started.
	Reverting holdfast.GroupID `json:"reverting,omitzero"`
	// Keeping says that its memory is being kept, nil: it is not.
	Keeping *Keeping `json:"keeping,omitempty"`
	// Wake is the snapshot whose memory its next machine goes on with. It is taken
	// back before that runs: of a memory there is one use with these disks.
	Wake holdfast.GroupID `json:"wake,omitzero"`
}

// Leaving reports whether the VM is on its way off its host.
func (v *VM) Leaving() bool {
	return v.Leave != 0 && v.Leave == v.Generation && v.Power == On && !v.Deleted
}

// DefaultDrainSeconds is how long a guest may take to shut down when it is
// moved, if nobody said otherwise; MaxDrainSeconds is the longest.
const (
	DefaultDrainSeconds = 60
	MaxDrainSeconds     = 24 * 3600
)

// Publish makes a guest's TCP port reachable at an address of every host.
type Publish struct {
	Addr      string `json:"addr,omitempty"` // empty: each host's own loopback address
	Port      int    `json:"port"`
	GuestPort int    `json:"guest_port"`
}

// Machine is the observed state of a VM's process, written by the host that
// runs it.
type Machine struct {
	VM         holdfast.VMID   `json:"vm"`
	Host       holdfast.HostID `json:"host"`
	Generation int64           `json:"generation"`
	Epoch      holdfast.Epoch  `json:"epoch"`
	State      string          `json:"state"`            // hypervisor.State, or "starting", "failed"
	Reason     string          `json:"reason,omitempty"` // why it is not running
	Since      time.Time       `json:"since"`
	PID        int             `json:"pid,omitempty"`
	Shutdowns  int64           `json:"shutdowns,omitempty"`
	Resets     int64           `json:"resets,omitempty"`
	// What the process was started with, while there is one: the VM may have been
	// changed since.
	CPUs      int   `json:"cpus,omitempty"`
	MemoryMiB int   `json:"memory_mib,omitempty"`
	Edition   int64 `json:"edition,omitempty"`
	// Disks are the volumes that the process has now, and CDROM is what lies in
	// its drive.
	Disks []holdfast.VolumeID `json:"disks,omitempty"`
	CDROM holdfast.VolumeID   `json:"cdrom,omitzero"`
	Kept  *Kept               `json:"kept,omitempty"` // how it is with its memory, while the VM's record asks
}

// JoinCode admits one host, once. Only its hash is stored.
type JoinCode struct {
	Hash    string     `json:"hash"` // SHA-256 of the secret
	Rack    string     `json:"rack,omitempty"`
	Lease   kv.LeaseID `json:"lease"` // the code's hour is counted by kv, not by calendars
	Created time.Time  `json:"created"`
}

// Incident is the loss of one or more hosts seen as one, with what was done.
type Incident struct {
	ID     string            `json:"id"`
	Racks  []string          `json:"racks,omitempty"` // racks lost whole
	Hosts  []holdfast.HostID `json:"hosts"`
	Opened time.Time         `json:"opened"`
	Closed *time.Time        `json:"closed,omitempty"`
	Steps  []Step            `json:"steps"`
}

// Step is one entry of an incident's timeline.
type Step struct {
	At   time.Time `json:"at"`
	What string    `json:"what"` // "lost", "cut", "plan", "assigned", "running", "mended", …
	Text string    `json:"text"`
}

// State is an immutable picture of the cluster at one revision. Maps are
// shared: readers never change them, and ranges over them are sorted by the
// Sorted… methods wherever order matters.
type State struct {
	Rev       kv.Rev
	Cluster   Cluster
	Hosts     map[holdfast.HostID]Versioned[Host]
	Alive     map[holdfast.HostID]Versioned[Alive]
	Disks     map[holdfast.DiskID]Versioned[Disk]
	Pools     map[holdfast.PoolID]Versioned[Pool] // without the default pool, see Pool
	Volumes   map[holdfast.VolumeID]Versioned[Volume]
	VMs       map[holdfast.VMID]Versioned[VM]
	Machines  map[holdfast.VMID]Versioned[Machine]
	Incidents map[string]Versioned[Incident]
	Schedules map[string]Versioned[BackupSchedule] // by name
	Exports   map[holdfast.ExportID]Versioned[Export]
	Serving   map[holdfast.ExportID]Versioned[Serving]
	Keyring   Versioned[keyring.Record] // Mod zero: there is no cluster key
	Moved     *Move                     // this control plane has ended by it; nil: it goes on
	Leader    holdfast.HostID           // elected reconciler; zero if none
	// LeaderMod is the revision of the election and LeaderLease the lease that
	// it holds under.
	LeaderMod   kv.Rev
	LeaderLease kv.LeaseID
	// Bad are the records that cannot be read, by key, with why. The picture
	// holds the last readable version of such a record, or none: whoever would
	// take the absence of a record as leave to delete something must see that
	// Bad is empty first.
	Bad map[string]string

	pages map[holdfast.VolumeID]pages // of snapshots
}

// Versioned is a record with the revision of its last change, for conditions.
type Versioned[T any] struct {
	Mod kv.Rev
	Val T
}
