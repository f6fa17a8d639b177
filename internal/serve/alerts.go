package serve

import (
	"crypto/rand"

	"github.com/holdfast-cloud/holdfast/internal/alert"
	"github.com/holdfast-cloud/holdfast/internal/clock"
)

// alerts are who is told what is wrong in the cluster.
func (h *Host) alerts() (*alert.Store, error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	return &alert.Store{KV: m.kv, Clock: clock.System{}, Rand: rand.Reader}, nil
}

// alertLost says that one of them cannot be reached.
func (h *Host) alertLost(receiver, text string) {
	if m, err := h.member(); err == nil {
		m.node.Condition("alert-receiver/"+receiver, "warning", text)
	}
}
