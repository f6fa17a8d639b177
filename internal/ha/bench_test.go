package ha_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/ha"
	"github.com/holdfast-cloud/holdfast/internal/placement/sketch"
)

// BenchmarkStep is one look at a cluster in which nothing happens, which every
// host has at every change of the picture.
func BenchmarkStep(b *testing.B) {
	for _, size := range []struct{ racks, hosts, vms int }{{3, 1, 5}, {4, 2, 60}, {10, 10, 2000}} {
		b.Run(fmt.Sprintf("hosts=%d/vms=%d", size.racks*size.hosts, size.vms), func(b *testing.B) {
			c := sketch.New()
			do := func(format string, a ...any) {
				if err := c.Do(fmt.Sprintf(format, a...)); err != nil {
					b.Fatal(err)
				}
			}
			for r := range size.racks {
				for h := range size.hosts {
					do("host r%dh%d rack=r%d cpus=64 mem=262144 voter", r, h, r)
				}
			}
			for i := range size.vms {
				a, z := i%size.racks, (i+1)%size.racks
				do("volume v%d size=1 in-sync=r%dh0,r%dh0 writer=r%dh0", i, a, z, a)
				do("vm v%d volume=v%d host=r%dh0 running", i, i, a)
			}
			s, m := c.State(), ha.New(ha.Config{})
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				m.Step(time.Duration(i)*time.Millisecond, sketch.Wall(), s)
			}
		})
	}
}
