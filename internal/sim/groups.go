package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/provision"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// grouping has group snapshots taken of all clients' volumes, in one seed of
// three, by any host: they must be there wholly or not at all, and show one
// moment of all volumes (invariant 13).
type grouping struct {
	rng    *rand.Rand
	on     bool
	began  time.Duration
	late   time.Duration // by how much one writer is told of each step later than the others
	moment uint64        // rises with every write submitted or acknowledged
	order  *ordered      // while a group is taken: what the clients do meanwhile
	taken  []*keptGroup
	failed []failedGroup
}

// keptGroup is a group snapshot, with what its volumes' clients did meanwhile.
type keptGroup struct {
	name  string
	snaps []*keptSnapshot
	did   *ordered // nil: memory was lost meanwhile, and what was acknowledged with it
}

// failedGroup is one that is not there, or, if its outcome was never told, not
// there in part.
type failedGroup struct {
	name    string
	unknown bool
}

// ordered is the writes of some clients, in the order of their submission.
type ordered struct {
	writes []*orderedWrite
}

// orderedWrite is one write, zeroes with tag 0.
type orderedWrite struct {
	client    *blockClient
	block     int
	tag       uint64
	submitted uint64
	done      uint64 // 0: not acknowledged
	// Between which LSNs it is: above lower, not above upper. 0: not known.
	lower, upper holdfast.LSN
}

const (
	maxGroups = 3
	rushTime  = 50 * time.Millisecond
	mostLate  = 200 * time.Millisecond // four steps are well within the time that a barrier stands
)

func (s *simulation) newGrouping() *grouping {
	x := &grouping{rng: s.w.Rand("groups")}
	x.on = x.rng.IntN(3) == 0 && s.with("groups")
	return x
}

// turn reports whether the operator is to take a group snapshot now.
func (x *grouping) turn() bool {
	return x.on && len(x.taken) < maxGroups && x.rng.IntN(3) == 0
}

// rush reports whether the clients are not to keep their pace: a group shows an
// order only if much happens while it is taken.
func (x *grouping) rush(now time.Duration) bool {
	return x.order != nil && now-x.began < rushTime+4*x.late
}

// submitted and acknowledged note a client's write while a group is taken.
func (x *grouping) submitted(c *blockClient, b int, tag uint64) {
	x.moment++
	if x.order != nil {
		x.order.writes = append(x.order.writes, &orderedWrite{client: c, block: b, tag: tag, submitted: x.moment})
	}
}

func (x *grouping) acknowledged(c *blockClient, b int, tag uint64) {
	x.moment++
	if x.order == nil {
		return
	}
	for i := len(x.order.writes) - 1; i >= 0; i-- { // a client has one write to a block under way at most
		if w := x.order.writes[i]; w.client == c && w.block == b && w.tag == tag {
			w.done = x.moment
			return
		}
	}
}

// group takes a snapshot of all clients' volumes.
func (o *operator) group() (string, error) {
	x := o.s.groups
	o.made++
	g := &keptGroup{name: fmt.Sprintf("g%d", o.made), did: &ordered{}}
	h := o.s.hosts[x.rng.IntN(len(o.s.hosts))]
	what := fmt.Sprintf("group snapshot %s from %s", g.name, h.name)
	var ids []holdfast.VolumeID
	known := make([]uint32, len(o.s.clients))
	fallen := make([]blockModel, len(o.s.clients))
	for i, c := range o.s.clients {
		ids = append(ids, c.vol.ID)
		known[i], fallen[i].blocks = c.gen, slices.Clone(c.model.blocks)
		g.snaps = append(g.snaps, &keptSnapshot{c: c, n: uint64(o.made), may: c.model.watch(), asked: int64(o.s.w.Now())})
	}
	inTime := x.delay(o.s, h)
	x.order, x.began = g.did, o.s.c.Now()
	var made cluster.SnapshotGroup
	err := o.on(h, func(p *provision.Provisioner) (err error) {
		made, err = p.SnapshotGroup(ids, g.name)
		return err
	})
	x.order = nil
	inTime()
	for i, k := range g.snaps {
		k.c.model.unwatch(k.may)
		if w, werr := o.writer(k.c.vol.ID); werr != nil || w.node.Volumes.Opened(k.c.vol.ID).Record().Generation != known[i] {
			fallen[i].fallBack(k.may)
			g.did = nil
		}
	}
	if err != nil {
		x.failed = append(x.failed, failedGroup{g.name, holdfast.IsKind(err, holdfast.Unknown)})
		return what, err
	}
	for i, k := range g.snaps {
		k.snap = made.Members[i].Snapshot
		w, _ := o.writer(k.c.vol.ID)
		k.c.kept(k, w, known[i])
	}
	o.snaps = append(o.snaps, g.snaps...)
	x.taken = append(x.taken, g)
	return what, nil
}

