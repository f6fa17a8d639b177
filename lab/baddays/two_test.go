package baddays

import (
	"fmt"
	"testing"

	"github.com/holdfast-cloud/holdfast/lab"
)

// TestTwoRacksLosePower takes the power of a cluster of two racks, in which
// only one host votes in the control plane: the other must still know it.
func TestTwoRacksLosePower(t *testing.T) {
	t.Parallel()
	needs(t, "qemu-system-x86_64")
	s := newLab(t, 2, lab.DefaultDiskSize)
	s.importProbe()
	w := s.startProbe("witness")
	w.goesOn()
	s.inSync("witness")
	for _, order := range [][]string{{"b", "a"}, {"a", "b"}} {
		if err := lab.Kill(s.l.Hosts); err != nil {
			t.Fatal(err)
		}
		acked := w.acknowledged()
		for _, rack := range order {
			s.start(rack)
		}
		w.verified(acked)
		s.until("both hosts to be there", func() (bool, string) {
			st, err := s.status()
			return err == nil && st.Counts.HostsAlive == 2, fmt.Sprint(st.Sentence, err)
		})
		s.inSync("witness")
		s.oneMachine(1)
	}
}
