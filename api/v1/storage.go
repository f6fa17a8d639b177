package v1

import "time"

// DiskSpec gives a disk of the answering host to the cluster.
type DiskSpec struct {
	Path string `json:"path,omitempty" maxLength:"4096" doc:"Absolute path of a block device or file"`
	Size int64  `json:"size,omitempty" minimum:"0" doc:"Make a file of this size; 0 for a device or an existing file"`
	RAM  int64  `json:"ram,omitempty" minimum:"0" doc:"Make a disk of this size in the memory of the host instead, without a path; it is lost when the host's process ends"`
	Pool string `json:"pool,omitempty" maxLength:"63" doc:"Pool that it belongs to; none: default"`
}

// PoolSpec asks for a pool.
type PoolSpec struct {
	Name   string `json:"name" maxLength:"63"`
	Tier   string `json:"tier" enum:"ram,ssd,hdd" doc:"ram: disks in the memory of the hosts; ssd, hdd: what the disks are"`
	Copies int    `json:"copies,omitempty" minimum:"0" maximum:"8" doc:"Copies of its volumes that do not say; 0: as everywhere"`
	IO     string `json:"io,omitempty" enum:"mixed,cached,direct" doc:"What goes through the host's page cache: mixed, reads only (the default); cached, all; direct, nothing"`
}

// Pool is disks of one policy.
type Pool struct {
	ID      string     `json:"id,omitempty" doc:"None for the default pool"`
	Name    string     `json:"name"`
	Tier    string     `json:"tier" enum:"any,ram,ssd,hdd" doc:"any: of the default pool, which takes what it is given"`
	Copies  int        `json:"copies,omitempty" doc:"Copies of its volumes that do not say; none: as everywhere"`
	IO      string     `json:"io,omitempty" enum:"mixed,cached,direct"`
	State   string     `json:"state" enum:"ok,deleting"`
	Flush   string     `json:"flush" doc:"What a flush of its volumes means"`
	Racks   []string   `json:"racks" doc:"In which it has disks"`
	Disks   int        `json:"disks"`
	Volumes int        `json:"volumes" doc:"Images included"`
	Total   int64      `json:"total" doc:"Bytes of the disks that are in use now"`
	Free    int64      `json:"free"`
	Created *time.Time `json:"created,omitempty"`
}

// Disk is a disk given to the cluster.
type Disk struct {
	ID    string `json:"id"`
	Host  string `json:"host"`
	Rack  string `json:"rack"`
	Path  string `json:"path"`
	Size  int64  `json:"size"`
	State string `json:"state" enum:"in use,away,failed,starting,evacuating,evacuated" doc:"evacuating: what stands on it is moved off; evacuated: nothing stands on it, and nothing is put there"`
	Free  int64  `json:"free"`
	Error string `json:"error,omitempty"`
	Pool  string `json:"pool"`
	RAM   bool   `json:"ram,omitempty" doc:"It is memory of its host"`

	WriteAmplification float64 `json:"write_amplification,omitempty" doc:"Bytes written to the disk per byte of its volumes, since its host opened it"`
	MapAmplification   float64 `json:"map_amplification,omitempty" doc:"Of that, what was written of block maps"`

	Scrubbed *time.Time `json:"scrubbed,omitempty" doc:"When the last scrub of all of it began; only where disks are listed"`
	Scrub    *Scrub     `json:"scrub,omitempty" doc:"The scrub under way; likewise"`
}

// EvacuationSpec says whether a disk may have copies of volumes.
type EvacuationSpec struct {
	On     bool `json:"on" doc:"true: move what stands on it off; false: let it have copies again"`
	Remove bool `json:"remove,omitempty" doc:"Give the disk back once nothing stands on it"`
}

// Evacuation is how far the evacuation of a disk has come, or for one that is not
// evacuated what it would do.
type Evacuation struct {
	Disk       string      `json:"disk" doc:"HOST:PATH"`
	ID         string      `json:"id"`
	Evacuating bool        `json:"evacuating"`
	Remove     bool        `json:"remove" doc:"It is given back once nothing stands on it"`
	Moves      []Departure `json:"moves" doc:"What stands on it, in the order of its going"`
}

// Departure is one volume's copy on its way off a disk.
type Departure struct {
	Volume string `json:"volume"`
	Size   int64  `json:"size" doc:"Of the volume, in bytes; less is copied where less is written"`
	Stage  string `json:"stage" enum:"waiting,copying,letting go,stays" doc:"stays: there is no place for it, and it goes on where it is"`
	To     string `json:"to,omitempty" doc:"HOST:PATH"`
	Why    string `json:"why,omitempty" doc:"Why there, or why nowhere"`
	Done   int    `json:"done_percent,omitempty" doc:"How much has been copied, where it is known"`
}

// VolumeMoveSpec has a copy of a volume built elsewhere and then let go where it is.
type VolumeMoveSpec struct {
	From string `json:"from,omitempty" maxLength:"4200" doc:"HOST, HOST/PATH or a disk's identity"`
	To   string `json:"to,omitempty" maxLength:"4200" doc:"Likewise; empty: wherever is best"`
	Stop bool   `json:"stop,omitempty" doc:"Take back that copies of the volume are to move"`
	Plan bool   `json:"plan,omitempty" doc:"Only say where it would go"`
}

