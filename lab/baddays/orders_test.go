package baddays

import (
	"os"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/lab"
)

// orders are those in which two racks and a witness come back after all power was
// away. What is missing stays away: VM is the rack that the VM ran in, other the
// other one.
var orders = []string{
	"a b w", "a w b", "b a w", "b w a", "w a b", "w b a",
	"a b", "b a", // without the witness
	"other w", "w other", "vm w", "w vm", // without a rack
}

// TestTwoRacksAndAWitnessComeBackInAnyOrder takes all power of two racks and a
// witness; nobody types anything afterwards.
func TestTwoRacksAndAWitnessComeBackInAnyOrder(t *testing.T) {
	if os.Getenv("HOLDFAST_ORDERS") == "" {
		t.Skip("not tested: twelve power losses take minutes; 'make power-orders' does")
	}
	needs(t, "qemu-system-x86_64")
	s := newLabOf(t, lab.Options{Racks: 2, PerRack: 1, Witness: true, DiskSize: lab.DefaultDiskSize})
	s.importProbe()
	w := s.startProbe("db")
	w.goesOn()
	s.inSync("db")
	for _, order := range orders {
		s.whole()
		was := s.running("db", 0).Rack
		other := s.other(was, lab.WitnessRack)
		if err := lab.Kill(s.l.Hosts); err != nil {
			t.Fatal(err)
		}
		acked := w.acknowledged()
		back := strings.Fields(strings.NewReplacer("other", other, "vm", was).Replace(order))
		for _, rack := range back {
			s.start(rack)
		}
		w.verified(acked)
		t.Logf("%-7s of %s: the VM ran in %s, now in %s; at least %d blocks verified", order, strings.Join(back, " "), was, s.running("db", 0).Rack, acked)
		for _, rack := range []string{was, other, lab.WitnessRack} {
			if !strings.Contains(" "+strings.Join(back, " ")+" ", " "+rack+" ") {
				s.start(rack)
			}
		}
		s.whole()
		s.inSync("db")
		s.oneMachine(1)
	}
}
