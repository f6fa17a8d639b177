package alert

import (
	"context"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Send tells a receiver something and returns what its server said. Kinds:
// Unavailable, it may be told later; Invalid or Denied, somebody has to change
// something first.
func Send(ctx context.Context, r *Receiver, m *Message, now time.Time) (answer string, err error) {
	switch r.Kind {
	case Webhook:
		return r.post(ctx, m, now)
	case Mail:
		return r.mail(ctx, m, now)
	}
	return "", holdfast.Errorf(holdfast.Invalid, "nobody here knows how to tell a %.20q", r.Kind)
}
