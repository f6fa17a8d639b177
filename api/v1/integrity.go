package v1

import "time"

// Integrity is what hosts know of the bytes on their disks.
type Integrity struct {
	Disks    []DiskIntegrity    `json:"disks"`
	Replicas []ReplicaIntegrity `json:"replicas"`
	Silent   []string           `json:"silent,omitempty" doc:"Hosts that are alive and did not answer"`
}

// DiskIntegrity is how a disk's scrubbing goes.
type DiskIntegrity struct {
	Disk     string     `json:"disk"`
	Host     string     `json:"host"`
	Scrubbed *time.Time `json:"scrubbed,omitempty" doc:"When the last scrub of the whole disk began"`
	Next     *time.Time `json:"next,omitempty" doc:"When the next one is due"`
	Scrub    *Scrub     `json:"scrub,omitempty" doc:"The one under way"`
}

// Scrub is a scrub under way: every block that anything refers to is read from
// the medium and compared with the block map's hash.
type Scrub struct {
	Replica  string    `json:"replica,omitempty" doc:"The only replica that is scrubbed; absent: the whole disk"`
	Started  time.Time `json:"started"`
	Done     int64     `json:"done" doc:"Bytes"`
	Total    int64     `json:"total" doc:"Bytes, about; 0: not known yet"`
	Rate     int64     `json:"rate" doc:"Bytes a second; 0: not known yet"`
	LeftSecs int64     `json:"left_seconds" doc:"About how long it still takes; 0: not known"`
	Bad      int64     `json:"bad" doc:"Blocks that did not match their hash"`
}

// ReplicaIntegrity is what is known of the bytes of one replica.
type ReplicaIntegrity struct {
	Replica string     `json:"replica"`
	Volume  string     `json:"volume"`
	Host    string     `json:"host"`
	Disk    string     `json:"disk"`
	Proved  *time.Time `json:"proved,omitempty" doc:"When the last scrub began that found all of it good, or restored it; absent: none has yet"`
	Scrub   *Scrub     `json:"scrub,omitempty" doc:"The scrub of it that is under way"`
	Faults  []Fault    `json:"faults"`
}

// Fault is a block whose bytes did not match their hash.
type Fault struct {
	Volume  string    `json:"volume"`
	Host    string    `json:"host"`
	Disk    string    `json:"disk"`
	Replica string    `json:"replica"`
	Offset  int64     `json:"offset" doc:"Where in the volume, in bytes; it may be in a snapshot alone"`
	LSN     string    `json:"lsn"`
	Hop     string    `json:"hop" doc:"Where it was seen first, and what to suspect: 'writer: memory', 'receipt: network', 'read: disk', 'scrub: disk', 'rebuild: no copy had it'"`
	State   string    `json:"state" enum:"bad,lost,repaired,gone" doc:"lost: no copy has it; gone: overwritten or let go since"`
	Known   bool      `json:"acknowledged"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
}

// Rebuild is how a replica is being built or brought up to date.
type Rebuild struct {
	Done     float64 `json:"done" doc:"Fraction, 0 to 1, of the snapshot or the content that is copied now"`
	Total    int64   `json:"total,omitempty" doc:"Bytes that done is a fraction of, by address: less is copied where less is written; absent: not known"`
	Rate     int64   `json:"rate" doc:"Bytes a second; 0: not known yet"`
	LeftSecs int64   `json:"left_seconds" doc:"About how long it still takes; 0: not known"`
	Part     int     `json:"part,omitempty" doc:"Which of the volume's snapshots and, last, its content is copied now"`
	Parts    int     `json:"parts,omitempty" doc:"Of how many"`

	Waits     bool   `json:"waits,omitempty" doc:"It has not begun: others are before it"`
	Ahead     int    `json:"ahead,omitempty" doc:"How many, about"`
	Limit     int64  `json:"limit,omitempty" doc:"Bytes a second that it may share with other rebuilds now; absent: no limit"`
	LimitedBy string `json:"limited_by,omitempty" doc:"By what, in words: 'the foreground at its disk', 'rebuild_rate at the source's disk'"`
}
