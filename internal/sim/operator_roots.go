package sim

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/history"
	"github.com/holdfast-cloud/holdfast/internal/provision"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// keptSnapshot is a snapshot and what its blocks may hold: all that its volume
// may have held from the moment it was asked for to the moment it was there.
type keptSnapshot struct {
	c     *blockClient
	n     uint64 // its number in the client's history
	snap  cluster.Snapshot
	may   [][]uint64
	asked int64 // when, for the client's history

	of *history.Recorder // that it is a part of

	read bool     // it was, and
	was  [32]byte // what it held: its hash
}

// keptClone is a linked clone and what its blocks may hold.
type keptClone struct {
	of  *keptSnapshot
	vol cluster.Volume
	may [][]uint64
}

const (
	maxSnapshots = 6
	maxClones    = 3
	maxGrown     = 2 * volumeBlocks
	restLimit    = time.Minute // for a client to give up its session
)

// writer finds the host that writes a volume.
func (o *operator) writer(id holdfast.VolumeID) (*host, error) {
	for _, h := range o.s.hosts {
		if h.serving() && h.node.Volumes.Opened(id) != nil {
			return h, nil
		}
	}
	return nil, holdfast.Errorf(holdfast.Unavailable, "nobody writes it")
}

// snapshot keeps a client's volume as it is, on the host that writes it.
func (o *operator) snapshot() (string, error) {
	return o.snapshotOf(o.s.clients[o.rng.IntN(len(o.s.clients))])
}

func (o *operator) snapshotOf(c *blockClient) (string, error) {
	name := fmt.Sprintf("s%d", o.made)
	what := fmt.Sprintf("snapshot %s of %s", name, c.vol.Name)
	if len(o.snaps) >= maxSnapshots {
		return what, holdfast.Errorf(holdfast.NoSpace, "there are %d already", len(o.snaps))
	}
	h, err := o.writer(c.vol.ID)
	if err != nil {
		return what, err
	}
	o.made++
	k := &keptSnapshot{c: c, n: uint64(o.made), may: c.model.watch(), asked: int64(o.s.w.Now())}
	fallen, known := slices.Clone(c.model.blocks), c.gen
	err = o.on(h, func(p *provision.Provisioner) (err error) {
		k.snap, err = p.Snapshot(c.vol.ID, name)
		return err
	})
	c.model.unwatch(k.may)
	if !h.serving() || h.node.Volumes.Opened(c.vol.ID) == nil || h.node.Volumes.Opened(c.vol.ID).Record().Generation != known {
		(&blockModel{blocks: fallen}).fallBack(k.may)
	}
	if err == nil {
		c.kept(k, h, known)
		o.snaps = append(o.snaps, k)
	}
	return what, err
}

func (o *operator) dropSnapshot() (string, error) {
	if len(o.snaps) == 0 {
		return "delete a snapshot", holdfast.Errorf(holdfast.NotFound, "there is none")
	}
	i := o.rng.IntN(len(o.snaps))
	k := o.snaps[i]
	what := fmt.Sprintf("delete snapshot %s of %s", k.snap.Name, k.c.vol.Name)
	h, err := o.writer(k.c.vol.ID)
	if err != nil {
		return what, err
	}
	o.snaps = slices.Delete(o.snaps, i, i+1) // whatever comes of it
	return what, o.on(h, func(p *provision.Provisioner) error { return p.DeleteSnapshot(k.c.vol.ID, k.snap.ID) })
}

// revert sets a client's volume back, while the client rests.
func (o *operator) revert() (string, error) {
	if len(o.snaps) == 0 {
		return "revert", holdfast.Errorf(holdfast.NotFound, "there is no snapshot")
	}
	k := o.snaps[o.rng.IntN(len(o.snaps))]
	what := fmt.Sprintf("set %s back to snapshot %s", k.c.vol.Name, k.snap.Name)
	if k.c.held {
		return what, holdfast.Errorf(holdfast.Conflict, "its client is stopped")
	}
	defer func() { k.c.held = false }()
	if !k.c.rest(restLimit) {
		return what, holdfast.Errorf(holdfast.Busy, "its client does not rest")
	}
	h, err := o.writer(k.c.vol.ID)
	if err != nil {
		return what, err
	}
	if k.of != k.c.did { // now, and not before its client rested
		return what, holdfast.Errorf(holdfast.Conflict, "the volume was forced open since")
	}
	k.c.model.mayRevert(k.may)
	k.c.since = ordered{} // what was written before may be gone
	k.c.marks.broken()
	done := k.c.setBack(k, k.c.writing(h))
	err = o.wholly(h, func(p *provision.Provisioner) error { return p.Revert(k.c.vol.ID, k.snap.ID) })
	if done(err); err == nil {
		k.c.model.reverted(k.may)
	}
	return what, err
}

// wholly runs f on a host to its end. A process in which it takes too long is
// killed: nothing may come of it later.
func (o *operator) wholly(h *host, f func(*provision.Provisioner) error) error {
	life := &clockLife{h, h.lives}
	fin := clock.NewFuture[error](o.s.c)
	maker := h.node.Make
	h.agent.Go(func() { fin.Resolve(f(maker)) })
	for waited := time.Duration(0); ; waited += time.Second {
		if err, ok := fin.Wait(time.Second); ok {
			return err
		}
		if life.over() {
			return holdfast.Errorf(holdfast.Unknown, "%s went away", h.name)
		}
		if waited > operatorLimit {
			o.s.do(o.s.say("kill host %s for %v", h.name, faultLasts))
		}
	}
}

