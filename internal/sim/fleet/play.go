package fleet

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// How long things take that nobody does.
const (
	playEvery = 250 * time.Millisecond // at least so often is looked whether something is over
	startTime = 3 * time.Second        // of a guest
	endTime   = 2 * time.Second
)

// play writes what the agents of all hosts would: it looks at the records, and
// brings what is observed in step with what is wanted.
func (f *Fleet) play() {
	changed := clock.System{}.NewEvent()
	f.Records.Subscribe(changed)
	defer f.Records.Unsubscribe(changed)
	for f.ctx.Err() == nil {
		b := &batch{c: f.Records, touched: map[holdfast.VolumeID]bool{}}
		st, now := f.Records.State(), time.Now()
		f.playVMs(b, st, now)
		f.playVolumes(b, st, now)
		f.playDisks(b, st)
		b.flush()
		f.playHosts(st)
		if b.err != nil { // somebody was quicker: the next picture tells what is left
			f.log.Debug("a move of the fleet was not made", "err", b.err)
		}
		if b.rev > 0 {
			f.Records.WaitRev(b.rev, time.Second)
		}
		changed.Wait(playEvery)
	}
}

// machine is the process of a VM as it is reported.
func machine(v cluster.VM, state string, since time.Time) cluster.Machine {
	m := cluster.Machine{VM: v.ID, Host: v.Host, Generation: v.Generation, Epoch: 1, State: state, Since: since, Shutdowns: v.Shutdowns, Resets: v.Resets}
	if state == "running" {
		m.PID, m.CPUs, m.MemoryMiB, m.Edition, m.Disks, m.CDROM = 1000+int(v.MAC[len(v.MAC)-1])*7, v.CPUs, v.MemoryMiB, v.Edition, v.Volumes(), v.CDROM
	}
	return m
}

func (f *Fleet) playVMs(b *batch, st *cluster.State, now time.Time) {
	for id, rec := range st.VMs {
		if !st.AliveHost(rec.Val.Host) {
			delete(f.starts, id)
			delete(f.ends, id)
			continue
		}
		m, has := st.Machines[id]
		has = has && m.Val.Host == rec.Val.Host && m.Val.Generation == rec.Val.Generation && m.Val.Since.After(f.bornAt(rec.Val.Host))
		v := rec.Val
		switch {
		case v.Deleted:
			b.add(func(t *cluster.Txn) {
				t.DeleteVM(id, rec.Mod)
				if there := st.Machines[id]; there.Mod > 0 {
					t.DeleteMachine(id, there.Mod)
				}
			})
		case v.Power == cluster.On && (!has || m.Val.State == "off" && !v.Leaving()):
			f.starts[id] = now.Add(startTime)
			b.add(func(t *cluster.Txn) {
				t.RequireVM(id, rec.Mod)
				t.PutMachine(machine(v, "starting", now), cluster.Any)
			})
			f.open(b, st, v, v.Host)
		case v.Power == cluster.On && m.Val.State == "starting":
			if now.After(f.starts[id]) {
				delete(f.starts, id)
				b.add(func(t *cluster.Txn) {
					t.RequireVM(id, rec.Mod)
					t.PutMachine(machine(v, "running", now), cluster.Any)
				})
			}
		case has && m.Val.State != "off" && (v.Power != cluster.On || v.Leaving() || v.Shutdowns > m.Val.Shutdowns):
			f.playEnd(b, st, rec, now)
		case has && m.Val.State == "running" && news(v, m.Val):
			is := m.Val
			is.Resets, is.Disks, is.CDROM = v.Resets, v.Volumes(), v.CDROM
			b.add(func(t *cluster.Txn) {
				t.RequireVM(id, rec.Mod)
				t.PutMachine(is, m.Mod)
			})
		}
	}
}

// news reports whether a machine that runs is to do something.
func news(v cluster.VM, m cluster.Machine) bool {
	if v.Resets > m.Resets || v.CDROM != m.CDROM {
		return true
	}
	want := v.Volumes()
	if len(want) != len(m.Disks) {
		return true
	}
	for i := range want {
		if want[i] != m.Disks[i] {
			return true
		}
	}
	return false
}

// playEnd has a guest go down, in its time if it was asked to.
func (f *Fleet) playEnd(b *batch, st *cluster.State, rec cluster.Versioned[cluster.VM], now time.Time) {
	v := rec.Val
	if v.Power == cluster.On {
		at, ok := f.ends[v.ID]
		if !ok {
			at = now.Add(endTime)
			f.ends[v.ID] = at
		}
		if now.Before(at) {
			return
		}
	}
	delete(f.ends, v.ID)
	if !v.Leaving() {
		v.Power = cluster.Stopped
	}
	b.add(func(t *cluster.Txn) {
		t.PutVM(v, rec.Mod)
		t.PutMachine(machine(v, "off", now), cluster.Any)
	})
	f.open(b, st, v, holdfast.HostID{})
}

// open has a host write a VM's volumes from now on; the zero host: nobody.
func (f *Fleet) open(b *batch, st *cluster.State, v cluster.VM, host holdfast.HostID) {
	for _, id := range v.Volumes() {
		rec, ok := st.Volumes[id]
		if !ok || rec.Val.Deleted || rec.Val.Writer == host {
			continue
		}
		vol := rec.Val
		if vol.Writer = host; !host.IsZero() {
			vol.Epoch++
		}
		b.touched[id] = true
		b.add(func(t *cluster.Txn) { t.PutVolume(vol, rec.Mod) })
	}
}

func (f *Fleet) bornAt(id holdfast.HostID) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.born[id]
}

// playDisks gives back the disks that are to be removed and hold nothing.
func (f *Fleet) playDisks(b *batch, st *cluster.State) {
	for id, rec := range st.Disks {
		if rec.Val.Remove && st.AliveHost(rec.Val.Host) && !holds(st, id) {
			b.add(func(t *cluster.Txn) { t.DeleteDisk(id, rec.Mod) })
		}
	}
}

func holds(st *cluster.State, disk holdfast.DiskID) bool {
	for _, v := range st.Volumes {
		for _, set := range [][]cluster.Replica{v.Val.InSync, v.Val.Others} {
			for _, r := range set {
				if r.Disk == disk {
					return true
				}
			}
		}
	}
	return false
}

// playHosts has hosts say that they have noticed what was asked of them.
func (f *Fleet) playHosts(st *cluster.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, k := range f.lives {
		a, alive := st.Alive[id]
		h, member := st.Hosts[id]
		if !alive || !member {
			continue
		}
		drained := h.Val.Drained
		left := make([]cluster.DiskUse, 0, len(a.Val.Disks))
		for _, d := range a.Val.Disks {
			if _, ok := st.Disks[d.Disk]; ok {
				left = append(left, d)
			}
		}
		if drained != a.Val.Drained || len(left) != len(a.Val.Disks) {
			k.Update(func(a *cluster.Alive) { a.Drained, a.Disks = drained, left })
		}
	}
}
