package serve

import "context"

// Run runs a host until ctx ends. Its machines go on. Where the host has to begin
// anew, as after a recovery of the control plane, it does so in this process.
func Run(ctx context.Context, o Options) error {
	for {
		h, err := Start(o)
		if err != nil {
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
			err := h.program.Become()
			o.Log.Error("the other program does not run; this one goes on", "error", err)
			o.order = nil
		}
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
