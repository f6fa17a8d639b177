package volume

import (
	"encoding/binary"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// KindGroup is one step of a group snapshot at one volume's writer
// (docs/protocol/group.md).
const KindGroup transport.Kind = 0x60 // step, volume, group, snapshot → epoch, LSN

// step is what a writer is asked for.
type step uint8

const (
	stepReady step = iota // become the volume's writer, if nobody is, and tell whether a snapshot can be made
	stepRaise             // hold the writes that come from now on
	stepCut               // keep the content, and hold them no longer
	stepRenew             // the snapshot is about to be named
	stepNamed             // it is
	stepDrop              // it is not wanted: end all of it
	steps
)

const (
	groupSize = 1 + 3*16
	cutTime   = 20 * time.Second // a replica may have to be ejected first
)

// groupAsk is one step's question.
type groupAsk struct {
	step     step
	volume   holdfast.VolumeID
	group    holdfast.GroupID
	snapshot holdfast.SnapshotID
}

func (a *groupAsk) appendTo(b []byte) []byte {
	b = append(append(b, byte(a.step)), a.volume.UUID[:]...)
	return append(append(b, a.group.UUID[:]...), a.snapshot.UUID[:]...)
}

func decodeGroupAsk(b []byte) (a groupAsk, err error) {
	if len(b) != groupSize || step(b[0]) >= steps {
		return a, holdfast.Errorf(holdfast.Invalid, "group snapshot: %d bytes that are no known step, need %d", len(b), groupSize)
	}
	a.step = step(b[0])
	copy(a.volume.UUID[:], b[1:])
	copy(a.group.UUID[:], b[17:])
	copy(a.snapshot.UUID[:], b[33:])
	return a, nil
}

func (s *Service) serveGroup(_ holdfast.HostID, f transport.Frame, reply func(transport.Frame, error)) {
	a, err := decodeGroupAsk(f.Head)
	if err != nil {
		reply(transport.Frame{}, err)
		return
	}
	s.tasks.Go(func() { reply(s.groupStep(&a)) })
}

func (s *Service) groupStep(a *groupAsk) (out transport.Frame, err error) {
	v := s.Opened(a.volume)
	switch {
	case v != nil:
	case a.step == stepReady:
		if v, err = s.openHere(a.volume); err != nil {
			return out, err
		}
	default:
		return out, holdfast.Errorf(holdfast.Conflict, "volume %s moved to another host meanwhile; try again", a.volume.Short())
	}
	var at holdfast.LSN
	switch a.step {
	case stepReady:
		err = v.mayKeep()
	case stepRaise:
		err = v.raise(a.group)
	case stepCut:
		at, err = v.cut(a.group, a.snapshot)
	case stepRenew:
		err = v.renew(a.snapshot)
	case stepNamed, stepDrop:
		err = v.end(a.group, a.snapshot, a.step == stepNamed)
	}
	out.Head = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(nil, uint32(v.Epoch())), uint64(at))
	return out, err
}

// Group is a group snapshot that is being made, from the side of the host that
// was asked for it. It belongs to one task.
type Group struct {
	s     *Service
	ID    holdfast.GroupID
	Parts []Part
}

// Part is one volume of a group, and its snapshot.
type Part struct {
	Volume   cluster.Volume // as it was before
	Snapshot holdfast.SnapshotID
	Epoch    holdfast.Epoch // at which it was made
	LSN      holdfast.LSN

	writer holdfast.HostID
}

// groupTries bounds how often barriers are raised while other groups have
// theirs on the same volumes, and groupPause, times the number of the try and
// a random factor up to two, is the time between two tries.
const (
	groupTries = 8
	groupPause = 20 * time.Millisecond
)

