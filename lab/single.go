package lab

import (
	"syscall"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// What breaks in a computer that goes on: its own process, or one machine.

// KillServe ends the hosts' own processes with SIGKILL and returns when they are
// gone; their machines go on. Start launches them again.
func KillServe(hosts []Host) error {
	return each(hosts, func(h Host) error {
		seen, err := h.signalServe(syscall.SIGKILL)
		for deadline := time.Now().Add(slowStart); err == nil && len(seen) > 0; time.Sleep(2 * time.Millisecond) {
			if seen[0].gone() {
				seen = seen[1:]
			} else if time.Now().After(deadline) {
				err = holdfast.Errorf(holdfast.Unavailable, "process %d of host %s was killed and is still there", seen[0].pid, h.Name)
			}
		}
		return err
	})
}

// FreezeServe stops the hosts' own processes where they stand (SIGSTOP); their
// machines go on. Thaw lets them go on.
func FreezeServe(hosts []Host) error {
	return each(hosts, func(h Host) error {
		_, err := h.signalServe(syscall.SIGSTOP)
		return err
	})
}

// signalServe signals the host's own processes and returns them.
func (h Host) signalServe(sig syscall.Signal) (seen []proc, err error) {
	ps, err := processes([]Host{h})
	if err != nil {
		return nil, err
	}
	for _, p := range ps {
		if !h.isServe(p) {
			continue
		}
		if err := send(p, sig); err != nil {
			return nil, err
		}
		seen = append(seen, p)
	}
	return seen, nil
}

// Kill ends a machine's process, as if its emulator had crashed. One that has
// ended by itself is no error.
func (m Machine) Kill() error {
	p, err := readProc(m.PID)
	if err != nil || p.start != m.start {
		return nil
	}
	return send(p, syscall.SIGKILL)
}
