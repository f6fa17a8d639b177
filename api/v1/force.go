package v1

import "time"

// Force says what opening a volume from a stale copy would mean, or has meant.
// What it holds and what may be missing is told in LSNs, the order of all writes
// to a volume: EPOCH.NUMBER.
type Force struct {
	Volume    string       `json:"volume"`
	Size      int64        `json:"size" doc:"bytes"`
	Refused   string       `json:"refused,omitempty" doc:"Why it cannot be done, and what to do"`
	NeedsLost bool         `json:"needs_lost" doc:"It has to be said that the copies in sync will not come back"`
	From      string       `json:"from,omitempty" doc:"Host of the stale copy that it would be opened from"`
	Holds     string       `json:"holds,omitempty" doc:"LSN: all writes up to it are there, and none above"`
	Seen      string       `json:"seen,omitempty" doc:"LSN: what is known to have been written elsewhere, at least"`
	StaleFrom *time.Time   `json:"stale_from,omitempty" doc:"Since when the copy missed writes, by the clock of the host that went on without it; absent: not known"`
	LastWrite *time.Time   `json:"last_write,omitempty" doc:"Up to when others may have taken writes; absent: not known"`
	Missing   string       `json:"missing" doc:"What may be missing, in words"`
	Snapshots []string     `json:"snapshots" doc:"Snapshots that only the lost copies have"`
	Lost      []ForceLost  `json:"lost" doc:"The copies in sync, none of which can be used"`
	Stale     []ForceStale `json:"stale" doc:"The other copies"`
}

// ForceLost is a copy in sync that a forced opening does without.
type ForceLost struct {
	Host  string     `json:"host"`
	Disk  string     `json:"disk,omitempty" doc:"Path on its host"`
	Why   string     `json:"why"`
	Since *time.Time `json:"since,omitempty" doc:"When its host was lost"`
	Back  bool       `json:"may_come_back" doc:"Its content is then set aside as a volume of its own"`
}

// ForceStale is a copy that is not in sync.
type ForceStale struct {
	Host  string `json:"host"`
	Holds string `json:"holds,omitempty" doc:"LSN up to which it has all writes"`
	Unfit string `json:"unfit,omitempty" doc:"Why it cannot be used"`
}

// ForceSpec orders it.
type ForceSpec struct {
	Confirm string `json:"confirm" maxLength:"63" doc:"The volume's name: somebody has seen the plan"`
	Lost    bool   `json:"lost,omitempty" doc:"The copies in sync will not come back"`
	From    string `json:"from,omitempty" maxLength:"63" doc:"Host whose copy is used; none: that which holds most"`
	Holds   string `json:"holds,omitempty" maxLength:"32" doc:"What the plan said that the copy holds; refused if it is not so any more"`
	By      string `json:"by,omitempty" maxLength:"128" doc:"Who says so, for the record"`
}

// Forced marks a volume that was opened from a stale copy.
type Forced struct {
	At           time.Time    `json:"at"`
	By           string       `json:"by,omitempty"`
	Holds        string       `json:"holds" doc:"LSN: all writes up to it were there"`
	Seen         string       `json:"seen,omitempty" doc:"LSN: what is known to have been written elsewhere, at least"`
	StaleFrom    *time.Time   `json:"stale_from,omitempty"`
	Snapshot     string       `json:"snapshot,omitempty" doc:"The volume as it was then, before anybody wrote"`
	Snapshots    []string     `json:"lost_snapshots,omitempty"`
	Copies       []ForcedCopy `json:"copies" doc:"That it was opened without"`
	Acknowledged *time.Time   `json:"acknowledged,omitempty" doc:"Since when it is not told as a condition any more"`
}

// ForcedCopy is a copy that a volume was opened without.
type ForcedCopy struct {
	Host    string     `json:"host"`
	Volume  string     `json:"volume,omitempty" doc:"That its content was set aside as; absent: it has not come back"`
	At      *time.Time `json:"at,omitempty" doc:"When it was set aside"`
	Holds   string     `json:"holds,omitempty" doc:"LSN up to which it has all writes"`
	Blocks  int64      `json:"blocks,omitempty" doc:"Blocks of 4096 bytes that were written there and are not in the forced volume"`
	Extents []Extent   `json:"extents,omitempty" doc:"The first of these"`
	Damaged bool       `json:"damaged,omitempty"`
}
