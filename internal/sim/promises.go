package sim

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/replica"
	"github.com/holdfast-cloud/holdfast/internal/transport"
)

// promises listens to what hosts answer one another: whoever has told that a replica
// promises an epoch acknowledges nothing to the writer of an earlier one any more,
// whatever its host has been through since (invariant 3).
type promises struct {
	s    *simulation
	told map[holdfast.ReplicaID]promised
}

type promised struct {
	epoch holdfast.Epoch
	by    holdfast.HostID
}

func newPromises(s *simulation) *promises {
	return &promises{s: s, told: make(map[holdfast.ReplicaID]promised)}
}

// replied takes what a host answers.
func (p *promises) replied(by holdfast.HostID, call, reply transport.Frame, err error) {
	if err != nil {
		return
	}
	switch call.Kind {
	case replica.KindPromise:
		if rep, err := replica.DecodeReport(reply.Head); err == nil && rep.Promise >= p.told[rep.Replica].epoch {
			p.told[rep.Replica] = promised{rep.Promise, by}
		}
	case replica.KindAppend, replica.KindSync:
		ask, _, err := replica.DecodeAsk(call.Head)
		if told := p.told[ask.Replica]; err == nil && ask.Epoch < told.epoch && !p.s.ending {
			p.s.fail("a replica on %s takes what a writer of epoch %d sends it, though it has promised %d (invariant 3)", p.s.nameOf(by), ask.Epoch, told.epoch)
		}
	}
}

// forget is that a disk of the host was put back to what it was some time ago.
func (p *promises) forget(h *host) {
	for id, t := range p.told {
		if t.by == h.rec.ID {
			delete(p.told, id)
		}
	}
}