// CutGroup keeps the volumes' content at one point, durably and without names
// yet, on the hosts that write them. Should anything fail, nothing is left of
// it, or will be within minutes. The kinds of error are those of opening a volume
// and: NoSpace, a volume has too many snapshots; Busy, other groups are being made
// of the same volumes; Conflict, writes could not be held long enough or a volume
// moved. It blocks.
func (s *Service) CutGroup(vols []cluster.Volume) (*Group, error) {
	g := &Group{s: s}
	for _, v := range vols {
		u, err := holdfast.NewUUID(s.Rand)
		if err != nil {
			return nil, err
		}
		g.Parts = append(g.Parts, Part{Volume: v, Snapshot: holdfast.SnapshotID{UUID: u}, writer: s.writerFor(v)})
	}
	if err := g.ask(stepReady, openTimeout, nil); err != nil {
		return nil, err
	}
	err := g.raise()
	if err == nil {
		err = g.ask(stepCut, cutTime, func(p *Part, head []byte) {
			p.Epoch, p.LSN = holdfast.Epoch(binary.LittleEndian.Uint32(head)), holdfast.LSN(binary.LittleEndian.Uint64(head[4:]))
		})
	}
	if err != nil {
		g.Drop()
		return nil, err
	}
	return g, nil
}

// raise raises the barriers of all volumes, again if other groups are in the way.
func (g *Group) raise() (err error) {
	for try := range groupTries {
		u, uerr := holdfast.NewUUID(g.s.Rand)
		if uerr != nil {
			return uerr
		}
		g.ID = holdfast.GroupID{UUID: u} // another one each time: what was asked before is no barrier of this try
		if err = g.ask(stepRaise, barrierLimit, nil); !holdfast.IsKind(err, holdfast.Busy) {
			return err
		}
		g.Drop()
		pause := time.Duration(try+1) * groupPause
		clock.Sleep(g.s.Clock, pause+pause*time.Duration(u[0])/256)
	}
	return err
}

// Renew asks all writers that the snapshots may be named: by a commit that
// depends on the volumes' records as they were read before this. Kind Conflict: they
// may not.
func (g *Group) Renew() error { return g.ask(stepRenew, askTimeout, nil) }

// Named tells the writers that the snapshots have names. It does not block.
func (g *Group) Named() {
	g.s.tasks.Go(func() { g.tell(stepNamed) })
}

// Drop has the writers let go of what there is of the group. A writer that does
// not hear of it does so by itself.
func (g *Group) Drop() { g.tell(stepDrop) }

func (g *Group) tell(st step) {
	if err := g.ask(st, askTimeout, nil); err != nil {
		g.s.Log.Info("a writer was not told of the end of a group snapshot", "group", g.ID.Short(), "error", err)
	}
}

// ask asks the writers of all volumes at once and waits for every answer. Of
// several errors it returns one that is not Busy, if there is one.
func (g *Group) ask(st step, limit time.Duration, took func(*Part, []byte)) error {
	errs := make([]error, len(g.Parts))
	all := clock.NewGroup(g.s.Clock)
	for i := range g.Parts {
		all.Go(func() { errs[i] = g.askOne(&g.Parts[i], st, limit, took) })
	}
	all.Wait()
	var first error
	for i, err := range errs {
		if err != nil && (first == nil || holdfast.IsKind(first, holdfast.Busy) && !holdfast.IsKind(err, holdfast.Busy)) {
			first = err
			if name := g.Parts[i].Volume.Name; !strings.Contains(err.Error(), name) {
				first = holdfast.Errorf(holdfast.KindOf(err), "volume %s: %w", name, err)
			}
		}
	}
	return first
}

func (g *Group) askOne(p *Part, st step, limit time.Duration, took func(*Part, []byte)) error {
	a := groupAsk{step: st, volume: p.Volume.ID, group: g.ID, snapshot: p.Snapshot}
	f, err := transport.Call(g.s.Clock, g.s.Net, p.writer, transport.Frame{Kind: KindGroup, Head: a.appendTo(nil)}, limit)
	if err == nil && len(f.Head) != 12 {
		err = holdfast.Errorf(holdfast.Invalid, "the writer answered %d bytes instead of 12", len(f.Head))
	}
	if err == nil && took != nil {
		took(p, f.Head)
	}
	return err
}