// clone makes a linked clone of a snapshot and writes a block of it.
func (o *operator) clone() (string, error) {
	if len(o.snaps) == 0 || len(o.clones) >= maxClones {
		return "clone a snapshot", holdfast.Errorf(holdfast.NotFound, "there is no snapshot, or there are clones enough")
	}
	k := o.snaps[o.rng.IntN(len(o.snaps))]
	o.made++
	name := fmt.Sprintf("clone%d", o.made)
	what := fmt.Sprintf("clone snapshot %s of %s as %s", k.snap.Name, k.c.vol.Name, name)
	c := &keptClone{of: k, may: make([][]uint64, volumeBlocks)}
	for b := range c.may {
		c.may[b] = slices.Clone(k.may[b])
	}
	h := o.host()
	err := o.on(h, func(p *provision.Provisioner) (err error) {
		c.vol, err = p.CreateVolume(provision.VolumeSpec{Name: name, Copies: 2, Origin: &cluster.Origin{Volume: k.c.vol.ID, Snapshot: k.snap.ID}})
		return err
	})
	if err != nil {
		return what, err
	}
	o.clones = append(o.clones, c)
	b := o.rng.IntN(volumeBlocks)
	tag := uint64(1<<32 + o.made)
	c.may[b] = with(c.may[b], tag)
	data := make([]byte, holdfast.BlockSize)
	fillTag(data, k.c.n, b, tag)
	err = o.on(h, func(p *provision.Provisioner) error {
		v, err := p.Volumes.Open(c.vol.ID)
		if err != nil {
			return err
		}
		d, err := v.Session(false)
		if err != nil {
			return err
		}
		defer d.Close()
		done := clock.NewFuture[error](h.agent)
		d.Submit(&export.Request{Op: export.Write, Off: int64(b) * holdfast.BlockSize, Length: holdfast.BlockSize, Data: data, FUA: true,
			Done: func(_ *export.Request, err error) { done.Resolve(err) }})
		err, _ = done.Wait(clock.Forever)
		return err
	})
	if err == nil {
		c.may[b] = []uint64{tag}
	}
	return what, err
}

func (o *operator) dropClone() (string, error) {
	if len(o.clones) == 0 {
		return "delete a clone", holdfast.Errorf(holdfast.NotFound, "there is none")
	}
	i := o.rng.IntN(len(o.clones))
	c := o.clones[i]
	o.clones = slices.Delete(o.clones, i, i+1)
	return "delete " + c.vol.Name, o.on(o.host(), func(p *provision.Provisioner) error { return p.DeleteVolume(c.vol.ID, false) })
}

// grow makes a client's volume a little larger.
func (o *operator) grow() (string, error) { return o.growOf(o.s.clients[o.rng.IntN(len(o.s.clients))]) }

func (o *operator) growOf(c *blockClient) (string, error) {
	return "grow " + c.vol.Name, o.on(o.host(), func(p *provision.Provisioner) error {
		blocks := p.Cluster.State().Volumes[c.vol.ID].Val.Blocks + 8
		if blocks > maxGrown {
			return holdfast.Errorf(holdfast.NoSpace, "it is large enough")
		}
		_, err := p.GrowVolume(c.vol.ID, blocks)
		return err
	})
}

// check reads the snapshots and clones that are there, from every replica.
func (o *operator) check() {
	st := o.s.hosts[0].node.Cluster.State()
	o.s.groups.check(o, st)
	for _, k := range o.snaps {
		v := st.Volumes[k.c.vol.ID].Val
		what := "snapshot " + k.snap.Name + " of " + k.c.vol.Name
		o.checkOn(v, what, k.c.n, k.may, func(r *store.Replica, buf []byte) error {
			err := r.ReadSnapshot(k.snap.ID, buf, 0, o.s.opener(v))
			if err == nil {
				o.same(k, what, buf)
			}
			return err
		})
	}
	for _, c := range o.clones {
		v := st.Volumes[c.vol.ID].Val
		o.checkOn(v, "clone "+c.vol.Name, c.of.c.n, c.may, func(r *store.Replica, buf []byte) error { return r.ReadOpened(buf, 0, o.s.opener(v)) })
	}
}

func (o *operator) checkOn(v cluster.Volume, what string, vol int, may [][]uint64, read func(*store.Replica, []byte) error) {
	var first []byte
	for _, ref := range v.InSync {
		got, err := o.s.read(ref, volumeBlocks, read)
		switch {
		case holdfast.IsKind(err, holdfast.NotFound):
			o.s.fail("%s: the replica on %s does not have it (invariant 7)", what, o.s.nameOf(ref.Host))
			return
		case err != nil:
			o.s.fail("%s: replica on %s: %v", what, o.s.nameOf(ref.Host), err)
			return
		case first == nil:
			first = got
			o.checkContent(what, vol, may, got)
		case !bytes.Equal(first, got):
			o.s.fail("%s: the replicas differ (invariant 7)", what)
		}
	}
	if first == nil {
		o.s.fail("%s: no replica has it", what)
	}
}

func (o *operator) checkContent(what string, vol int, may [][]uint64, content []byte) {
	for b := range may {
		tag, ok := tagOf(content[b*holdfast.BlockSize:(b+1)*holdfast.BlockSize], vol, b)
		if !ok || !slices.Contains(may[b], tag) {
			o.s.fail("%s: block %d holds write %d, it may only hold %v (invariants 1, 8)", what, b, tag, may[b])
			return
		}
	}
}
