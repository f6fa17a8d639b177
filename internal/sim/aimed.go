package sim

import (
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// byID finds a host; nil: there is none.
func (s *simulation) byID(id holdfast.HostID) *host {
	for _, h := range s.hosts {
		if h.rec.ID == id {
			return h
		}
	}
	return nil
}

// writer returns the host that writes some client's volume, and the volume.
func (f *faults) writer() (*host, cluster.Volume) {
	c := f.s.clients[f.rng.IntN(len(f.s.clients))]
	v := f.s.eye.State().Volumes[c.vol.ID].Val
	return f.s.byID(v.Writer), v
}

// joining returns a volume that a replica is joining, with its writer and the
// joiner's host; nil: there is none.
func (f *faults) joining() (writer, joiner *host, v holdfast.VolumeID) {
	for _, v := range f.s.eye.State().SortedVolumes() {
		if len(v.Val.Others) == 0 {
			continue
		}
		w, j := f.s.byID(v.Val.Writer), f.s.byID(v.Val.Others[0].Host)
		if w != nil && w.node != nil && j.node != nil && w != j {
			return w, j, v.Val.ID
		}
	}
	return nil, nil, v
}

// strand cuts the writer of a volume off from the other replicas, sometimes
// from the control plane too, and strikes it a little later: what only it has
// seen must not have been seen by anybody else.
func (f *faults) strand() {
	w, v := f.writer()
	if w == nil {
		f.strike("kill host %s for %v", f.host().name, f.length())
		return
	}
	var others []string
	for _, r := range v.InSync {
		if r.Host != w.rec.ID {
			others = append(others, f.s.byID(r.Host).name)
		}
	}
	kv, way, lasts := f.rng.IntN(2) == 0, []string{" in", " out", ""}[f.rng.IntN(3)], f.length() // answers get lost, questions get lost, or both
	if len(others) > 0 {
		f.strike("cut host %s from %s%s for %v", w.name, strings.Join(others, ","), way, lasts)
	}
	if kv {
		f.strike("cut host %s kv for %v", w.name, lasts)
	}
	what := f.rng.IntN(5)
	f.after(f.upTo(4*time.Second), func() { f.finish(w, what) })
}

// finish strikes a host that was stranded.
func (f *faults) finish(h *host, what int) {
	switch what {
	case 0, 1:
		f.strike("power off host %s for %v", h.name, f.length())
	case 2:
		f.strike("kill host %s for %v", h.name, f.length())
	case 3:
		f.strike("freeze host %s for %v", h.name, f.length())
	}
}

const (
	trapLasts = 15 * time.Second
	trapLook  = 20 * time.Millisecond
)

// trap waits for a replica that joins a volume, and then strikes.
func (f *faults) trap() {
	what := f.rng.IntN(8)
	after := f.upTo(600 * time.Millisecond)
	f.s.c.Go(func() {
		for end := f.s.c.Now() + trapLasts; f.s.c.Now() < end && !f.over; clock.Sleep(f.s.c, trapLook) {
			w, j, v := f.joining()
			if w == nil {
				continue
			}
			if what >= 6 {
				f.lateAddition(w, j, v)
				return
			}
			clock.Sleep(f.s.c, after)
			if !f.over {
				f.spring(w, j, what)
			}
			return
		}
	})
}

// spring is what happens when a replica joins.
func (f *faults) spring(w, j *host, what int) {
	switch what {
	case 0:
		f.powerOff("everything")
	case 1:
		f.strike("disk slow %s x%d for %v", j.name, 50+f.rng.IntN(200), f.length())
	case 2: // the addition may have been committed, and the joiner is gone
		f.strike("cut host %s in kv for %v", w.name, f.length())
		f.strike("power off host %s for %v", j.name, f.length())
	case 3:
		f.strike("power off host %s for %v", w.name, f.length())
	case 4:
		f.strike("power off host %s for %v", w.name, f.length())
		f.strike("power off host %s for %v", j.name, f.length())
	case 5:
		f.strike("kill host %s for %v", j.name, f.length())
	}
}

// lateAddition keeps a writer from hearing that its joiner was added, cuts the
// two off from one another as soon as it was, and then ends the writer: what it
// acknowledged meanwhile must be at the joiner, which may take over.
func (f *faults) lateAddition(w, j *host, v holdfast.VolumeID) {
	lasts := f.length()
	f.strike("cut host %s in kv for %v", w.name, lasts)
	end := f.s.c.Now() + additionWait
	for until := f.s.c.Now() + lasts; !f.added(j, v); clock.Sleep(f.s.c, time.Millisecond) {
		if f.s.c.Now() > end || f.over {
			return
		}
		lasts = until - f.s.c.Now()
	}
	if lasts > 0 {
		f.strike("cut host %s from %s for %v", w.name, j.name, lasts)
	}
	clock.Sleep(f.s.c, f.upTo(2*time.Second))
	if !f.over {
		f.strike("power off host %s for %v", w.name, f.length())
	}
}

const additionWait = 2 * time.Second

// added reports whether the record says that a replica on j is in sync.
func (f *faults) added(j *host, v holdfast.VolumeID) bool {
	for _, r := range f.s.eye.State().Volumes[v].Val.InSync {
		if r.Host == j.rec.ID {
			return true
		}
	}
	return false
}
