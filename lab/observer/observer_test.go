package observer

import (
	"context"
	"crypto/rand"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/memexport"
	"github.com/holdfast-cloud/holdfast/internal/export/nbd"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testBlocks = 24

// liar is a target whose disks may be told to lie.
type liar struct {
	export.Target
	submit func(d export.Disk, r *export.Request)
}

type lyingDisk struct {
	export.Disk
	l *liar
}

func (l *liar) Open(readOnly bool) (export.Disk, error) {
	d, err := l.Target.Open(readOnly)
	if err != nil {
		return nil, err
	}
	return lyingDisk{d, l}, nil
}

func (d lyingDisk) Submit(r *export.Request) { d.l.submit(d.Disk, r) }

type records struct{}

func (records) Generation(context.Context) (uint32, error) { return 0, nil }
func (records) Writer(context.Context) string              { return "" }

// watch lets four clients watch a volume in memory until they were answered some
// times and something else is true, and returns what they saw.
func watch(t *testing.T, submit func(export.Disk, *export.Request), enough func(*Group) bool) Result {
	t.Helper()
	dir, err := os.MkdirTemp("", "obs")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	srv, err := nbd.New(nbd.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	target, err := memexport.New(testBlocks*holdfast.BlockSize, false)
	if err != nil {
		t.Fatal(err)
	}
	u, err := holdfast.NewUUID(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	path, err := srv.Publish(holdfast.VolumeID{UUID: u}, "v", &liar{target, submit})
	if err != nil {
		t.Fatal(err)
	}
	g := Start(Options{Name: "v", Doors: []Door{{"h", path}}, Records: records{}, Blocks: testBlocks, Clients: 4, Seed: 1, Begun: time.Now()})
	for g.Done() < 400 || !enough(g) {
		time.Sleep(time.Millisecond)
	}
	if err := g.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g.Judge()
}

func always(*Group) bool { return true }

func honest(d export.Disk, r *export.Request) { d.Submit(r) }

func TestAnHonestVolumeIsBelieved(t *testing.T) {
	r := watch(t, honest, always)
	if len(r.Wrong) > 0 || r.Reads == 0 || r.Writes == 0 {
		t.Errorf("%+v", r)
	}
}

// A connection that breaks leaves writes of which nobody knows.
func TestConnectionsBreak(t *testing.T) {
	var mu sync.Mutex
	n := 0
	r := watch(t, func(d export.Disk, r *export.Request) {
		mu.Lock()
		n++
		ends := n%60 == 0
		mu.Unlock()
		if ends { // the session ends, and with it the connection
			r.Done(r, holdfast.Errorf(holdfast.Closed, "a test ends this session"))
			return
		}
		d.Submit(r)
	}, func(g *Group) bool { return g.Dials() >= 4 })
	if len(r.Wrong) > 0 || r.Dials < 4 {
		t.Errorf("%+v", r)
	}
}

func TestAForgottenWriteIsFound(t *testing.T) {
	var mu sync.Mutex
	n := 0
	r := watch(t, func(d export.Disk, r *export.Request) {
		mu.Lock()
		n++
		forget := r.Op == export.Write && n > 100 && n < 200
		mu.Unlock()
		if forget {
			r.Done(r, nil)
			return
		}
		d.Submit(r)
	}, always)
	if !slices.ContainsFunc(r.Wrong, func(w string) bool { return strings.Contains(w, "cannot have done this") }) {
		t.Errorf("about 40 answered writes were forgotten, and what was seen is %+v", r)
	}
}

func TestAForeignByteIsFound(t *testing.T) {
	r := watch(t, func(d export.Disk, r *export.Request) {
		done := r.Done
		if r.Op == export.Read {
			r.Done = func(r *export.Request, err error) {
				r.Done = done // the request is used again
				r.Data[len(r.Data)-1] ^= 1
				done(r, err)
			}
		}
		d.Submit(r)
	}, always)
	if !slices.ContainsFunc(r.Wrong, func(w string) bool { return strings.Contains(w, "nobody wrote there") }) {
		t.Errorf("every read had a byte flipped, and what was seen is %+v", r)
	}
}
