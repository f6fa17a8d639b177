package sim

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/node"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// Bed is a cluster of the simulator's hosts, one in each rack with one disk
// each, for a script that brings its own work and its own faults. Hosts are
// named by their number. It belongs to the script's task.
type Bed struct{ s *simulation }

// BedOptions choose a bed.
type BedOptions struct {
	Seed      uint64
	Hosts     int
	DiskBytes int64      // of every host's disk
	MapMemory int64      // of every disk's store, as store.Options has it; 0: its default
	Trace     slog.Level // of the product's own log, with Log
	Log       io.Writer  // the product's log; nil: none
	Out       io.Writer  // the history; nil: nowhere
}

// OnBed runs a script on a cluster of its own and returns what it and the
// simulator found wrong.
func OnBed(o BedOptions, script func(*Bed)) (failures []string) { return onBed(o, script).Failures }

// onBed is OnBed with what was visited.
func onBed(o BedOptions, script func(*Bed)) Result {
	if o.Out == nil {
		o.Out = io.Discard
	}
	s := newSimulation(Options{Seed: o.Seed, Log: o.Log, Trace: o.Trace, Out: o.Out})
	s.mapMemory = o.MapMemory
	s.play(func() {
		s.vms, s.sealings = newVMCheck(s), s.newSealings()
		s.vmDisks = newVMDisks(s)
		s.forcing = s.newForcing()
		for i := range o.Hosts {
			s.hosts = append(s.hosts, s.newHost(hostPlan{name: rackName(i) + "1", domain: holdfast.FaultDomain{Rack: rackName(i)}, disks: 1, size: o.DiskBytes}))
		}
		s.gather()
		b := &Bed{s}
		b.Must(b.On(0, time.Minute, func(*node.Node) error { return s.initKey(s.hosts[0]) }), "the cluster key")
		script(b)
	})
	s.res.Visits = s.visits()
	s.close()
	return s.res
}

// Clock is the script's clock.
func (b *Bed) Clock() clock.Clock { return b.s.c }

// Tell writes a line of history.
func (b *Bed) Tell(format string, args ...any) { b.s.tell(format, args...) }

// Fail notes that something is wrong, and goes on.
func (b *Bed) Fail(format string, args ...any) { b.s.fail(format, args...) }

// Must ends the script if there is an error.
func (b *Bed) Must(err error, what string) { b.s.must(err, what) }

// Records are the cluster's, as of now.
func (b *Bed) Records() *cluster.State {
	for {
		st, err := b.s.eye.Refresh()
		if err == nil {
			return st
		}
		clock.Sleep(b.s.c, time.Second)
	}
}

// On runs f on a task of a host's process and waits for it. Kind Unavailable:
// the process does not run, Unknown: it ended or f took longer than limit.
func (b *Bed) On(host int, limit time.Duration, f func(*node.Node) error) error {
	h := b.s.hosts[host]
	if !h.serving() {
		return holdfast.Errorf(holdfast.Unavailable, "%s does not serve", h.name)
	}
	n := h.node
	var err error
	if !b.s.runOn(h, limit, func() { err = f(n) }) {
		return holdfast.Errorf(holdfast.Unknown, "%s went away or took too long", h.name)
	}
	return err
}

// Serving reports whether a host's process runs.
func (b *Bed) Serving(host int) bool { return b.s.hosts[host].serving() }

// Disk is the identity of a host's disk.
func (b *Bed) Disk(host int) holdfast.DiskID { return b.s.hosts[host].did }

// Number finds a host by its identity; -1: there is none.
func (b *Bed) Number(id holdfast.HostID) int {
	for i, h := range b.s.hosts {
		if h.rec.ID == id {
			return i
		}
	}
	return -1
}

// PowerCut ends a host at once; its disk loses what was not synced.
func (b *Bed) PowerCut(host int) { b.s.hosts[host].powerCut() }

// PowerOn begins another life of a host.
func (b *Bed) PowerOn(host int) { b.s.hosts[host].powerOn() }

// Kill ends a host's process as SIGKILL does.
func (b *Bed) Kill(host int) { b.s.hosts[host].processDies() }

// EmptyDisk puts an empty disk in the place of that of a host without power,
// under the same identity.
func (b *Bed) EmptyDisk(host int) {
	h := b.s.hosts[host]
	h.disk = memdisk.New(h.size, b.s.w.Rand(fmt.Sprintf("disk %s after life %d", h.name, h.lives)))
	h.format(b.s.eye.State().Cluster.ID)
}

// Unwhole says what is missing: a host, a copy of a volume, or a volume that is
// to go and is still there; "" if nothing is.
func (b *Bed) Unwhole() string {
	if why := b.s.absent(); why != "" {
		return why
	}
	return b.s.unwhole()
}

// Read reads blocks of an in-sync replica of a volume on its host: of a
// snapshot, or of the head if snap is zero.
func (b *Bed) Read(v cluster.Volume, ref cluster.Replica, snap holdfast.SnapshotID, blocks int) ([]byte, error) {
	o := b.s.opener(v)
	return b.s.read(ref, blocks, func(r *store.Replica, buf []byte) error {
		if snap.IsZero() {
			return r.ReadOpened(buf, 0, o)
		}
		return r.ReadSnapshot(snap, buf, 0, o)
	})
}
