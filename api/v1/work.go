package v1

// Work is something long that a host is at, or that waits for its turn there.
type Work struct {
	ID       string `json:"id,omitempty" doc:"Of a backup or a restore, which can be canceled by it"`
	Kind     string `json:"kind" enum:"rebuild,resync,evacuation,scrub,backup,restore" doc:"resync: only what changed since the copy was last in sync"`
	Volume   string `json:"volume,omitempty" doc:"Name; absent: it is about a whole disk"`
	VolumeID string `json:"volume_id,omitempty"`
	Host     string `json:"host" doc:"Where the copy arrives, or the disk is"`
	Disk     string `json:"disk,omitempty" doc:"HOST:PATH"`
	Copies   int    `json:"copies,omitempty" doc:"Of an evacuation: copies that still stand on the disk"`
	Bad      int64  `json:"bad,omitempty" doc:"Of a scrub: blocks that did not match their hash"`
	Rebuild
}

// Works is what hosts are at.
type Works struct {
	Work   []Work   `json:"work"`
	Silent []string `json:"silent,omitempty" doc:"Hosts that are alive and did not answer in time"`
}
