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
	begin := func() error { return to.r().BeginBuild(2, Build{Base: p.LSN()}) }
	late := func(what string, f func() error) {
		t.Helper()
		if err := b.try(f); !holdfast.IsKind(err, holdfast.Conflict) {
			t.Errorf("%s of an attempt that was given up: %v", what, err)
		}
	}
	b.run(begin)
	b.run(func() error { return to.r().Ingest(2, send[:2]) })
	next := writeRec(v.vid, p.LSN()+1, 5, 50)
	v.append(next)
	to.append(next)
	b.run(begin)
	tooLate := func() {
		t.Helper()
		late("the begin", func() error { return to.r().BeginBuild(1, Build{Base: p.LSN()}) })
		late("blocks", func() error { return to.r().Ingest(1, send) })
		late("the end", func() error { return to.r().FinishBuild(1, v.state().History, 1000) })
		late("the abort", func() error { return to.r().AbortBuild(1) })
		late("a root's begin", func() error { return to.r().BeginRoot(1, RootID{snapID(1), 3}, 1000, From{}) })
		late("a root's end", func() error { return to.r().FinishRoot(1, RootID{snapID(1), 3}) })
		late("a cut", func() error { return to.r().Truncate(1, p.LSN()) })
	}
	tooLate()
	b.run(func() error { return to.r().Ingest(2, send[2:]) })
	b.run(func() error { return to.r().FinishBuild(2, v.state().History, 1000) })
	tooLate()
	if to.state().Building {
		t.Error("a finished build is under way again")
	}
	to.want(0, 1, 20, 3, 4, 0, 50)
	b.crash()
	to.want(0, 1, 20, 3, 4, 0, 50)
}
