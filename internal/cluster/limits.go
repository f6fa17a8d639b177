package cluster

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/fair"
)

// Limits bound what the initiators of a volume get of it, all its sessions
// together. What the cluster does for the volume (replication, resync, scrub) is
// not bound by them. The zero value is no limits.
type Limits struct {
	IOPS int `json:"iops,omitempty"` // operations a second; 0: any number
	MBps int `json:"mbps,omitempty"` // 10^6 bytes a second, read and written; 0: any number
	// BurstMS is how much a volume that is used less saves up, as milliseconds at
	// these rates; 0: LeastBurst.
	BurstMS int `json:"burst_ms,omitempty"`
}

// Bounds of the limits.
const (
	MaxIOPS    = 10_000_000
	MaxMBps    = 100_000
	MaxBurst   = time.Minute
	LeastBurst = 100 * time.Millisecond
)

// CheckWeight refuses a weight that a volume cannot have; kind Invalid. 0 is
// DefaultWeight.
func CheckWeight(w int) error {
	if w < 0 || w > fair.MaxWeight {
		return holdfast.Errorf(holdfast.Invalid, "a weight of %d is out of range; give %d to %d, or 0 for the default, %d", w, fair.MinWeight, fair.MaxWeight, fair.DefaultWeight)
	}
	return nil
}

// Burst is how much is saved up.
func (l Limits) Burst() time.Duration {
	return max(LeastBurst, time.Duration(l.BurstMS)*time.Millisecond)
}

// String says the limits in words; empty if there are none.
func (l Limits) String() string {
	var parts []string
	if l.IOPS > 0 {
		parts = append(parts, fmt.Sprintf("%d IOPS", l.IOPS))
	}
	if l.MBps > 0 {
		parts = append(parts, fmt.Sprintf("%d MB/s", l.MBps))
	}
	if l.BurstMS > 0 {
		parts = append(parts, fmt.Sprintf("burst %v", time.Duration(l.BurstMS)*time.Millisecond))
	}
	return strings.Join(parts, ", ")
}

// Check refuses limits that cannot be kept; kind Invalid.
func (l Limits) Check() error {
	switch {
	case l.IOPS < 0 || l.IOPS > MaxIOPS:
		return holdfast.Errorf(holdfast.Invalid, "a limit of %d IOPS is out of range; give 1 to %d, or 0 for none", l.IOPS, MaxIOPS)
	case l.MBps < 0 || l.MBps > MaxMBps:
		return holdfast.Errorf(holdfast.Invalid, "a limit of %d MB/s is out of range; give 1 to %d, or 0 for none", l.MBps, MaxMBps)
	case l.BurstMS < 0 || l.BurstMS > int(MaxBurst.Milliseconds()):
		return holdfast.Errorf(holdfast.Invalid, "a burst of %d ms is out of range; give at most %v, or 0 for none", l.BurstMS, MaxBurst)
	case l.BurstMS > 0 && l.IOPS == 0 && l.MBps == 0:
		return holdfast.Errorf(holdfast.Invalid, "a burst alone limits nothing; give a limit of IOPS or MB/s with it")
	}
	return nil
}