// delay has the frames of the host that takes a group come late at one writer,
// every second time: much happens on the other volumes between two cuts.
func (x *grouping) delay(s *simulation, h *host) (undo func()) {
	w := s.byID(s.eye.State().Volumes[s.clients[x.rng.IntN(len(s.clients))].vol.ID].Val.Writer)
	late := time.Duration(1 + x.rng.Int64N(int64(mostLate)))
	if w == nil || w == h || x.rng.IntN(2) == 0 {
		return func() {}
	}
	x.late = late
	s.net.Slow(h.rec.ID, w.rec.ID, late)
	return func() {
		x.late = 0
		s.net.Slow(h.rec.ID, w.rec.ID, 0)
	}
}

// check looks at what came of all groups.
func (x *grouping) check(o *operator, st *cluster.State) {
	named := make(map[string]int)
	for _, c := range o.s.clients {
		for _, snap := range st.Volumes[c.vol.ID].Val.Snapshots {
			named[snap.Name]++
		}
	}
	for _, f := range x.failed {
		if n := named[f.name]; n > 0 && (!f.unknown || n != len(o.s.clients)) {
			o.s.fail("group snapshot %s was not taken, and %d of %d volumes have it (invariant 13)", f.name, n, len(o.s.clients))
		}
	}
	for _, g := range x.taken {
		if g.did != nil {
			g.check(o, st)
		}
	}
}

// check reads a group and holds it against the order in which the writes were
// made: the last one that it shows must have all before it that were
// acknowledged when it was submitted.
func (g *keptGroup) check(o *operator, st *cluster.State) {
	holds := make(map[*blockClient][]uint64)
	for _, k := range g.snaps {
		if !slices.Contains(o.snaps, k) { // let go since
			continue
		}
		v := st.Volumes[k.c.vol.ID].Val
		content, err := o.s.read(v.InSync[0], volumeBlocks, func(r *store.Replica, buf []byte) error {
			return r.ReadSnapshot(k.snap.ID, buf, 0, o.s.opener(v))
		})
		if err != nil {
			o.s.fail("group snapshot %s of %s cannot be read: %v", g.name, v.Name, err)
			return
		}
		for b := range volumeBlocks {
			tag, _ := tagOf(content[b*holdfast.BlockSize:(b+1)*holdfast.BlockSize], k.c.n, b)
			holds[k.c] = append(holds[k.c], tag)
		}
	}
	var last *orderedWrite
	for _, w := range g.did.writes {
		if tags := holds[w.client]; tags != nil && w.tag != 0 && tags[w.block] == w.tag {
			last = w
		}
	}
	for _, w := range g.did.writes {
		if last != nil && w.done != 0 && w.done < last.submitted && holds[w.client] != nil && g.did.lacks(w, holds[w.client][w.block]) {
			o.s.fail("group snapshot %s: write %d of client %d is there, and write %d of client %d to block %d, which was acknowledged before, is not (invariant 13)",
				g.name, last.tag, last.client.n, w.tag, w.client.n, w.block)
			return
		}
	}
}

// lacks reports whether a block of that content certainly shows neither w nor a
// write that came after it.
func (o *ordered) lacks(w *orderedWrite, tag uint64) bool {
	for _, x := range o.writes {
		if x.client == w.client && x.block == w.block && x.tag == tag && x.submitted >= w.submitted {
			return false
		}
	}
	return true
}
