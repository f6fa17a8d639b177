package node_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// put writes blocks of one tag, on disk on return.
func (s *scene) put(b *box, id holdfast.VolumeID, addr int64, blocks int, tag byte) {
	s.Helper()
	data := bytes.Repeat([]byte{tag}, blocks*holdfast.BlockSize)
	s.transfer(b, id, func(d export.Disk) {
		s.ok(s.do(b, d, export.Request{Op: export.Write, Off: addr * holdfast.BlockSize, Length: int64(len(data)), Data: data, FUA: true}))
	})
}

// tags reads the tags of the first blocks of a volume.
func (s *scene) tags(b *box, id holdfast.VolumeID, blocks int) string {
	s.Helper()
	data := make([]byte, blocks*holdfast.BlockSize)
	s.transfer(b, id, func(d export.Disk) {
		s.ok(s.do(b, d, export.Request{Op: export.Read, Length: int64(len(data)), Data: data}))
	})
	var out strings.Builder
	for i := range blocks {
		c := data[i*holdfast.BlockSize]
		if n := bytes.Count(data[i*holdfast.BlockSize:(i+1)*holdfast.BlockSize], []byte{c}); n != holdfast.BlockSize {
			s.Errorf("block %d is torn", i)
		}
		if c == 0 {
			c = '.'
		}
		out.WriteByte(c)
	}
	return out.String()
}

// leftBehind is a volume of two copies of which the second missed what was
// written last, when the host of the first was lost.
type leftBehind struct {
	*scene
	id              holdfast.VolumeID
	ahead, stale, c *box
}

// newLeftBehind plays that: both hold aaaaaaaa, then only one got BB at 2, a
// snapshot, and C at 7.
func newLeftBehind(t *testing.T, seed uint64) *leftBehind {
	s := &leftBehind{scene: newScene(t, seed, 3)}
	s.on(s.boxes[0], func(p *provision.Provisioner) {
		rec, err := p.CreateVolume(provision.VolumeSpec{Name: "data", Blocks: 64, Copies: 2})
		s.ok(err)
		s.id = rec.ID
		s.ahead, s.stale = s.box(rec.InSync[0].Host), s.box(rec.InSync[1].Host)
	})
	for _, b := range s.boxes {
		if b != s.ahead && b != s.stale {
			s.c = b
		}
	}
	s.put(s.ahead, s.id, 0, 8, 'a')
	s.run(3 * time.Second)
	s.stale.pull()
	s.put(s.ahead, s.id, 2, 2, 'B')
	s.on(s.ahead, func(p *provision.Provisioner) {
		_, err := p.Snapshot(s.id, "monday")
		s.ok(err)
	})
	s.put(s.ahead, s.id, 7, 1, 'C')
	s.until("the copy that missed it is ejected", func(st *cluster.State) bool { return len(st.Volumes[s.id].Val.InSync) == 1 })
	s.ahead.pull()
	s.stale.powerOn()
	s.until("only the stale copy is there", func(st *cluster.State) bool {
		return st.AliveHost(s.stale.rec.ID) && !st.AliveHost(s.ahead.rec.ID) && st.Rev > 0
	})
	s.run(10 * time.Second)
	return s
}

// plan asks what a forced opening would mean.
func (s *leftBehind) plan() (plan provision.ForcePlan) {
	s.on(s.c, func(p *provision.Provisioner) {
		var err error
		plan, err = p.PlanForce(s.id, holdfast.HostID{})
		s.ok(err)
	})
	return plan
}

func (s *leftBehind) force(f provision.Force) (err error) {
	s.on(s.c, func(p *provision.Provisioner) { _, err = p.ForceOpen(s.id, f) })
	s.run(11 * time.Second) // an opening that began before fails with what was true then
	return err
}

func TestAVolumeIsForcedOpenFromAStaleCopy(t *testing.T) {
	s := newLeftBehind(t, 501)
	s.on(s.stale, func(*provision.Provisioner) {
		_, err := s.stale.node.Volumes.Open(s.id)
		s.kind(err, holdfast.Unavailable)
	})
	plan := s.plan()
	switch {
	case plan.Refused != nil || !plan.NeedsLost:
		t.Errorf("refused: %v, it has to be said that the others are lost: %v", plan.Refused, plan.NeedsLost)
	case plan.From.Host != s.stale.rec.ID || plan.Seen <= plan.From.Report.Prefix:
		t.Errorf("from %v at %v, seen %v", plan.From.Host, plan.From.Report.Prefix, plan.Seen)
	case len(plan.Snapshots) != 1 || plan.Snapshots[0].Name != "monday":
		t.Errorf("snapshots that would be gone: %v", plan.Snapshots)
	case len(plan.Lost) != 1 || plan.Lost[0].Host != s.ahead.rec.ID || plan.Lost[0].Why != provision.ForceAway:
		t.Errorf("lost: %+v", plan.Lost)
	case plan.From.Ejected == nil || plan.From.Ejected.At.IsZero():
		t.Error("it is not known since when the copy is stale")
	}
	s.kind(s.force(provision.Force{By: "t"}), holdfast.Conflict)                           // it may come back
	s.kind(s.force(provision.Force{By: "t", Lost: true, Holds: "9.9"}), holdfast.Conflict) // a plan that is not true any more
	s.ok(s.force(provision.Force{By: "t", Lost: true}))
	if got := s.tags(s.stale, s.id, 10); got != "aaaaaaaa.." {
		t.Errorf("the stale copy holds %s", got)
	}
	s.put(s.stale, s.id, 4, 1, 'd')
	rec := s.eye.State().Volumes[s.id].Val
	f := rec.Forced
	if f == nil || !f.Kept || len(rec.Snapshots) != 1 || rec.Snapshots[0].ID != f.Snapshot || !strings.HasPrefix(rec.Snapshots[0].Name, "forced-") || f.By != "t" || !slices.Equal(f.Snapshots, []string{"monday"}) {
		t.Errorf("the record says %+v, snapshots %+v", f, rec.Snapshots)
	}
	if err := s.force(provision.Force{By: "t", Lost: true}); !holdfast.IsKind(err, holdfast.Conflict) {
		t.Errorf("forced once more, though it is open: %v", err)
	}
	s.setAside("aaBBaaaC..", 3)
	if got := s.tags(s.stale, s.id, 10); got != "aaaadaaa.." {
		t.Errorf("after the lost copy came back the volume holds %s", got)
	}
	s.on(s.c, func(p *provision.Provisioner) {
		_, err := p.AcknowledgeForce(s.id)
		s.ok(err)
		_, err = p.AcknowledgeForce(s.id)
		s.kind(err, holdfast.NotFound)
	})
}

