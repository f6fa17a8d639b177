package node_test

import (
	"fmt"
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
