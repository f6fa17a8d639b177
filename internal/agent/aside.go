package agent

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// setAside begins to make a volume of its own of a replica here that its volume
// was forced open without, unless that is under way. What fails is tried again
// when this is next looked at.
func (a *Agent) setAside(rec cluster.Volume, lost holdfast.ReplicaID) {
	a.mu.Lock()
	busy := a.asides[lost]
	a.asides[lost] = true
	a.mu.Unlock()
	if busy || a.SetAside == nil {
		return
	}
	a.tasks.Go(func() {
		if err := a.SetAside(rec.ID, lost); err != nil {
			a.Log.Warn("a copy that its volume was forced open without could not be set aside yet", "volume", rec.Name, "replica", lost.Short(), "error", err)
		} else {
			a.Log.Info("a copy that its volume was forced open without is set aside", "volume", rec.Name, "replica", lost.Short())
		}
		a.mu.Lock()
		delete(a.asides, lost)
		a.mu.Unlock()
	})
}
