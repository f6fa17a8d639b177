package v1

// Diff is a page of what differs between two states of a volume: its snapshots,
// its head, and nothing.
type Diff struct {
	Size    int64    `json:"size" doc:"Bytes, of the later state"`
	Extents []Extent `json:"extents" doc:"What differs, ascending; where a page ends one may go on in the next"`
	Next    int64    `json:"next,omitempty" doc:"What 'offset' of the next page is; absent: this is the last. A page may have no extent and yet not be the last"`
}

// Extent is a stretch of a volume that differs. It is made of whole blocks of
// 4096 bytes.
type Extent struct {
	Offset int64 `json:"offset" doc:"Bytes"`
	Length int64 `json:"length" doc:"Bytes"`
	Zero   bool  `json:"zero" doc:"It reads as zero in the later state"`
}
