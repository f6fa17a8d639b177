package sim

import (
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
		f.killProcess(f.host())
		return
	}
	kv := f.rng.IntN(2) == 0
	f.s.res.Partitions++
	f.s.tell("fault: %s, which writes %s, is cut off from its other replicas (control plane %v)", w.name, v.Name, kv)
	oneWay := f.rng.IntN(3) // answers get lost, questions get lost, or both
	for _, r := range v.InSync {
		if r.Host == w.rec.ID {
			continue
		}
		if oneWay != 0 {
			f.s.net.Cut(w.rec.ID, r.Host)
		}
		if oneWay != 1 {
			f.s.net.Cut(r.Host, w.rec.ID)
		}
	}
	if kv {
		f.s.kv.Cut(w.name, true, true)
	}
	wait := time.Duration(f.rng.Int64N(int64(4 * time.Second)))
	what := f.rng.IntN(5)
	f.s.c.Go(func() {
		clock.Sleep(f.s.c, wait)
		if !f.s.ending {
			f.finish(w, what)
		}
	})
	f.later(func() { f.mend(w) })
}

// finish strikes a host that was stranded.
func (f *faults) finish(h *host, what int) {
	switch what {
	case 0, 1:
		f.cutPower([]*host{h}, h.name)
	case 2:
		f.killProcess(h)
	case 3:
		f.s.tell("fault: %s is frozen", h.name)
		h.pause()
		f.later(h.resume)
	}
}

const (
	trapLasts = 15 * time.Second
	trapLook  = 20 * time.Millisecond
)

// trap waits for a replica that joins a volume, and then strikes.
func (f *faults) trap() {
	what := f.rng.IntN(8)
	after := time.Duration(f.rng.Int64N(int64(600 * time.Millisecond)))
	f.s.tell("fault: something will happen when a replica joins (%d)", what)
	f.s.c.Go(func() {
		for end := f.s.c.Now() + trapLasts; f.s.c.Now() < end && !f.s.ending; clock.Sleep(f.s.c, trapLook) {
			w, j, v := f.joining()
			if w == nil {
				continue
			}
			f.s.res.Faults++
			if what >= 6 {
				f.lateAddition(w, j, v)
				return
			}
			clock.Sleep(f.s.c, after)
			if !f.s.ending {
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
		f.cutPower(f.s.hosts, "everything")
	case 1:
		f.s.tell("fault: the joiner %s is slow", j.name)
		j.disk.SetSlow(50 + 200*f.rng.Float64())
		f.later(func() { j.disk.SetSlow(1) })
	case 2: // the addition may have been committed, and the joiner is gone
		f.s.tell("fault: answers of the control plane to %s get lost, the joiner %s loses power", w.name, j.name)
		f.s.kv.Cut(w.name, false, true)
		f.later(func() { f.s.kv.Cut(w.name, false, false) })
		f.cutPower([]*host{j}, j.name)
	case 3:
		f.cutPower([]*host{w}, "the writer "+w.name)
	case 4:
		f.cutPower([]*host{w, j}, "the writer "+w.name+" and the joiner "+j.name)
	case 5:
		f.killProcess(j)
	}
}

// lateAddition keeps a writer from hearing that its joiner was added, cuts the
// two off from one another as soon as it was, and then ends the writer: what it
// acknowledged meanwhile must be at the joiner, which may take over.
func (f *faults) lateAddition(w, j *host, v holdfast.VolumeID) {
	f.s.tell("fault: answers of the control plane to %s get lost, and it will lose the joiner %s, and its power", w.name, j.name)
	f.s.kv.Cut(w.name, false, true)
	f.later(func() { f.mend(w) })
	for end := f.s.c.Now() + additionWait; !f.added(j, v); clock.Sleep(f.s.c, time.Millisecond) {
		if f.s.c.Now() > end || f.s.ending {
			return
		}
	}
	f.s.res.Partitions++
	f.s.net.Cut(w.rec.ID, j.rec.ID)
	f.s.net.Cut(j.rec.ID, w.rec.ID)
	clock.Sleep(f.s.c, time.Duration(f.rng.Int64N(int64(2*time.Second))))
	if !f.s.ending {
		f.cutPower([]*host{w}, "the writer "+w.name)
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
