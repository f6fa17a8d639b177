package agent

import (
	"fmt"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

// pressAgain is how long after a press of the power button it is pressed again:
// a guest that is still booting does not hear the first.
const pressAgain = 10 * time.Second

// leaving is how far a machine has come on its way off this host.
type leaving struct {
	begun bool
	by    time.Duration // the machine is ended then, if its guest has not shut down
	press time.Duration // not before: the next press of the power button
	said  string        // how the machine ended, for people; "" if its guest shut down
}

// patience is how long a guest on this host may take to shut down when it is
// moved.
func (w *worker) patience() time.Duration {
	s := 0
	if st := w.a.Control.State(); st != nil {
		s = st.Hosts[w.a.Self].Val.DrainSeconds
	}
	if s == 0 {
		s = cluster.DefaultDrainSeconds
	}
	return time.Duration(s) * time.Second
}

// sendOff has a guest shut down, because its VM is to run elsewhere, and ends
// the machine if it does not. While this host is cut off nothing is ended: what
// the guest still has to write could not be written.
func (w *worker) sendOff(m hypervisor.Machine, vm cluster.VM) {
	now := w.a.Clock.Now()
	if !w.exit.begun {
		w.exit = leaving{begun: true, by: now + w.patience(), press: now}
		w.a.Log.Info("the guest is asked to shut down, to be moved", "vm", vm.Name, "within", w.patience())
	}
	switch {
	case w.isIsolated() || m.State() == hypervisor.Off:
	case now >= w.exit.by:
		w.exit.said = fmt.Sprintf("its guest did not shut down within %v and was ended", w.patience())
		w.a.Log.Warn("the guest did not shut down and is ended, to be moved", "vm", vm.Name)
		w.end(m, vm, true)
		w.wake.Set()
	case now >= w.exit.press:
		w.exit.press = now + pressAgain
		if err := m.Shutdown(); err != nil {
			w.a.Log.Info("the power button could not be pressed yet", "vm", vm.Name, "error", err)
		}
	}
}

// left reports a machine that is gone so that its VM can start elsewhere.
func (w *worker) left(vm cluster.VM) {
	w.closeAll(allOf(vm))
	w.report(cluster.Machine{State: string(hypervisor.Off), Reason: w.exit.said}, vm)
}