// setAside has the host of the lost copy come back and looks what becomes of it.
func (s *leftBehind) setAside(want string, blocks uint64) {
	s.Helper()
	s.ahead.powerOn()
	var l cluster.LostCopy
	s.until("the lost copy is set aside", func(st *cluster.State) bool {
		l = st.Volumes[s.id].Val.Forced.Lost[0]
		_, there := st.Volumes[l.Volume]
		return l.At != nil && there
	})
	aside := s.eye.State().Volumes[l.Volume].Val
	if !strings.HasPrefix(l.Name, "data-lost-") || aside.Name != l.Name || l.Blocks != blocks || l.Damaged {
		s.Errorf("set aside: %+v", l)
	}
	if got := s.tags(s.ahead, l.Volume, 10); got != want {
		s.Errorf("volume %s holds %s, want %s", l.Name, got, want)
	}
	s.until("the volume has its copies again", func(st *cluster.State) bool {
		return len(st.Volumes[s.id].Val.InSync) == 2 && len(st.Volumes[s.id].Val.Others) == 0
	})
	s.run(time.Minute) // what the volume does not name any more goes
	if got := s.tags(s.ahead, l.Volume, 10); got != want {
		s.Errorf("in the end volume %s holds %s, want %s", l.Name, got, want)
	}
}

// The host of the stale copy came back before the other was lost, and was being
// brought up to date.
func TestACopyThatWasBeingBroughtUpToDateIsForcedOpenAsItWas(t *testing.T) {
	for seed := uint64(510); seed < 516; seed++ {
		s := newLeftBehindBuilding(t, seed)
		plan := s.plan()
		if plan.Refused != nil || !plan.From.Report.Building {
			t.Fatalf("seed %d: refused: %v, building: %v", seed, plan.Refused, plan.From.Report.Building)
		}
		s.ok(s.force(provision.Force{Lost: true}))
		if got := s.tags(s.stale, s.id, 10); got != "aaaaaaaa.." {
			t.Errorf("seed %d: the stale copy holds %s", seed, got)
		}
		s.setAside("aaBBaaaC..", 2000+3)
		s.close()
	}
}

func newLeftBehindBuilding(t *testing.T, seed uint64) *leftBehind {
	s := &leftBehind{scene: newScene(t, seed, 3)}
	s.on(s.boxes[0], func(p *provision.Provisioner) {
		rec, err := p.CreateVolume(provision.VolumeSpec{Name: "data", Blocks: 2100, Copies: 2})
		s.ok(err)
		s.id = rec.ID
		s.ahead, s.stale = s.box(rec.InSync[0].Host), s.box(rec.InSync[1].Host)
	})
	for _, b := range s.boxes {
		if b != s.ahead && b != s.stale {
			s.c = b
		}
	}
	s.put(s.ahead, s.id, 0, 8, 'a')
	s.run(3 * time.Second)
	s.stale.pull()
	s.put(s.ahead, s.id, 2, 2, 'B')
	s.put(s.ahead, s.id, 7, 1, 'C')
	for at := int64(50); at < 2050; at += 200 {
		s.put(s.ahead, s.id, at, 200, 'x')
	}
	s.stale.powerOn()
	building := func(*cluster.State) bool {
		if s.stale.node == nil {
			return false
		}
		for _, st := range s.stale.node.Volumes.Stores() {
			for _, r := range st.Replicas() {
				if state := r.State(); state.Volume == s.id && state.Building {
					return true
				}
			}
		}
		return false
	}
	s.until("the copy is being brought up to date", building)
	s.ahead.pull()
	s.until("the other is lost", func(st *cluster.State) bool { return !st.AliveHost(s.ahead.rec.ID) })
	s.run(time.Duration(seed%3) * 5 * time.Second)
	if seed%2 == 0 { // it forgets, too
		life := s.eye.State().Alive[s.stale.rec.ID].Val.Boot
		s.stale.pull()
		s.stale.powerOn()
		s.until("the stale copy is back", func(st *cluster.State) bool {
			return st.AliveHost(s.stale.rec.ID) && st.Alive[s.stale.rec.ID].Val.Boot != life
		})
	}
	s.run(5 * time.Second)
	return s
}

func TestNothingIsForcedWhileACopyInSyncIsThere(t *testing.T) {
	s := newLeftBehind(t, 530)
	s.ahead.powerOn()
	s.until("it is back", func(st *cluster.State) bool { return st.AliveHost(s.ahead.rec.ID) })
	s.run(5 * time.Second)
	s.kind(s.force(provision.Force{Lost: true}), holdfast.Conflict)
	if f := s.eye.State().Volumes[s.id].Val.Forced; f != nil {
		t.Errorf("the record says %+v", f)
	}
}
