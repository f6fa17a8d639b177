package node_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// awaited is what a host says of its disk that it cannot open.
func awaited(st *cluster.State, b *box) string {
	for _, c := range st.Alive[b.rec.ID].Val.Conditions {
		if c.ID == "disk//disk" {
			return c.Text
		}
	}
	return ""
}

// TestADiskThatIsNotThereAtTheStart is taken into use when it is, and what
// stands on it is in sync again without anybody's doing.
func TestADiskThatIsNotThereAtTheStart(t *testing.T) {
	s := newScene(t, 35, 2)
	a, b := s.boxes[0], s.boxes[1]
	var id holdfast.VolumeID
	s.on(a, func(p *provision.Provisioner) {
		rec, err := p.CreateVolume(provision.VolumeSpec{Name: "data", Blocks: 64, Copies: 2})
		s.ok(err)
		id = rec.ID
		_, err = a.node.Volumes.Open(id)
		s.ok(err)
	})
	b.kill()
	b.absent = true
	b.start()
	s.until("it is told that the disk is not in use", func(st *cluster.State) bool {
		return strings.Contains(awaited(st, b), "disk /disk of host b1 is not in use") && len(st.Volumes[id].Val.InSync) == 1
	})
	s.run(10 * time.Minute)
	if st := s.eye.State(); awaited(st, b) == "" || len(st.Alive[b.rec.ID].Val.Disks) != 0 {
		t.Fatalf("after ten minutes: %q, %v", awaited(st, b), st.Alive[b.rec.ID].Val.Disks)
	}
	b.absent = false
	at := s.w.Now()
	s.until("it is in use", func(st *cluster.State) bool {
		return awaited(st, b) == "" && len(st.Alive[b.rec.ID].Val.Disks) == 1
	})
	if d := s.w.Now() - at; d > time.Minute+10*time.Second {
		t.Errorf("it took %v to be tried again", d)
	}
	s.until("the copy is in sync", func(st *cluster.State) bool { return len(st.Volumes[id].Val.InSync) == 2 })
}

// TestADiskThatIsNotThereIsTakenBack: it is not tried any more.
func TestADiskThatIsNotThereIsTakenBack(t *testing.T) {
	s := newScene(t, 36, 2)
	b := s.boxes[1]
	tries := 0
	s.as(b.clk, func() {
		b.node.AwaitDisk("/other", holdfast.Errorf(holdfast.IO, "it does not answer"), func() (bool, error) {
			tries++
			return tries == 3, unless(tries < 3)
		})
	})
	s.run(10 * time.Minute)
	if tries != 3 {
		t.Errorf("it was tried %d times, want 3", tries)
	}
	for _, c := range s.eye.State().Alive[b.rec.ID].Val.Conditions {
		if c.ID == "disk//other" {
			t.Errorf("it is still told: %q", c.Text)
		}
	}
}

func unless(fails bool) error {
	if fails {
		return holdfast.Errorf(holdfast.IO, "it does not answer")
	}
	return nil
}
