package v1

import "time"

// VerifySpec says where a comparison of a volume's copies goes on.
type VerifySpec struct {
	From string `json:"from,omitempty" maxLength:"100" doc:"'next' of the part before; none: begin"`
}

// Verify is a part of a comparison of the in-sync copies of a volume by their
// block maps: no data is read. Every snapshot, and what the volume holds now, must
// be the same writes on all.
type Verify struct {
	Started     time.Time        `json:"started" doc:"When the comparison began"`
	Copies      []string         `json:"copies" doc:"Hosts of the copies that were compared, the writer's own first"`
	LSN         string           `json:"lsn" doc:"As of which write what the volume holds now was compared"`
	Blocks      int64            `json:"blocks" doc:"How many were compared; what a snapshot shares with the one it descends from counts once"`
	Busy        int64            `json:"busy" doc:"Blocks that were left out, as they were overwritten just then"`
	Differences []CopyDifference `json:"differences"`
	Done        float64          `json:"done" doc:"How much of the comparison is done, 0 to 1"`
	Next        string           `json:"next,omitempty" doc:"What 'from' of the next part is; absent: this is the last"`
}

// CopyDifference is a block of which not all copies hold the same, or a snapshot
// that not all have. A block that differs in a snapshot may be told again of a
// later one and of what the volume holds now.
type CopyDifference struct {
	Snapshot string     `json:"snapshot,omitempty" doc:"Name or identity; absent: what the volume holds now"`
	Offset   int64      `json:"offset" doc:"Where in the volume, in bytes"`
	Lacking  bool       `json:"lacking,omitempty" doc:"The snapshot as a whole is not on all copies, or not of one size"`
	Held     []HeldCopy `json:"held" doc:"By each of the copies"`
}

// HeldCopy is what one copy holds of a block.
type HeldCopy struct {
	Host   string `json:"host"`
	State  string `json:"state" enum:"data,zero,unwritten,kept,lacking" doc:"zero: since a write or discard said so; kept, lacking: of a snapshot"`
	LSN    string `json:"lsn,omitempty" doc:"Of the write that it is; the later one has the higher"`
	Hash   string `json:"hash,omitempty" doc:"Of what is stored, as the block map has it"`
	Volume string `json:"volume,omitempty" doc:"Identity of the volume that wrote it, where that is another one"`
	Size   int64  `json:"size,omitempty" doc:"Of the snapshot, in bytes"`
}

// VerifyResult is the whole of a comparison.
type VerifyResult struct {
	Volume      string           `json:"volume"`
	Equal       bool             `json:"equal"`
	Started     time.Time        `json:"started"`
	Copies      []string         `json:"copies" doc:"Hosts of the copies that were compared from beginning to end"`
	Left        []string         `json:"left,omitempty" doc:"Hosts whose copies were lost, or came, meanwhile"`
	Blocks      int64            `json:"blocks"`
	Busy        int64            `json:"busy"`
	Differ      int64            `json:"differ" doc:"How many differences were found"`
	Differences []CopyDifference `json:"differences" doc:"The first 1000 of them"`
	Stopped     bool             `json:"stopped,omitempty" doc:"It was given up after 10000 differences; there may be more"`
	Outvoted    []string         `json:"outvoted,omitempty" doc:"Hosts whose copies differ, in whatever differs, from more than half of all copies, which agree"`
	Repairing   []string         `json:"repairing,omitempty" doc:"Hosts whose copies were given up: others are built in their place"`
}

// RebuildSpec names copies of a volume that are not to be relied on.
type RebuildSpec struct {
	Hosts []string `json:"hosts" minItems:"1" maxItems:"8" doc:"Names"`
}

// Compared is what the last comparison of a volume's copies found.
type Compared struct {
	At     time.Time `json:"at"`
	Differ int64     `json:"differ" doc:"Blocks, and snapshots, of which not all copies hold the same; at least"`
}
