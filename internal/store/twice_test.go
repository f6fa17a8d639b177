package store

import (
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// A network may bring a frame twice, and a call that was given up may be heard
// late: what begins a build a second time must not take away what has come since.
func TestABuildThatIsBegunTwiceKeepsWhatItHas(t *testing.T) {
	b := newBed(t, 23)
	v := b.create(1, 1000)
	v.write(0, 1, 2, 3, 4)
	v.write(1, 20)
	v.stable()
	var p *Pin
	b.run(func() error { p = v.r().Pin(); return nil })
	send := blocksOf(b, p, 0)
	to := &vol{b, replicaID(9), v.vid}
	b.run(func() error {
		_, err := b.s.Create(to.id, to.vid, 1000)
		return err
	})
	begin := func() error { return to.r().BeginBuild(Build{Base: p.LSN()}) }
	b.run(begin)
	b.run(func() error { return to.r().Ingest(send[:2]) })
	next := writeRec(v.vid, p.LSN()+1, 5, 50)
	v.append(next)
	to.append(next)
	b.run(begin)
	if err := b.try(func() error { return to.r().BeginBuild(Build{Base: p.LSN() - 1}) }); !holdfast.IsKind(err, holdfast.Conflict) {
		t.Errorf("begun late: %v", err)
	}
	b.run(func() error { return to.r().Ingest(send[2:]) })
	b.run(func() error { return to.r().FinishBuild(v.state().History, 1000) })
	to.want(0, 1, 20, 3, 4, 0, 50)
	b.crash()
	to.want(0, 1, 20, 3, 4, 0, 50)
}
