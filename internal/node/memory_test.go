package node_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/provision"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// giveMemory gives a computer's disk to a pool, as memory: from now on it is
// lost with every life.
func (s *scene) giveMemory(b *box, pool holdfast.PoolID) {
	s.as(s.eyes, func() {
		tx := s.eye.Begin()
		rec := s.eye.State().Disks[b.did]
		rec.Val.Pool, rec.Val.RAM = pool, true
		tx.PutDisk(rec.Val, rec.Mod)
		_, err := tx.Commit()
		s.ok(err)
	})
}

// loseMemory pulls the plug of a computer whose disk is memory.
func (s *scene) loseMemory(b *box) (was holdfast.DiskID) {
	b.pull()
	was = b.did
	b.did = holdfast.DiskID{UUID: s.uuid()}
	b.disk = memdisk.New(32<<20, s.w.Rand("memory "+b.did.String()))
	clk := s.w.Host("format", simclock.Skew{})
	s.as(clk, func() {
		dev, err := b.disk.Open(clk, memdisk.Options{})
		s.ok(err)
		s.ok(store.Format(dev, store.Identity{Cluster: s.id, Disk: b.did, Host: b.rec.ID}, b.storeOptions(clk)))
		s.ok(dev.Close())
	})
	clk.Kill()
	return was
}

// returnEmpty turns it on again: its disk is another one, and empty.
func (s *scene) returnEmpty(b *box, was holdfast.DiskID) {
	pool := s.eye.State().Disks[was].Val.Pool
	b.powerOn()
	s.on(b, func(p *provision.Provisioner) {
		d := cluster.Disk{ID: b.did, Host: b.rec.ID, Path: "ram1", Size: 32 << 20, Pool: pool, RAM: true}
		s.ok(p.RenewDisk(d, was))
		s.kind(p.RenewDisk(d, was), holdfast.NotFound) // there is nothing to replace any more
	})
}

// write puts text at the start of a volume, flushed, and read gets it back.
func (s *scene) write(b *box, id holdfast.VolumeID, text string) {
	s.transfer(b, id, func(d export.Disk) {
		buf := make([]byte, holdfast.BlockSize)
		copy(buf, text)
		s.ok(s.do(b, d, export.Request{Op: export.Write, Length: holdfast.BlockSize, Data: buf}))
		s.ok(s.do(b, d, export.Request{Op: export.Flush}))
	})
}

func (s *scene) read(b *box, id holdfast.VolumeID) (text string) {
	s.transfer(b, id, func(d export.Disk) {
		buf := make([]byte, holdfast.BlockSize)
		s.ok(s.do(b, d, export.Request{Op: export.Read, Length: holdfast.BlockSize, Data: buf}))
		text = string(bytes.TrimRight(buf, "\x00"))
	})
	return text
}

func (s *scene) transfer(b *box, id holdfast.VolumeID, f func(export.Disk)) {
	s.Helper()
	s.on(b, func(*provision.Provisioner) {
		v, err := b.node.Volumes.Open(id)
		if err != nil {
			s.Errorf("%v", err)
			return
		}
		d, err := v.Session(false)
		if err != nil {
			s.Errorf("%v", err)
			return
		}
		f(d)
		d.Close()
	})
}

func (s *scene) do(b *box, d export.Disk, r export.Request) (err error) {
	ev := b.clk.NewEvent()
	r.Done = func(_ *export.Request, e error) { err = e; ev.Set() }
	d.Submit(&r)
	ev.Wait(-1)
	return err
}

// A rack whose memory holds a copy loses power. What was flushed is in the
// other rack's memory, and a copy is built in the memory of the rack when it
// returns. Then it goes the other way round, so that only what was rebuilt is
// left.
func TestARackOfAPoolInMemoryLosesPowerAndItsCopiesAreBuiltAgain(t *testing.T) {
	s := newScene(t, 7, 3)
	a, b, c := s.boxes[0], s.boxes[1], s.boxes[2]
	var pool cluster.Pool
	s.on(c, func(p *provision.Provisioner) {
		var err error
		pool, err = p.CreatePool(cluster.Pool{Name: "fast", Tier: cluster.RAM, Copies: 2})
		s.ok(err)
	})
	s.giveMemory(a, pool.ID)
	s.giveMemory(b, pool.ID)
	var vol cluster.Volume
	s.on(c, func(p *provision.Provisioner) {
		var err error
		vol, err = p.CreateVolume(provision.VolumeSpec{Name: "log", Blocks: 256, Pool: pool.ID})
		s.ok(err)
		s.kind(p.DeletePool(pool.ID), holdfast.Conflict)
	})
	for _, r := range vol.InSync {
		if r.Host == c.rec.ID || len(vol.InSync) != 2 {
			t.Fatalf("its copies are at %v", vol.InSync)
		}
	}
	s.write(c, vol.ID, "before")

	was := s.loseMemory(a)
	s.write(c, vol.ID, "while a is away")
	s.returnEmpty(a, was)
	s.until("the copy is in the memory of a again", func(st *cluster.State) bool { return s.holds(st, vol.ID, a, b) })

	was = s.loseMemory(b)
	if got := s.read(c, vol.ID); got != "while a is away" {
		t.Errorf("read %q of what was rebuilt", got)
	}
	s.returnEmpty(b, was)
	s.until("the copy is in the memory of b again", func(st *cluster.State) bool { return s.holds(st, vol.ID, a, b) })
	if got := s.read(c, vol.ID); got != "while a is away" {
		t.Errorf("read %q", got)
	}

	// Both at once: nothing is left, and nobody says otherwise.
	wasA, wasB := s.loseMemory(a), s.loseMemory(b)
	s.returnEmpty(a, wasA)
	s.returnEmpty(b, wasB)
	s.until("the volume is known to be lost", func(st *cluster.State) bool { return st.Gone(st.Volumes[vol.ID].Val) })
	s.on(c, func(p *provision.Provisioner) {
		if v := c.node.Volumes.Opened(vol.ID); v != nil {
			v.Close()
		}
		_, err := c.node.Volumes.Open(vol.ID)
		s.kind(err, holdfast.Unavailable)
		s.ok(p.DeleteVolume(vol.ID, false))
	})
	s.until("its record goes", func(st *cluster.State) bool { return len(st.Volumes) == 0 })
}

