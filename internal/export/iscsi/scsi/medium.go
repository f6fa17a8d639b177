package scsi

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// The medium is one writing session on the volume, shared by all initiators.
// It is open while anybody is attached.

// openLocked starts the opening of the disk where it is wanted; u.mu is held.
func (u *Unit) openLocked() {
	if u.disk != nil || u.opening || u.closed || u.ejected {
		return
	}
	u.opening = true
	u.opened.Add(1)
	go u.open()
}

func (u *Unit) open() {
	defer u.opened.Done()
	u.mu.Lock()
	for u.closing { // the session before this one would make it busy
		u.settled.Wait()
	}
	u.mu.Unlock()
	d, err := u.target.Open(u.opt.ReadOnly)
	u.mu.Lock()
	u.opening = false
	waiting := u.parked
	u.parked = nil
	if err == nil {
		u.adoptLocked(d)
		if u.users == 0 || u.closed || u.ejected {
			u.closeLocked()
		}
	}
	var next []*Task
	if u.disk != nil { // they stand in line again, as they did before
		for _, t := range waiting {
			t.phase = blocked
		}
		u.blocked = append(waiting, u.blocked...)
		next = u.unblock()
		waiting = nil
	}
	for _, t := range waiting {
		u.choose(t)
	}
	u.mu.Unlock()
	u.startAll(next)
	if err != nil {
		u.log.Warn("open the volume of a logical unit", "volume", u.opt.Name, "err", err)
	} else {
		err = sense(NotReady, BecomingReady)
	}
	for _, t := range waiting {
		t.end(CheckCondition, senseOf(err, t.cmd.change))
	}
}

// adoptLocked takes a freshly opened disk; u.mu is held.
func (u *Unit) adoptLocked(d export.Disk) {
	generation, tells := uint64(0), false
	if c, ok := d.(export.Cached); ok {
		generation, tells = c.CacheGeneration(), true
	}
	if u.used && u.tells && tells && generation != u.memory {
		u.lostLocked()
	}
	u.disk, u.used, u.memory, u.tells = d, true, generation, tells
	u.resizedLocked(d.Size())
}

// resizedLocked notes the medium's size; u.mu is held.
func (u *Unit) resizedLocked(size int64) {
	if old := u.size.Swap(size); old != size {
		u.attention(CapacityChanged, nil)
	}
}

// lostLocked marks that memory with unflushed writes is gone: for everybody
// who may have written them. u.mu is held.
func (u *Unit) lostLocked() {
	acked := u.acked.Load()
	dirty := acked != u.flushed.Load()
	for _, st := range u.nexuses {
		st.lost = st.lost || dirty
		st.pending.add(PowerOn)
	}
	u.flushed.Store(acked)
}

// closeLocked closes the disk, if it is open, on a goroutine of its own; u.mu
// is held.
func (u *Unit) closeLocked() {
	d := u.disk
	if d == nil {
		return
	}
	u.disk, u.closing = nil, true
	u.opened.Add(1)
	go func() {
		defer u.opened.Done()
		d.Close()
		u.mu.Lock()
		u.closing = false
		u.settled.Broadcast()
		u.mu.Unlock()
	}()
}

// diskFailed is told of every error of the disk. One that ends the session
// closes it; the next command opens another.
func (u *Unit) diskFailed(d export.Disk, err error) {
	kind := holdfast.KindOf(err)
	if kind != holdfast.Fenced && kind != holdfast.LostCache && kind != holdfast.Closed {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.disk != d {
		return
	}
	u.log.Warn("the session on a volume ended", "volume", u.opt.Name, "err", err)
	if kind == holdfast.LostCache || !u.tells && u.acked.Load() != u.flushed.Load() {
		u.lostLocked() // if the disk does not tell, nobody can vouch for it
	} else {
		u.attention(AccessStateChanged, nil)
	}
	u.closeLocked()
}
