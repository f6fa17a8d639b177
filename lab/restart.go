package lab

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// stopTimeout bounds an orderly stop of a host's own process.
const stopTimeout = 30 * time.Second

// Stop ends the hosts' own processes in order (SIGTERM), as a service manager
// does; their machines go on. It returns when they are gone.
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
				return holdfast.Errorf(holdfast.Unavailable, "host %s did not stop within %v; its log is %s", h.Name, stopTimeout, h.Log())
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

// Restart stops the own processes of some hosts in order, all at once, and
// starts them again, as an upgrade does: machines go on. What was asked to stop
// is started again also if ctx ends meanwhile, or if another host does not stop.
func (l *Lab) Restart(ctx context.Context, binary string, hosts []Host) error {
	if err := Stop(context.WithoutCancel(ctx), hosts); err != nil {
		return errors.Join(err, l.launch(binary, hosts))
	}
	return l.start(ctx, binary, hosts)
}
