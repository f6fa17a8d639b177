package store

import (
	"io"
	"log/slog"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
)

// Options is what a store is given from outside, and its sizes. Zero sizes
// mean defaults.
type Options struct {
	Clock clock.Clock
	Rand  io.Reader // crypto/rand.Reader in production, seeded in simulation
	Log   *slog.Logger

	// Expect says whether a disk is the one that is to be opened: nothing is
	// written to one for which it gives an error. nil: any is.
	Expect func(Identity) error

	SegmentBytes    int64         // Format: 256 KiB to 16 MiB, a power of two; 0: 16 MiB
	CheckpointBytes int64         // log written between two checkpoints; 0: 256 MiB, at most an eighth of the disk
	MapMemory       int64         // for pages of block maps: 12 KiB for 2 MiB of volume in use; 0: 64 MiB
	ScrubEvery      time.Duration // from the beginning of one scrub of the disk to the next; 0: only when it is asked for
	ScrubRate       int64         // bytes a second that a scrub reads at most; 0: 64 MiB
	PressureBytes   int64         // buffered and unwritten bytes above which no writer may add to them, whoever they are from; 0: 32 MiB
	LogBytes        int64         // of that, what writers on this host may add together; 0: 4 MiB
	SharedLogBytes  int64         // the same while there are several; 0: 512 KiB

	// listed has the places of every catalog stand in a list, as only those of a
	// large one do: for tests.
	listed bool
}

const (
	minSegmentBytes = 256 << 10
	maxSegmentBytes = 16 << 20 // a slot is a unit of 512 bytes and has 16 bits
	minPlaces       = 24
)

func (o Options) withDefaults() Options {
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 16 << 20
	}
	if o.MapMemory == 0 {
		o.MapMemory = defaultMapMemory
	}
	if o.PressureBytes == 0 {
		o.PressureBytes = 32 << 20
	}
	if o.LogBytes == 0 {
		o.LogBytes = 4 << 20
	}
	if o.SharedLogBytes == 0 {
		o.SharedLogBytes = 512 << 10
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Identity says whose disk it is. It is written once, by Format.
type Identity struct {
	Cluster holdfast.ClusterID
	Disk    holdfast.DiskID
	Host    holdfast.HostID
}

// Usage is how full a disk is, in bytes, and what was written to it since it
// was opened: Written is all of it, and Log, Cleaned, Mapped, Catalog and Zeroed
// are its parts.
type Usage struct {
	Total  int64 // room for segments
	Usable int64 // of that, without the reserve: as much may be live
	Free   int64 // in segments that hold nothing
	Live   int64 // of blocks that something refers to

	Appended int64 // payload handed in
	Written  int64 // everything written to the device
	Log      int64 // batches: what was handed in, with headers
	Cleaned  int64 // moved by the cleaner
	Mapped   int64 // pages of block maps
	Catalog  int64 // the rest of checkpoints
	Zeroed   int64 // new segments, written once before they are used
}

// Since is what was written after an earlier Usage of the same opening.
func (u Usage) Since(was Usage) Usage {
	u.Appended -= was.Appended
	u.Written -= was.Written
	u.Log -= was.Log
	u.Cleaned -= was.Cleaned
	u.Mapped -= was.Mapped
	u.Catalog -= was.Catalog
	u.Zeroed -= was.Zeroed
	return u
}

// WriteAmp is bytes written per byte appended; 0 before the first.
func (u Usage) WriteAmp() float64 { return u.share(u.Written) }

// MapAmp is the part of WriteAmp that pages of block maps are.
func (u Usage) MapAmp() float64 { return u.share(u.Mapped) }

// DataAmp is WriteAmp without MapAmp.
func (u Usage) DataAmp() float64 { return u.share(u.Written - u.Mapped) }

func (u Usage) share(n int64) float64 {
	if u.Appended == 0 {
		return 0
	}
	return float64(n) / float64(u.Appended)
}