// VolumeMove is a move that was begun, or would be.
type VolumeMove struct {
	Volume string `json:"volume"`
	From   string `json:"from" doc:"HOST:PATH"`
	To     string `json:"to" doc:"HOST:PATH"`
	Why    string `json:"why"`
}

// VolumeSet changes a volume while it is used. What is absent stays.
type VolumeSet struct {
	Copies     *int    `json:"copies,omitempty" minimum:"1" maximum:"8"`
	Min        *int    `json:"min,omitempty" minimum:"1" maximum:"8"`
	Durability *string `json:"durability,omitempty" enum:"flush,always"`
	Reads      *string `json:"reads,omitempty" enum:"leased,confirmed" doc:"What a read is served under: leases, or an answer of every in-sync copy each time, which trusts no clock"`
	IOPS       *int    `json:"iops,omitempty" minimum:"0" doc:"Limit, operations a second; 0: none"`
	MBps       *int    `json:"mbps,omitempty" minimum:"0" doc:"Limit, megabytes (10^6 bytes) a second; 0: none"`
	BurstMS    *int    `json:"burst_ms,omitempty" minimum:"0" doc:"How much a volume that is used less saves up, as milliseconds at its limits; 0: 100"`
	Shared     *bool   `json:"shared,omitempty" doc:"Let several NBD clients write it at a time, at the host that writes it; never a VM's disk"`
	Weight     *int    `json:"weight,omitempty" minimum:"0" maximum:"1000" doc:"Of its share of a disk while others want it too; 0: 100"`
	Plan       bool    `json:"plan,omitempty" doc:"Only say what it would lead to"`
}

// VolumeChanged is a volume after a change, or as it is if that was only planned.
type VolumeChanged struct {
	Volume Volume   `json:"volume"`
	Steps  []string `json:"steps" doc:"What the change leads to, in words"`
}

// VolumeSpec asks for a volume, empty or a linked clone.
type VolumeSpec struct {
	Name       string `json:"name" maxLength:"63"`
	Size       int64  `json:"size,omitempty" minimum:"0" doc:"Bytes, a multiple of 4096; may be 0 for a clone"`
	Copies     int    `json:"copies,omitempty" minimum:"0" maximum:"8" doc:"Replicas in distinct racks; 0: default"`
	Min        int    `json:"min,omitempty" minimum:"0" maximum:"8" doc:"Fewest in-sync copies that may take writes; 0: 1"`
	Durability string `json:"durability,omitempty" enum:"flush,always"`
	Reads      string `json:"reads,omitempty" enum:"leased,confirmed" doc:"What a read is served under: leases (none), or an answer of every in-sync copy each time, which trusts no clock"`
	Pool       string `json:"pool,omitempty" maxLength:"63" doc:"Pool whose disks hold it; none: default, or that of what it is cloned from"`
	Encrypt    bool   `json:"encrypt,omitempty" doc:"Seal its blocks under a key of its own, before they leave the writer's host; a clone of an encrypted volume always is"`
	Compress   string `json:"compress,omitempty" enum:"off,fast,auto" doc:"Compress its blocks; none: off, or as what it is cloned from"`
	IOPS       int    `json:"iops,omitempty" minimum:"0" doc:"Limit, operations a second; 0: none"`
	MBps       int    `json:"mbps,omitempty" minimum:"0" doc:"Limit, megabytes (10^6 bytes) a second; 0: none"`
	BurstMS    int    `json:"burst_ms,omitempty" minimum:"0" doc:"How much it saves up when it is used less, as milliseconds at its limits; 0: 100"`
	Weight     int    `json:"weight,omitempty" minimum:"0" maximum:"1000" doc:"Of its share of a disk while others want it too: 200 gets twice as much as 100; 0: 100"`
	From       string `json:"from,omitempty" maxLength:"63" doc:"Clone of this image or volume"`
	Snapshot   string `json:"snapshot,omitempty" maxLength:"63" doc:"Clone of this snapshot of it"`
}

