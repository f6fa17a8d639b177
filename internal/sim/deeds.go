package sim

import (
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
	"github.com/holdfast-cloud/holdfast/internal/story"
	"github.com/holdfast-cloud/holdfast/internal/transport/simnet"
)

// undoLate is how much later than said something is put right. Everything else
// that a run does to its hosts happens at whole milliseconds: what falls on the
// same one does not depend on the order in which it was decided.
const undoLate = 500 * time.Microsecond

// strike has a line of a story happen now. It is the only way in which anything
// is broken or mended while clients go on, so that the lines that were struck,
// played at their times, are the same run.
func (s *simulation) strike(c story.Command) {
	l := story.Line{At: s.sinceBegun(), Command: c}
	s.tell("%s", l)
	s.struck = append(s.struck, l)
	if c.Class == story.Fault && !remedy(c.Kind) {
		s.res.Faults++
		s.res.Kinds[c.Kind]++
	}
	s.do(c)
}

// remedy reports whether a kind of line puts something right.
func remedy(kind string) bool {
	return slices.Contains([]string{"start", "power on", "power cycle", "restart", "thaw", "mend", "heal"}, kind)
}

// sinceBegun is the time of the story.
func (s *simulation) sinceBegun() time.Duration { return s.w.Now() - s.begun }

// wholeMillisecond is how long it is until the next one begins.
func (s *simulation) wholeMillisecond() time.Duration {
	return (time.Millisecond - s.sinceBegun()%time.Millisecond) % time.Millisecond
}

// do does it, and has it undone when its time is over.
func (s *simulation) do(c story.Command) {
	undo := s.begin(c)
	times := c.Times("for")
	if len(times) == 0 {
		return
	}
	for i, u := range undo {
		d := times[min(i, len(times)-1)] + undoLate
		s.c.Go(func() {
			clock.Sleep(s.c, d)
			if !s.healed { // what ends a run begins with everything in order
				u()
			}
		})
	}
}

// begin does it and returns what undoes it; of what strikes several hosts by
// themselves, host by host.
func (s *simulation) begin(c story.Command) []func() {
	hosts := s.at(c)
	switch c.Kind {
	case "cut", "slow", "storm", "mend", "heal":
		return one(s.deedOfNetwork(c, hosts))
	case "kv away", "kv leader", "kv slow", "kv lossy", "kv forget":
		return one(s.deedOfControl(c))
	}
	if d := s.diskOf(c); d != nil {
		return one(s.deedOfDisk(c, d))
	}
	if c.Kind == "disk swap" {
		return one(s.swapDisks(s.named(c.Text("host")), s.named(c.Text("other"))))
	}
	if c.Kind == "machines stuck" {
		return one(s.stickMachines(s.named(c.Text("host"))))
	}
	if c.Kind == "read" {
		return one(s.readAt(s.clientOf(story.Line{Command: c}), s.named(c.Text("host"))))
	}
	if c.Kind == "burst" {
		cl := s.clientOf(story.Line{Command: c})
		if cl == nil {
			return nil
		}
		cl.bursts++
		return one(func() { cl.bursts = max(0, cl.bursts-1) })
	}
	if c.Kind == "calendar" {
		by := c.Time("by")
		if c.Text("way") == "back" {
			by = -by
		}
		s.named(c.Text("host")).jump(by)
		return nil
	}
	if c.Kind == "power off" { // at one moment, before anybody notices
		for _, h := range hosts {
			h.powerCut()
		}
	}
	var undo []func()
	for _, h := range hosts {
		undo = append(undo, deedOfHost(c.Kind, h))
	}
	return undo
}

func one(undo func()) []func() {
	if undo == nil {
		return nil
	}
	return []func(){undo}
}

// stickMachines has nobody start a machine on a computer, as long as it has power.
func (s *simulation) stickMachines(h *host) (undo func()) {
	vms := h.vmhost
	if vms == nil {
		return nil
	}
	vms.SetStuck(true)
	return func() { vms.SetStuck(false) }
}

