package cluster_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// counting notes the prefixes that are read.
type counting struct {
	kv.Store
	read []string
}

func (c *counting) Range(prefix string) ([]kv.Item, kv.Rev, error) {
	if prefix != "holdfast/2/" { // the client itself follows everything
		c.read = append(c.read, prefix)
	}
	return c.Store.Range(prefix)
}

// A cut of sixty volumes whose records the picture does not show yet asks the
// control plane once, not sixty times; two kinds of records are two questions.
func TestManyRecordsAreReadTogether(t *testing.T) {
	s := newScene(t, 11, 1)
	a := s.hosts[0]
	const n = 60
	mods := make([]kv.Rev, n)
	s.do(a, func() {
		for i := range n {
			tx := a.c.Begin()
			tx.PutVolume(volume(fmt.Sprintf("v%02d", i)), 0)
			tx.PutVM(vm(fmt.Sprintf("m%02d", i)), 0)
			rev, err := tx.Commit()
			s.ok(err)
			mods[i] = rev
		}
	})
	st := &counting{Store: a.st}
	s.do(a, func() {
		blind := cluster.Open(st, a.clk, slog.New(slog.DiscardHandler)) // it has seen nothing
		defer blind.Close()
		st.read = nil
		tx := blind.Begin()
		for i := range 30 {
			v := volume(fmt.Sprintf("v%02d", i))
			v.Epoch = 2
			tx.PutVolume(v, mods[i])
		}
		m := vm("m00")
		m.MemoryMiB = 128
		tx.PutVM(m, mods[0])
		_, err := tx.Commit()
		s.ok(err)
		if len(st.read) != 2 {
			t.Errorf("read %q", st.read)
		}
		st.read = nil
		tx = blind.Begin()
		tx.PutVolume(volume("v40"), mods[40])
		tx.PutVolume(volume("v41"), mods[40]) // read at another revision
		_, err = tx.Commit()
		s.kind(err, holdfast.Conflict)
		if len(st.read) > 2 {
			t.Errorf("read %q", st.read)
		}
	})
}

func TestOneVolumeIsReadAlone(t *testing.T) {
	s := newScene(t, 12, 2)
	a, b := s.hosts[0], s.hosts[1]
	v := volume("v1")
	var rev kv.Rev
	s.do(a, func() {
		var err error
		rev, err = put(a, v, 0)
		s.ok(err)
	})
	st := &counting{Store: b.st}
	s.do(b, func() {
		c := cluster.Open(st, b.clk, slog.New(slog.DiscardHandler))
		defer c.Close()
		c.WaitRev(rev, time.Second)
		st.read = nil
		got, err := c.ReadVolume(v.ID)
		s.ok(err)
		if got.Mod != rev || got.Val.Name != "v1" || len(st.read) != 1 {
			t.Errorf("%+v; read %q", got, st.read)
		}
		_, err = c.ReadVolume(volume("other").ID)
		s.kind(err, holdfast.NotFound)
	})
}