// Volume is a virtual disk.
type Volume struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Size       int64     `json:"size"`
	State      string    `json:"state" enum:"ok,degraded,unavailable,locked,lost,importing,deleting" doc:"locked: it is encrypted, and no living host has the cluster key"`
	Copies     int       `json:"copies"`
	Min        int       `json:"min"`
	Durability string    `json:"durability"`
	Reads      string    `json:"reads" enum:"leased,confirmed" doc:"What a read is served under: leases, or an answer of every in-sync copy each time, which trusts no clock"`
	Pool       string    `json:"pool"`
	Encrypted  bool      `json:"encrypted"`
	Key        string    `json:"key,omitempty" doc:"Name of the cluster key that its data key is wrapped with"`
	Compress   string    `json:"compress" enum:"off,fast,auto"`
	Flush      string    `json:"flush" doc:"What a flush means: on disk, or in memory, of every in-sync copy"`
	IOPS       int       `json:"iops,omitempty" doc:"Limit of operations a second; none: no limit"`
	MBps       int       `json:"mbps,omitempty" doc:"Limit of megabytes (10^6 bytes) a second; none: no limit"`
	BurstMS    int       `json:"burst_ms,omitempty" doc:"How much it saves up when it is used less, as milliseconds at its limits; none: 100"`
	Shared     bool      `json:"shared,omitempty" doc:"Several NBD clients may write it at a time, at the host that writes it"`
	Weight     int       `json:"weight" doc:"Of its share of a disk while others want it too"`
	Delayed    int64     `json:"delayed,omitempty" doc:"Requests that waited for its limits since its writer opened it; only where one volume is shown"`
	Image      bool      `json:"image"`
	Epoch      uint32    `json:"epoch"`
	Writer     string    `json:"writer,omitempty" doc:"Host that may write"`
	Generation uint32    `json:"cache_generation"`
	Replicas   []Replica `json:"replicas"`
	Origin     string    `json:"origin,omitempty" doc:"Image or volume, with @snapshot, that it is a clone of"`
	Snapshots  int       `json:"snapshots" doc:"How many it has; they are listed by a call of their own"`
	VM         string    `json:"vm,omitempty"`
	Import     *float64  `json:"import,omitempty" doc:"How far the import of an image is, 0 to 1, if that is known; only where one image is shown"`
	Created    time.Time `json:"created"`

	Forced *Forced `json:"forced,omitempty" doc:"It was opened from a stale copy: what was flushed before may be missing"`

	Compared *Compared `json:"compared,omitempty" doc:"What the last comparison of its copies found; absent: there was none"`
}

// Replica is one host's copy of a volume.
type Replica struct {
	ID     string `json:"id"`
	Host   string `json:"host"`
	Rack   string `json:"rack"`
	Disk   string `json:"disk"`
	InSync bool   `json:"in_sync"`
	Alive  bool   `json:"alive" doc:"Its host is alive and uses its disk"`
	Path   string `json:"path,omitempty" doc:"Of its disk on the host"`
	Going  bool   `json:"going,omitempty" doc:"Another is built in its place, and then it goes"`

	Proved *time.Time `json:"proved,omitempty" doc:"When the last scrub began that found all of it good; only where one volume is shown"`
	Scrub  *Scrub     `json:"scrub,omitempty" doc:"The scrub of it that is under way; likewise"`
	Bad    int        `json:"bad,omitempty" doc:"Blocks that do not match their hash now; likewise"`

	Rebuild *Rebuild `json:"rebuild,omitempty" doc:"How it is being built or brought up to date; likewise"`
}

// SnapshotSpec names a snapshot to be taken.
type SnapshotSpec struct {
	Name string `json:"name" maxLength:"63"`
}

// Snapshot is a kept root of a volume.
type Snapshot struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	LSN     string    `json:"lsn"`
	Created time.Time `json:"created"`
	Group   string    `json:"group,omitempty" doc:"Identity of the group that it was made with, at one point"`
}

// SnapshotList is a page of a volume's snapshots, in the order of their making.
type SnapshotList struct {
	Snapshots []Snapshot `json:"snapshots"`
	Total     int        `json:"total" doc:"How many the volume has"`
	Next      string     `json:"next,omitempty" doc:"What 'after' of the next page is; absent: this is the last"`
}

// RevertSpec sets a volume back to a snapshot.
type RevertSpec struct {
	Snapshot string `json:"snapshot" maxLength:"63"`
}

// GrowSpec makes a volume larger.
type GrowSpec struct {
	Size int64 `json:"size" minimum:"4096" doc:"New size in bytes, a multiple of 4096"`
}

// Activity is a volume's counters since its writer opened it.
type Activity struct {
	Host         string  `json:"host" doc:"Where it is open"`
	Epoch        uint32  `json:"epoch"`
	ReadBytes    int64   `json:"read_bytes"`
	WrittenBytes int64   `json:"written_bytes"`
	Flushes      int64   `json:"flushes"`
	Delayed      int64   `json:"delayed" doc:"Requests that waited for the volume's limits"`
	ResentBytes  int64   `json:"resent_bytes" doc:"Sent again to bring stale or new replicas up to date"`
	Resync       string  `json:"resync,omitempty" doc:"What is being rebuilt now, in words"`
	ResyncDone   float64 `json:"resync_done" doc:"Fraction, 0 to 1, of the snapshot or the content that is copied now"`

	ResyncHost      string `json:"resync_host,omitempty" doc:"Whose replica it is"`
	ResyncRate      int64  `json:"resync_rate,omitempty" doc:"Bytes a second"`
	ResyncWaits     bool   `json:"resync_waits,omitempty" doc:"It has not begun: others are before it"`
	ResyncAhead     int    `json:"resync_ahead,omitempty" doc:"How many, about"`
	ResyncLimit     int64  `json:"resync_limit,omitempty" doc:"Bytes a second that it may share with other rebuilds now; absent: no limit"`
	ResyncLimitedBy string `json:"resync_limited_by,omitempty" doc:"By what, in words"`
	ResyncLeftSecs  int64  `json:"resync_left_seconds,omitempty" doc:"About how long it still takes"`
}