// holds reports whether a volume's copies are exactly those of two computers,
// on the disks they have now.
func (s *scene) holds(st *cluster.State, id holdfast.VolumeID, boxes ...*box) bool {
	v := st.Volumes[id].Val
	if len(v.InSync) != len(boxes) || len(v.Others) > 0 {
		return false
	}
	for _, b := range boxes {
		found := false
		for _, r := range v.InSync {
			found = found || r.Disk == b.did
		}
		if !found {
			return false
		}
	}
	return true
}

func TestAPoolIsDeletedOnlyWhileNothingIsInIt(t *testing.T) {
	s := newScene(t, 8, 2)
	a := s.boxes[0]
	s.on(a, func(p *provision.Provisioner) {
		pool, err := p.CreatePool(cluster.Pool{Name: "slow", Tier: cluster.HDD})
		s.ok(err)
		_, err = p.CreatePool(cluster.Pool{Name: "slow", Tier: cluster.HDD})
		s.kind(err, holdfast.Exists)
		disk := cluster.Disk{ID: holdfast.DiskID{UUID: s.uuid()}, Host: a.rec.ID, Path: "/other", Pool: pool.ID}
		s.ok(p.AddDisk(disk))
		s.kind(p.DeletePool(pool.ID), holdfast.Conflict)
		st, err := p.Cluster.Refresh()
		s.ok(err)
		if st.Pools[pool.ID].Val.Deleted {
			s.Error("the pool stays closed though it was not deleted")
		}
		tx := p.Cluster.Begin()
		tx.DeleteDisk(disk.ID, st.Disks[disk.ID].Mod)
		_, err = tx.Commit()
		s.ok(err)
		s.ok(p.DeletePool(pool.ID))
		s.kind(p.AddDisk(disk), holdfast.NotFound)
		_, err = p.CreateVolume(provision.VolumeSpec{Name: "v", Blocks: 8, Pool: pool.ID})
		s.kind(err, holdfast.NotFound)
	})
}

// Whoever puts something into a pool while it is deleted is refused, or the
// deletion is: whichever comes first.
func TestNothingIsLeftInAPoolThatWasDeleted(t *testing.T) {
	added, deleted := 0, 0
	for i := range 12 {
		s := newScene(t, uint64(300+i), 2)
		a, b := s.boxes[0], s.boxes[1]
		var pool cluster.Pool
		s.on(a, func(p *provision.Provisioner) {
			var err error
			pool, err = p.CreatePool(cluster.Pool{Name: fmt.Sprintf("p%d", i), Tier: cluster.SSD})
			s.ok(err)
		})
		var adds, deletes error
		done := 0
		disk := cluster.Disk{ID: holdfast.DiskID{UUID: s.uuid()}, Host: b.rec.ID, Path: "/other", Pool: pool.ID}
		s.w.RunUntil(func() bool { return b.node != nil }, s.w.Now()+patience)
		begin := []func(){
			func() { a.clk.Go(func() { deletes = a.node.Make.DeletePool(pool.ID); done++ }) },
			func() { b.clk.Go(func() { adds = b.node.Make.AddDisk(disk); done++ }) },
		}
		begin[i%2]()
		s.run(time.Duration(i) * 200 * time.Microsecond)
		begin[1-i%2]()
		s.w.RunUntil(func() bool { return done == 2 }, s.w.Now()+patience)
		s.until("the records show it", func(st *cluster.State) bool {
			_, in := st.Disks[disk.ID]
			_, is := st.Pools[pool.ID]
			return in == (adds == nil) && is == (deletes != nil)
		})
		if adds == nil && deletes == nil {
			t.Errorf("%d: a disk stands in a pool that does not exist", i)
		}
		if adds == nil {
			added++
		}
		if deletes == nil {
			deleted++
		}
		s.close()
	}
	if added == 0 || deleted == 0 {
		t.Errorf("%d disks were added and %d pools deleted: one never came first", added, deleted)
	}
}
