package nbd

import (
	"slices"
	"sync"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/export"
)

// noted is a target that notes which requests came alone.
type noted struct {
	export.Target
	mu    sync.Mutex
	alone []bool
}

type notedDisk struct {
	export.Disk
	n *noted
}

func (n *noted) Open(readOnly bool) (export.Disk, error) {
	d, err := n.Target.Open(readOnly)
	return notedDisk{d, n}, err
}

func (d notedDisk) Submit(r *export.Request) {
	d.n.mu.Lock()
	d.n.alone = append(d.n.alone, r.Alone)
	d.n.mu.Unlock()
	d.Disk.Submit(r)
}

func (n *noted) took() []bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.alone
	n.alone = nil
	return a
}

// TestARequestIsAloneWhileNothingElseIsAsked: only then may its disk keep the
// connection's reader.
func TestARequestIsAloneWhileNothingElseIsAsked(t *testing.T) {
	srv := newServer(t, Limits{})
	n := &noted{Target: newTarget(t, 4*mib, false)}
	path, err := srv.Publish(newID(), "vol", n)
	if err != nil {
		t.Fatal(err)
	}
	w := rawDial(t, path).enter()
	flush := func(cookie uint64) []byte { return appendRequest(nil, request{cmd: cmdFlush, cookie: cookie}) }
	answers := func(k int) {
		for range k {
			if h := w.recv(16); be.Uint32(h) != magicSimple || be.Uint32(h[4:]) != 0 {
				t.Fatalf("reply % x", h)
			}
		}
	}
	for i := range uint64(3) {
		w.send(flush(i))
		answers(1)
	}
	if got := n.took(); !slices.Equal(got, []bool{true, true, true}) {
		t.Errorf("of three flushes, one by one, these are alone: %v", got)
	}
	w.send(slices.Concat(flush(1), flush(2), flush(3)))
	answers(3)
	if got := n.took(); len(got) != 3 || got[0] || got[1] {
		t.Errorf("of three flushes that come together these are alone: %v", got)
	}
	w.nc.Close()
}
