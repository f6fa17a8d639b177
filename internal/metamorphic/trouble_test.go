package metamorphic

import (
	"fmt"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/node"
	"github.com/holdfast-cloud/holdfast/internal/provision"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// The troubles, one of which a configuration has.
const (
	calm     = "calm"     // nothing breaks
	takeover = "takeover" // a writer's host goes, another takes over
	outage   = "outage"   // the power of everything goes
	resync   = "resync"   // a host with a copy goes, and comes back
	scrub    = "scrub"    // all disks are scrubbed
	diskloss = "diskloss" // a disk is lost; the only copy moves off it before
	mixed    = "mixed"    // each of these in turn
)

func troubles() []string { return []string{calm, takeover, outage, resync, scrub, diskloss, mixed} }

// strike breaks something: in the middle of a step, where what was not flushed
// has to outlast it, or after the flush that ends it.
func (p *player) strike(flushed bool) {
	what := p.cfg.trouble
	if what == mixed {
		all := []string{takeover, outage, resync, scrub, diskloss}
		what = all[p.rng.IntN(len(all))]
	}
	// One copy keeps only what was flushed, and only its own host can serve it.
	if p.cfg.trouble != mixed && flushed != (p.cfg.copies == 1 || what == outage) {
		return
	}
	if !flushed && what == outage {
		return
	}
	p.heal() // one thing at a time
	p.bed.Tell("trouble: %s", what)
	switch what {
	case takeover:
		p.lose(p.writer(firstVolume), p.rng.IntN(2) == 0)
	case outage:
		p.outage()
	case resync:
		p.lose(p.copyHolder(true), p.rng.IntN(2) == 0)
	case scrub:
		p.scrub()
	case diskloss:
		p.loseDisk()
	}
}

// copyHolder is a host with a copy of the first volume; if possible, and asked
// for, one that does not write it.
func (p *player) copyHolder(idle bool) int {
	refs := p.bed.Records().Volumes[p.vols[firstVolume]].Val.InSync
	first := p.rng.IntN(len(refs))
	w := p.writer(firstVolume)
	for i := range refs {
		if h := p.bed.Number(refs[(first+i)%len(refs)].Host); !idle || h != w {
			return h
		}
	}
	return p.bed.Number(refs[first].Host)
}

// forget drops the sessions of a host that is about to go.
func (p *player) forget(host int) {
	for _, vol := range sorted(p.open) {
		if p.open[vol].host == host {
			delete(p.open, vol)
		}
	}
}

// lose ends a host until the step ends, or its process.
func (p *player) lose(host int, power bool) {
	if host < 0 {
		return
	}
	p.forget(host)
	if power {
		p.bed.PowerCut(host)
	} else {
		p.bed.Kill(host)
	}
	p.down = append(p.down, host)
	if p.cfg.copies == 1 {
		p.back()
	}
}

func (p *player) back() {
	if len(p.down) == 0 {
		return
	}
	clock.Sleep(p.bed.Clock(), time.Duration(p.rng.Int64N(int64(3*time.Second))))
	for _, h := range p.down {
		p.bed.PowerOn(h)
	}
	p.down = nil
}

func (p *player) outage() {
	for h := range hosts {
		p.forget(h)
		p.bed.PowerCut(h)
	}
	p.down = p.rng.Perm(hosts)
	p.back()
}

// scrub has all disks scrubbed; heal waits for it.
func (p *player) scrub() {
	for h := range hosts {
		err := p.bed.On(h, patience, func(n *node.Node) error {
			for _, st := range n.Volumes.Stores() {
				if err := st.Scrub(holdfast.ReplicaID{}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			p.fail("scrub: %v", err)
		}
	}
}

// loseDisk puts an empty disk into the place of one with a copy.
func (p *player) loseDisk() {
	h := p.copyHolder(false)
	alone := p.cfg.copies == 1
	if alone {
		p.evacuate(h, true)
		p.try("evacuation", func() error {
			if n := p.replicas(h); n > 0 {
				return holdfast.Errorf(holdfast.Busy, "%d copies are still there", n)
			}
			return nil
		})
	}
	if p.stopAt {
		return
	}
	p.forget(h)
	p.bed.PowerCut(h)
	p.bed.EmptyDisk(h)
	p.bed.PowerOn(h)
	if alone {
		p.evacuate(h, false)
	}
}

func (p *player) evacuate(host int, on bool) {
	p.try("evacuation", func() error {
		return p.bed.On(p.somewhere(), patience, func(n *node.Node) error {
			_, err := n.Make.EvacuateDisk(p.bed.Disk(host), provision.Evacuation{On: on})
			return err
		})
	})
}

// replicas counts those that the records have on a host.
func (p *player) replicas(host int) (n int) {
	for _, v := range p.bed.Records().SortedVolumes() {
		for _, ref := range v.Val.InSync {
			if p.bed.Number(ref.Host) == host {
				n++
			}
		}
	}
	return n
}

// heal brings back who is away and waits until nothing is missing.
func (p *player) heal() {
	p.back()
	why := ""
	for end := p.bed.Clock().Now() + healing; p.bed.Clock().Now() < end; clock.Sleep(p.bed.Clock(), 500*time.Millisecond) {
		if why = p.bed.Unwhole(); why == "" {
			why = p.scrubbing()
		}
		if why == "" {
			why = p.unnoticed()
		}
		if why == "" {
			return
		}
	}
	p.fail("not whole within %v: %s", healing, why)
}

// unnoticed says which copy went with its disk and still counts: nobody has
// asked for it yet.
func (p *player) unnoticed() string {
	for _, v := range p.bed.Records().SortedVolumes() {
		for _, ref := range v.Val.InSync {
			if _, err := p.bed.Read(v.Val, ref, holdfast.SnapshotID{}, 1); holdfast.IsKind(err, holdfast.NotFound) {
				return fmt.Sprintf("the copy of %s on host %d is gone and counts", v.Val.Name, p.bed.Number(ref.Host))
			}
		}
	}
	return ""
}

// scrubbing says which disk is still being scrubbed, and tells faults: no byte
// was damaged.
func (p *player) scrubbing() (why string) {
	for h := range hosts {
		p.bed.On(h, patience, func(n *node.Node) error {
			for _, st := range n.Volumes.Stores() {
				if st.Scrubbing().Running {
					why = "a scrub goes on"
				}
				p.tellFaults(st)
			}
			return nil
		})
	}
	return why
}

func (p *player) tellFaults(st *store.Store) {
	for _, f := range st.Faults() {
		p.fail("disk %s tells a fault, and nothing was damaged: %+v", st.Identity().Disk.Short(), f)
	}
}
