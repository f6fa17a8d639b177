package lab

import (
	"context"
	"os"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/client"
)

// Destroy makes the disks of hosts that are dead go for good; with own also all
// that the hosts knew themselves, their identity included, so that they are like
// computers that were just unpacked and configured.
func Destroy(hosts []Host, own bool) error {
	for _, h := range hosts {
		if word, _ := h.condition(); word != isDead {
			return holdfast.Errorf(holdfast.Conflict, "host %s is %s; only a dead one's disks are destroyed", h.Name, word)
		}
		gone := []string{h.Disk()}
		if own {
			gone = append(gone, h.Data(), h.image())
		}
		for _, path := range gone {
			if err := os.RemoveAll(path); err != nil {
				return holdfast.Errorf(holdfast.IO, "destroy %s: %w", path, err)
			}
		}
	}
	return nil
}

// Admit makes new hosts members, with the calls that a person makes: by a code
// from a member that answers, and a disk of that size each.
func (l *Lab) Admit(ctx context.Context, member Host, hosts []Host, diskSize int64) error {
	first := client.Socket(member.Socket())
	defer first.Close()
	for _, h := range hosts { // one at a time: one may become a voter
		if err := h.join(ctx, first); err != nil {
			return err
		}
	}
	return each(hosts, func(h Host) error { return h.addDisk(ctx, diskSize) })
}
