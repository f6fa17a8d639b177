package serve

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"runtime/pprof"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/program"
	"github.com/holdfast-cloud/holdfast/internal/turn"
)

// orderlyStop bounds an orderly stop: two waits for replicas that do not answer, and
// some. A service manager waits longer (deploy/systemd).
const orderlyStop = 25 * time.Second

// Run runs a host until ctx ends. Its machines go on. Where the host has to begin
// anew, as after a recovery of the control plane, it does so in this process.
//
// It returns within orderlyStop from the end of ctx. A host that has not stopped by then
// is to be ended as it is, which loses nothing that was flushed; kind Unavailable.
//
// A program that was sent to the host is on trial at first: if the host does not start
// with it, the process becomes the one before it again.
func Run(ctx context.Context, o Options) error {
	return within(ctx, orderlyStop, os.Stderr, func() error { return runHost(ctx, o) })
}

// within runs f and gives it limit to return once ctx has ended. Where it does not,
// the stacks of all that goes on are written to w.
func within(ctx context.Context, limit time.Duration, w io.Writer, f func() error) error {
	over := make(chan error, 1)
	go func() { over <- f() }()
	select {
	case err := <-over:
		return err
	case <-ctx.Done():
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case err := <-over:
		return err
	case <-t.C:
		werr := pprof.Lookup("goroutine").WriteTo(w, 1)
		return errors.Join(holdfast.Errorf(holdfast.Unavailable,
			"this host did not stop within %v and ends as it is; nothing that was flushed is lost, and what it waited for is written above: please report it", limit), werr)
	}
}

func runHost(ctx context.Context, o Options) error {
	place, err := program.Own()
	if err != nil {
		return err
	}
	trial := place.Trial(o.Config.DataDir)
	if back, err := trial.Starts(o.Version); back {
		return goBack(o.Log, place, errors.New("it was started too often"), err)
	} else if err != nil {
		o.Log.Warn("this program is on trial, and that could not be noted", "error", err)
	}
	for {
		h, err := Start(o)
		if err != nil {
			if back, terr := trial.GiveUp(o.Version, err); back {
				return goBack(o.Log, place, err, terr)
			}
			return err
		}
		select {
		case <-ctx.Done():
			h.Stop()
			return nil
		case o.order = <-h.again:
			h.Stop()
		case <-h.becomes:
			h.Stop()
			err := place.Become()
			o.Log.Error("the other program does not run; this one goes on", "error", errors.Join(err, trial.Fail(err)))
			o.order = nil
		}
	}
}

// goBack has the process become the program before this one, which has been put back.
func goBack(log *slog.Logger, place *program.Place, why, noted error) error {
	log.Error("this program was given up; the process becomes the one before it", "error", why, "noted", noted == nil)
	return errors.Join(why, place.Become())
}

// prove ends the trial of this process once this host is alive to the others, and
// gives the turn to the next.
func (h *Host) prove(m *member, boot holdfast.BootID) {
	self := h.dir.id.Host
	alive := func(s *cluster.State) bool { return s.Alive[self].Val.Boot == boot }
	for !m.node.Cluster.WaitFor(alive, endpointsEvery) {
		select {
		case <-m.done:
			return
		default:
		}
	}
	if err := h.program.Trial(h.dir.path).Pass(h.version); err != nil {
		h.log.Warn("this program has passed its trial, and that could not be noted", "error", err)
	}
	if err := turn.Give(m.kv, self); err != nil {
		h.log.Warn("the turn to begin anew was not given back, and ends by itself", "error", err)
	}
}

// become has Run stop this host and the process run what stands in the program's
// place.
func (h *Host) become() {
	select {
	case h.becomes <- struct{}{}:
	default: // it is about to
	}
}

// restart has Run stop this host and start it again, with an order to rebuild the
// control plane or with none.
func (h *Host) restart(o *recoveryOrder) {
	select {
	case h.again <- o:
	default: // it is about to
	}
}
