package lab

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// stopTimeout bounds an orderly stop of a host's own process.
const stopTimeout = 30 * time.Second

// stacksTimeout bounds how long a process writes down its stacks.
const stacksTimeout = 5 * time.Second

// Stop ends the hosts' own processes in order (SIGTERM), as a service manager
// does; their machines go on. It returns when they are gone. One that does not
// end in time is made to, with its stacks in its log (SIGQUIT), and named in
// the error.
func Stop(ctx context.Context, hosts []Host) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return each(hosts, func(h Host) error {
		asked := map[int]bool{}
		for {
			left, err := h.ask(asked)
			if err != nil || left == 0 {
				return err
			}
			if pause(ctx) != nil {
				if err := h.quit(asked); err != nil {
					return err
				}
				return holdfast.Errorf(holdfast.Unavailable, "host %s did not stop within %v; what it was at stands in its log, %s", h.Name, stopTimeout, h.Log())
			}
		}
	})
}

// ask sends SIGTERM to the host's own processes that have not been asked yet,
// and returns how many there are.
func (h Host) ask(asked map[int]bool) (left int, err error) {
	ps, err := processes([]Host{h})
	if err != nil {
		return 0, err
	}
	for _, p := range ps {
		if !h.isServe(p) {
			continue
		}
		left++
		if !asked[p.pid] {
			asked[p.pid] = true
			if err := send(p, syscall.SIGTERM); err != nil {
				return left, err
			}
		}
	}
	return left, nil
}

// quit ends those of the asked processes that are still there, with their
// stacks in the host's log, and returns when they are gone.
func (h Host) quit(asked map[int]bool) error {
	stubborn := func(p proc) bool { return asked[p.pid] && h.isServe(p) }
	ps, err := processes([]Host{h})
	if err != nil {
		return err
	}
	for _, p := range ps {
		if stubborn(p) {
			if err := send(p, syscall.SIGQUIT); err != nil {
				return err
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), stacksTimeout)
	defer cancel()
	for pause(ctx) == nil {
		ps, err := processes([]Host{h})
		if err != nil || !slices.ContainsFunc(ps, stubborn) {
			return err
		}
	}
	return signalAll([]Host{h}, syscall.SIGKILL, func(p proc) bool { return !stubborn(p) })
}

// Restart stops the own processes of some hosts in order, all at once, and
// starts them again, as an upgrade does: machines go on. What was asked to stop
// is started again also if ctx ends meanwhile, or if another host does not stop.
func (l *Lab) Restart(ctx context.Context, binary string, hosts []Host) error {
	if err := Stop(context.WithoutCancel(ctx), hosts); err != nil {
		return errors.Join(err, l.launch(binary, hosts))
	}
	return l.start(ctx, binary, hosts)
}
