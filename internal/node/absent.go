package node

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// absent is the disks of this host that could not be opened when its process
// began: something is not mounted yet, or the device gives errors. Each is tried
// again as one that has failed is (ADR 0049).
type absent struct {
	mu    sync.Mutex
	disks []*absentDisk
}

// absentDisk is one of them.
type absentDisk struct {
	path    string
	open    func() (gone bool, err error)
	since   time.Duration
	tries   int
	due     time.Duration // not before
	opening bool          // an attempt is under way
}

// AwaitDisk has a disk opened that could not be when the process began, for why:
// open is tried again by itself, less and less often, until it succeeds, or says
// that the disk is gone: it is no disk of this host any more. open may wait; it
// is called by one task at a time, while the node runs.
func (n *Node) AwaitDisk(path string, why error, open func() (gone bool, err error)) {
	now := n.Clock.Now()
	d := &absentDisk{path: path, open: open, since: now, due: now + 2*firstAgain}
	n.absent.mu.Lock()
	n.absent.disks = append(n.absent.disks, d)
	n.absent.mu.Unlock()
	n.Log.Error("a disk is not in use, and will be tried again", "path", path, "error", why)
	n.tellAbsent(d, why)
	n.changed.Set()
}

// tryAbsent begins to open absent disks, if it is time to; wait is until when it
// has to be called again.
func (n *Node) tryAbsent() (wait time.Duration) {
	now := n.Clock.Now()
	wait = diskReport
	n.absent.mu.Lock()
	defer n.absent.mu.Unlock()
	for _, d := range n.absent.disks {
		switch {
		case d.opening:
		case d.due > now:
			wait = min(wait, d.due-now)
		default:
			d.opening = true
			n.tasks.Go(func() { n.openAbsent(d) })
		}
	}
	return wait
}

// openAbsent tries one disk.
func (n *Node) openAbsent(d *absentDisk) {
	gone, err := d.open()
	now := n.Clock.Now()
	n.absent.mu.Lock()
	d.opening = false
	d.tries++
	d.due = now + min(mostAgain, firstAgain<<min(d.tries+1, 10))
	if err == nil || gone {
		n.absent.disks = slices.DeleteFunc(n.absent.disks, func(o *absentDisk) bool { return o == d })
	}
	n.absent.mu.Unlock()
	switch {
	case gone:
		n.Log.Info("a disk that could not be opened is none of this host any more", "path", d.path)
	case err == nil:
		n.Log.Info("a disk that could not be opened is in use now", "path", d.path, "after", now-d.since, "tries", d.tries)
	default:
		n.Log.Warn("a disk cannot be opened yet", "path", d.path, "tries", d.tries, "error", err)
	}
	if gone {
		err = nil
	}
	n.tellAbsent(d, err)
	n.changed.Set()
}

// tellAbsent says why a disk is not in use; nil: it is, or not this host's.
func (n *Node) tellAbsent(d *absentDisk, why error) {
	text := ""
	if why != nil {
		text = fmt.Sprintf("disk %s of host %s is not in use: %v; it is tried again by itself, every minute at last", d.path, n.hostName(), why)
	}
	n.Condition("disk/"+d.path, "error", text)
}
