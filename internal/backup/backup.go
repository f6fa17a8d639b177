// Package backup reads and writes backup files (docs/format/backup.md): volumes
// as they were at a snapshot, whole or as the difference to an earlier one, and
// the records of a cluster. It knows files and streams, and nothing of how a
// volume is read or written. Every part of a file vouches for itself and all
// before it, and none is handed out before its hash was compared.
package backup

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Version is of the format that this build writes, and the highest it reads.
const Version = 2

// The kinds of a file.
const (
	Volume  = "volume"
	Cluster = "cluster"
)

// Header describes a file.
type Header struct {
	Kind     string     `json:"kind"`
	ID       string     `json:"id"`
	Created  time.Time  `json:"created"` // the point in time that it holds
	Cluster  ClusterRef `json:"cluster"`
	Volume   *VolumeRef `json:"volume,omitempty"`
	Snapshot *PointRef  `json:"snapshot,omitempty"`
	Base     *PointRef  `json:"base,omitempty"` // nil: all that the volume held
	Group    *GroupRef  `json:"group,omitempty"`
	Bundle   *BundleRef `json:"bundle,omitempty"`   // nil: it is one of a directory
	Revision int64      `json:"revision,omitempty"` // of a cluster's records
	Expect   int64      `json:"expect,omitempty"`   // bytes of data to come, for display
	Sealed   bool       `json:"sealed,omitempty"`
}

// ClusterRef names a cluster.
type ClusterRef struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// VolumeRef describes a volume as it was.
type VolumeRef struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Size       int64  `json:"size"` // bytes, whole blocks
	Copies     int    `json:"copies,omitempty"`
	Pool       string `json:"pool,omitempty"`
	Durability string `json:"durability,omitempty"`
	Reads      string `json:"reads,omitempty"`
	Compress   string `json:"compress,omitempty"`
	Encrypted  bool   `json:"encrypted,omitempty"`
}

// PointRef names a snapshot.
type PointRef struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	LSN  string `json:"lsn"`
	Kept bool   `json:"kept,omitempty"` // made for this file
}

// GroupRef names what was backed up at the same point.
type GroupRef struct {
	ID      string   `json:"id"`
	Volumes []string `json:"volumes"`
}

// BundleRef says that a backup was made to a file or pipe of its own, which may
// hold several, one behind the other.
type BundleRef struct {
	N  int `json:"n"` // of this one, from 1
	Of int `json:"of"`
}

// maxBundle bounds how many there are.
const maxBundle = 1024

// more is how many stand behind this one in its file.
func (h *Header) more() int {
	if h.Bundle == nil {
		return 0
	}
	return h.Bundle.Of - h.Bundle.N
}

// Full reports whether a file stands by itself.
func (h *Header) Full() bool { return h.Base == nil }

// Blocks is the size of the volume in blocks.
func (h *Header) Blocks() uint64 {
	if h.Volume == nil {
		return 0
	}
	return uint64(h.Volume.Size) / holdfast.BlockSize
}

// LSN is that of the snapshot; zero if there is none.
func (h *Header) LSN() holdfast.LSN {
	if h.Snapshot == nil {
		return 0
	}
	epoch, counter, _ := strings.Cut(h.Snapshot.LSN, ".")
	e, err := strconv.ParseUint(epoch, 10, 64)
	n, cerr := strconv.ParseUint(counter, 10, 64)
	if err != nil || cerr != nil || e > uint64(holdfast.MaxEpoch) || n > holdfast.MaxCounter {
		return 0
	}
	return holdfast.MakeLSN(holdfast.Epoch(e), n)
}

// check refuses a description that no file may have.
func (h *Header) check() error {
	bad := func(what string) error {
		return holdfast.Errorf(holdfast.Invalid, "the backup's description %s; it was not written by Holdfast", what)
	}
	if _, err := holdfast.ParseUUID(h.ID); err != nil {
		return bad("has no identity")
	}
	if b := h.Bundle; b != nil && (b.N < 1 || b.Of < b.N || b.Of > maxBundle) {
		return bad("has a place among others that none may have")
	}
	switch {
	case h.Kind == Cluster && h.Volume == nil && h.Snapshot == nil && h.Base == nil:
		return nil
	case h.Kind != Volume:
		return bad("is of an unknown kind")
	case h.Volume == nil || h.Snapshot == nil || h.Snapshot.ID == "" || h.Volume.ID == "":
		return bad("does not say of which volume and snapshot it is")
	case holdfast.CheckName("volume", h.Volume.Name) != nil || holdfast.CheckName("snapshot", h.Snapshot.Name) != nil:
		return bad("has a name that no volume or snapshot may have")
	case h.Volume.Size <= 0 || h.Volume.Size%holdfast.BlockSize != 0 || h.Volume.Size/holdfast.BlockSize > holdfast.MaxVolumeBlocks:
		return bad("has a size that no volume may have")
	case h.Base != nil && h.Base.ID == "":
		return bad("does not say what it is the difference to")
	}
	return nil
}

// encode lays the header out as it stands in a file.
func (h *Header) encode() ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(h)
	if err != nil || len(text) > maxDescription {
		return nil, holdfast.Errorf(holdfast.Invalid, "the backup's description cannot be written: %d bytes, %v", len(text), err)
	}
	return frameHeader(text), nil
}

// Extent is a run of blocks of a volume.
type Extent struct {
	Addr, Blocks uint64
	Zero         bool // it reads as zero; there is no data
}

// End is the block behind it.
func (e Extent) End() uint64 { return e.Addr + e.Blocks }

// Totals are what the end of a file counts.
type Totals struct {
	Parts   uint64 // with extents or records
	Data    uint64 // blocks
	Zero    uint64 // blocks
	Records uint64
}
