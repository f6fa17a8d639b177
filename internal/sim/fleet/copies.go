package fleet

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

const (
	copyRate    = 900 << 20 // bytes a second, of one copy: nobody waits for a show
	copyLeast   = 4 * time.Second
	copyLongest = 90 * time.Second
	copyAtOnce  = 12 // of the whole fleet
	resyncPart  = 40 // of a copy that was away, one in so many bytes was written meanwhile
)

// copying is a copy that is being built or brought up to date.
type copying struct {
	volume holdfast.VolumeID
	host   holdfast.HostID
	resync bool
	bytes  int64
	begun  time.Time // zero: it waits for its turn
	takes  time.Duration
	asked  time.Time
}

// playVolumes does what the writers of volumes would: they go on without copies
// that are away, build those that are missing, and let go those that are not needed.
func (f *Fleet) playVolumes(b *batch, st *cluster.State, now time.Time) {
	there := map[holdfast.ReplicaID]bool{}
	for id, rec := range st.Volumes {
		vol := rec.Val
		if b.touched[id] {
			continue
		}
		if vol.Deleted {
			b.add(func(t *cluster.Txn) { t.DeleteVolume(id, rec.Mod) })
			continue
		}
		for _, r := range vol.Others {
			there[r.ID] = true
		}
		if !st.AliveHost(vol.Writer) && !slices.ContainsFunc(vol.InSync, func(r cluster.Replica) bool { return st.AliveHost(r.Host) }) {
			continue
		}
		changed := eject(st, &vol, now)
		changed = release(&vol) || changed
		changed = f.join(st, &vol, now) || changed
		if changed {
			vol.Tidy()
			b.add(func(t *cluster.Txn) { t.PutVolume(vol, rec.Mod) })
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.copies {
		if !there[id] {
			delete(f.copies, id)
		}
	}
	f.turns(now)
}

// eject goes on without the copies on hosts that are away, if enough are left.
func eject(st *cluster.State, vol *cluster.Volume, now time.Time) (changed bool) {
	if !st.AliveHost(vol.Writer) {
		return false
	}
	for _, r := range slices.Clone(vol.InSync) {
		if st.AliveHost(r.Host) || len(vol.InSync) <= vol.Min {
			continue
		}
		vol.InSync = without(vol.InSync, r.ID)
		vol.Others = append(slices.Clone(vol.Others), r)
		vol.Ejected = append(slices.Clone(vol.Ejected), cluster.Ejected{Replica: r.ID, At: now.UTC()})
		changed = true
	}
	return changed
}

// release lets go what the plan says, while all that it keeps are there.
func release(vol *cluster.Volume) bool {
	rel := vol.Release
	if rel == nil {
		return false
	}
	vol.Release = nil
	has := func(id holdfast.ReplicaID) bool {
		return slices.ContainsFunc(vol.InSync, func(r cluster.Replica) bool { return r.ID == id })
	}
	for _, id := range rel.Keep {
		if !has(id) {
			return true
		}
	}
	for _, r := range slices.Clone(vol.InSync) {
		if slices.Contains(rel.Go, r.ID) {
			vol.InSync = without(vol.InSync, r.ID)
			vol.Others = append(slices.Clone(vol.Others), r)
		}
	}
	return true
}

// join takes into the in-sync set what has been copied.
func (f *Fleet) join(st *cluster.State, vol *cluster.Volume, now time.Time) (changed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range slices.Clone(vol.Others) {
		if !st.AliveHost(r.Host) || slices.Contains(vol.Moving, r.ID) || len(vol.InSync) > vol.Copies {
			delete(f.copies, r.ID)
			continue
		}
		c := f.copies[r.ID]
		if c == nil {
			f.copies[r.ID] = begin(vol, r, now)
			continue
		}
		if c.begun.IsZero() || now.Sub(c.begun) < c.takes {
			continue
		}
		delete(f.copies, r.ID)
		vol.Others = without(vol.Others, r.ID)
		vol.InSync = append(slices.Clone(vol.InSync), r)
		changed = true
	}
	return changed
}

func begin(vol *cluster.Volume, r cluster.Replica, now time.Time) *copying {
	c := &copying{volume: vol.ID, host: r.Host, bytes: int64(vol.Blocks) * holdfast.BlockSize / 2, asked: now}
	if c.resync = slices.ContainsFunc(vol.Ejected, func(e cluster.Ejected) bool { return e.Replica == r.ID }); c.resync {
		c.bytes /= resyncPart
	}
	c.takes = max(copyLeast, min(copyLongest, time.Duration(c.bytes/copyRate)*time.Second))
	return c
}

// turns has those copy that have waited longest.
func (f *Fleet) turns(now time.Time) {
	busy := 0
	var waiting []*copying
	for _, c := range f.copies {
		if c.begun.IsZero() {
			waiting = append(waiting, c)
		} else {
			busy++
		}
	}
	slices.SortFunc(waiting, func(a, b *copying) int { return a.asked.Compare(b.asked) })
	for _, c := range waiting[:max(0, min(len(waiting), copyAtOnce-busy))] {
		c.begun = now
	}
}

func without(rs []cluster.Replica, id holdfast.ReplicaID) []cluster.Replica {
	return slices.DeleteFunc(slices.Clone(rs), func(r cluster.Replica) bool { return r.ID == id })
}

// Work implements httpapi.Reader.
func (f *Fleet) Work(context.Context, bool) (v1.Works, error) {
	st, now := f.Records.State(), time.Now()
	out := v1.Works{Work: []v1.Work{}}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.copies {
		w := v1.Work{Kind: "rebuild", Volume: st.Volumes[c.volume].Val.Name, VolumeID: c.volume.String(), Host: st.Hosts[c.host].Val.Name}
		if c.resync {
			w.Kind = "resync"
		}
		if w.Waits = c.begun.IsZero(); !w.Waits {
			w.Total, w.Rate = c.bytes, int64(float64(c.bytes)/c.takes.Seconds())
			w.Done = min(1, now.Sub(c.begun).Seconds()/c.takes.Seconds())
			w.LeftSecs = int64(max(0, c.takes-now.Sub(c.begun)).Seconds())
		}
		out.Work = append(out.Work, w)
	}
	return out, nil
}
