package node_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// What is made from an image is made though somebody changes that image all the time:
// whoever asked for it has nothing to do with that.
func TestWhatIsMadeFromAnImageThatChangesIsMade(t *testing.T) {
	s := newScene(t, 8, 3)
	a, b := s.boxes[0], s.boxes[1]
	image := s.image(a)
	over := false
	s.on(b, func(*provision.Provisioner) {
		b.clk.Go(func() {
			for iops := 1000; !over; iops++ {
				if _, err := b.node.Make.ChangeVolume(image, placement.Change{IOPS: &iops}); err != nil {
					t.Errorf("the change of the image: %v", err)
				}
				clock.Sleep(b.clk, 7*time.Millisecond)
			}
		})
	})
	s.on(a, func(p *provision.Provisioner) {
		for i := range 12 {
			_, err := p.CreateVolume(provision.VolumeSpec{Name: fmt.Sprint("clone", i), Origin: &cluster.Origin{Volume: image}})
			s.ok(err)
			vm, err := p.CreateVM(vmSpec(fmt.Sprint("vm", i), image))
			s.ok(err)
			_, err = p.AddVMDisk(vm.ID, provision.VMDisk{New: provision.VolumeSpec{Blocks: 64, Origin: &cluster.Origin{Volume: image}}})
			s.ok(err)
		}
	})
	over = true
	s.whole()
}

// While a disk is cloned, somebody deletes the snapshot that it is cloned from. Either
// there is no clone, or the snapshot stays for it, out of sight.
func TestASnapshotGoesOrIsCloned(t *testing.T) {
	s := newScene(t, 9, 3)
	a := s.boxes[0]
	vm := s.db(a)
	refused := 0
	for n := range cluster.MaxVMDisks - 1 {
		s.on(a, func(p *provision.Provisioner) {
			v, err := p.CreateVolume(provision.VolumeSpec{Name: fmt.Sprint("v", n), Blocks: 64, Copies: 2})
			s.ok(err)
			snap, err := p.Snapshot(v.ID, "s")
			s.ok(err)
			gone := a.clk.NewEvent()
			a.clk.Go(func() {
				clock.Sleep(a.clk, time.Duration(n)*time.Millisecond)
				if err := p.DeleteSnapshot(v.ID, snap.ID); err != nil {
					t.Errorf("the snapshot cannot be deleted: %v", err)
				}
				gone.Set()
			})
			_, err = p.AddVMDisk(vm.ID, provision.VMDisk{New: provision.VolumeSpec{Name: fmt.Sprint("c", n), Origin: &cluster.Origin{Volume: v.ID, Snapshot: snap.ID}}})
			gone.Wait(clock.Forever)
			st, ferr := a.node.Cluster.Refresh()
			s.ok(ferr)
			stays := slices.ContainsFunc(st.Volumes[v.ID].Val.Snapshots, func(x cluster.Snapshot) bool { return x.ID == snap.ID && x.Hidden })
			if stays == (err != nil) {
				t.Errorf("clone %d: %v, and its snapshot stays: %v", n, err, stays)
			}
			if err != nil {
				refused++
			}
		})
	}
	if refused == 0 || refused == cluster.MaxVMDisks-1 {
		t.Errorf("%d of %d clones were refused: nothing was tried", refused, cluster.MaxVMDisks-1)
	}
}
