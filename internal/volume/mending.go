package volume

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Mending tells how a replica is being brought up to date.
type Mending struct {
	Host   holdfast.HostID // which has the replica
	Resync bool            // it lacks only what changed since it was last in sync
	Done   float64         // 0 to 1, by address, of the snapshot or head that is copied now
	Bytes  int64           // that Done is a fraction of: the volume's size
	Rate   int64           // bytes a second since the copy began; 0: not known yet
	Left   time.Duration   // about, for that snapshot or head; 0: not known yet

	// What is copied now is so many-th of so many: its snapshots, oldest first, and
	// the head. 0 of 1 while the copy is prepared.
	Part, Parts int

	Limit     int64  // bytes a second that it may share with others now; 0: no limit
	LimitedBy string // by what: "the foreground at its disk"; empty: there is no limit

	Waits bool // it has not begun: so many are before it
	Ahead int
}

// Mending reports whether a replica is being brought up to date, and how.
func (v *Volume) Mending() (m Mending, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.s.Clock.Now()
	if !v.copying || !v.copy.seated {
		waits := v.failed == nil && !v.wait.of.IsZero() && now-v.wait.at <= waitIdle
		return Mending{Host: v.wait.to, Waits: waits, Ahead: v.wait.ahead}, waits
	}
	c := &v.copy
	m = Mending{Host: c.to, Resync: c.resync, Done: c.done, Bytes: int64(v.rec.Blocks) * holdfast.BlockSize,
		Part: c.part, Parts: max(c.parts, c.part, 1), Limit: c.limit, LimitedBy: c.by}
	if d := now - c.began; c.began > 0 && d > 0 {
		m.Rate = int64(float64(c.bytes) / d.Seconds())
	}
	if d := now - c.root; c.root > 0 && m.Done > 0 {
		m.Left = time.Duration(float64(d) * (1 - m.Done) / m.Done)
	}
	return m, true
}

// copied is how far the copy to a joiner has come.
type copied struct {
	to     holdfast.HostID
	resync bool          // as Mending tells
	began  time.Duration // when the first page was sent
	bytes  int64         // since then
	root   time.Duration // when the present snapshot or head was begun
	done   float64       // how much of that, by address
	part   int           // which it is
	parts  int           // of how many

	seated bool   // it has its turn
	limit  int64  // as Mending tells
	by     string // likewise
}

// Mendings tells how replicas of the volumes that are open here are being
// brought up to date, in the order of the volumes' identities; those that wait
// for their turn as well.
func (s *Service) Mendings() (out []VolumeMending) {
	for _, v := range s.Volumes() {
		if m, ok := v.Mending(); ok {
			out = append(out, VolumeMending{v.id, m})
		}
	}
	return out
}

// VolumeMending is Mending of a volume.
type VolumeMending struct {
	Volume holdfast.VolumeID
	Mending
}