// at finds the hosts that a line names.
func (s *simulation) at(c story.Command) (hosts []*host) {
	for _, h := range s.hosts {
		if c.Has("place") && h.isAt(c, "place") || c.Has("host") && c.Text("host") == h.name {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// named finds a host; nil: there is none.
func (s *simulation) named(name string) *host {
	i := slices.IndexFunc(s.hosts, func(h *host) bool { return h.name == name })
	if i < 0 {
		return nil
	}
	return s.hosts[i]
}

// diskOf finds the disk that a line names; nil: it names none.
func (s *simulation) diskOf(c story.Command) *memdisk.Disk {
	name, n := c.Disk("disk")
	h := s.named(name)
	if h == nil || n > len(h.media()) {
		return nil
	}
	return h.media()[n-1]
}

// deedOfHost is what happens to one host.
func deedOfHost(kind string, h *host) (undo func()) {
	switch kind {
	case "kill":
		h.resume()
		h.processDies()
		return h.start
	case "power off":
		return h.powerOn
	case "freeze":
		h.pause()
		return h.resume
	case "suspend":
		h.standStill()
		return h.resume
	case "freeze process":
		h.pauseProcess()
		return h.resume
	case "start":
		h.start()
	case "power on":
		h.powerOn()
	case "power cycle":
		h.powerCut()
		h.powerOn()
	case "restart":
		h.resume()
		h.processDies()
		h.start()
	case "thaw":
		h.resume()
	}
	return func() {}
}

// deedOfNetwork is what happens between hosts.
func (s *simulation) deedOfNetwork(c story.Command, hosts []*host) (undo func()) {
	switch c.Kind {
	case "storm":
		s.net.SetParams(simnet.Storm())
		return func() { s.net.SetParams(simnet.LAN()) }
	case "heal":
		s.healNetwork()
	case "mend":
		s.cuts = slices.DeleteFunc(s.cuts, func(x *cutting) bool {
			return !slices.ContainsFunc(x.hosts, func(h *host) bool { return !slices.Contains(hosts, h) })
		})
		s.lay()
	case "slow":
		h := s.named(c.Text("host"))
		s.slow(h, c.Text("way"), c.Time("by"))
		return func() { s.slow(h, c.Text("way"), 0) }
	case "cut":
		return s.cut(c, hosts)
	}
	return nil
}

// deedOfControl is what happens to the control plane.
func (s *simulation) deedOfControl(c story.Command) (undo func()) {
	s.kvTroubled = true
	switch c.Kind {
	case "kv away":
		s.kv.SetDown(true)
		return func() { s.kv.SetDown(false); s.kvTroubled = true }
	case "kv leader":
		s.kv.ChangeLeader(c.Time("after"))
	case "kv slow":
		s.kv.SetLatency(memkv.LeastLatency, max(c.Time("by"), memkv.LeastLatency+1))
		return func() { s.kv.SetLatency(memkv.LeastLatency, memkv.MostLatency) }
	case "kv lossy":
		s.kv.SetLoss(0, c.Share("loss"))
		return func() { s.kv.SetLoss(0, 0) }
	case "kv forget":
		s.kv.BreakWatches()
		s.kv.Compact()
	}
	return nil
}

// deedOfDisk is what happens to a disk.
func (s *simulation) deedOfDisk(c story.Command, d *memdisk.Disk) (undo func()) {
	works := func() { d.SetChances(memdisk.Chances{}) }
	switch c.Kind {
	case "disk slow":
		d.SetSlow(max(1, c.Num("factor")))
		return func() { d.SetSlow(1) }
	case "disk hang":
		d.SetHung(true)
		return func() { d.SetHung(false) }
	case "disk failsync":
		d.FailNext(memdisk.Sync, 1)
	case "disk evict":
		d.Evict()
	case "disk flaky":
		d.SetChances(memdisk.Chances{SyncError: c.Share("syncs"), WriteError: c.Share("writes")})
		return works
	case "disk lose":
		d.SetChances(memdisk.Chances{LostWrite: c.Share("writes")})
		return works
	case "disk misdirect":
		d.SetChances(memdisk.Chances{Misdirected: c.Share("writes")})
		return works
	case "disk full":
		d.SetFull(true)
		return func() { d.SetFull(false) }
	case "disk copy", "disk restore":
		name, n := c.Disk("disk")
		if c.Kind == "disk copy" {
			s.copyDisk(s.named(name), n)
		} else {
			s.restoreDisk(s.named(name), n)
		}
	case "disk pull":
		d.SetChances(memdisk.Chances{ReadError: 1, WriteError: 1, SyncError: 1})
		return works
	}
	return nil
}

// heal puts everything right.
func (s *simulation) heal() {
	s.tell("everything is put right")
	s.healed, s.healedAt = true, s.w.Now()
	for _, c := range s.clients {
		c.bursts = 0
	}
	s.healNetwork()
	s.kv.SetDown(false)
	s.kv.SetLoss(0, 0)
	s.kv.SetLatency(memkv.LeastLatency, memkv.MostLatency)
	for _, h := range s.hosts {
		s.swapBack(h)
	}
	for _, h := range s.hosts {
		for _, d := range h.media() {
			d.SetSlow(1)
			d.SetHung(false)
			d.SetFull(false)
			d.FailNext(memdisk.Sync, 0)
			d.SetChances(memdisk.Chances{})
		}
		h.resume()
		if h.vmhost != nil {
			h.vmhost.SetStuck(false)
		}
		if h.rests() {
			s.powerCycle(h)
		}
		h.powerOn()
	}
}
