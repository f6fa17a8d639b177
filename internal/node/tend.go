package node

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// A disk of which a write or sync failed is given up by its store and opened
// anew: at once, then less and less often while that does not succeed. One that
// fails again and again rests (ADR 0049).
const (
	firstAgain = 500 * time.Millisecond // before the first attempt
	mostAgain  = time.Minute            // between two
	tooOften   = 5                      // failures within failMemory
	failMemory = time.Hour              // how long a failure counts, and is told of
)

// tended is the disks that have failed.
type tended struct {
	mu    sync.Mutex
	disks map[holdfast.DiskID]*failing
}

// failing is what is known of a disk that has failed.
type failing struct {
	failures []time.Duration // when, ascending; those that still count
	why      string          // the last
	down     bool            // it is given up
	opening  bool            // an attempt is under way
	tries    int             // attempts that did not succeed, since
	tried    string          // why the last did not
	due      time.Duration   // not before
	memory   *store.Memory   // of the store that was given up; of the attempt under way
}

// tendDisks begins to open disks anew that were given up, if it is time to. told
// says that the host should tell of its disks now; wait is until when it has to
// be called again.
func (n *Node) tendDisks() (told bool, wait time.Duration) {
	now := n.Clock.Now()
	wait = diskReport
	n.tended.mu.Lock()
	defer n.tended.mu.Unlock()
	used := make(map[holdfast.DiskID]bool)
	for _, st := range n.Volumes.Stores() {
		id := st.Identity().Disk
		used[id] = true
		f := n.tended.disks[id]
		if err := st.Err(); err != nil && (f == nil || !f.down) {
			f = n.failed(f, err, now)
			n.tended.disks[id] = f
			told = true
		} else if f == nil {
			continue
		} else if err == nil && f.down {
			f.down, f.tries = false, 0
			told = true
		}
		f.failures = slices.DeleteFunc(f.failures, func(at time.Duration) bool { return now-at > failMemory })
		if !f.down && len(f.failures) == 0 {
			delete(n.tended.disks, id)
		}
		n.tellFailing(id, f)
		if !f.down || f.opening || n.Reopen == nil {
			continue
		}
		if f.due > now {
			wait = min(wait, f.due-now)
			continue
		}
		f.opening = true
		n.tasks.Go(func() { n.reopen(st, f) })
	}
	for id := range n.tended.disks { // in any order: each is by itself
		if !used[id] { // it was taken back
			delete(n.tended.disks, id)
			n.Condition("disk-failing/"+id.String(), "", "")
		}
	}
	return told, wait
}

// failed notes that a disk was given up.
func (n *Node) failed(f *failing, err error, now time.Duration) *failing {
	if f == nil {
		f = &failing{}
	}
	f.down, f.why, f.tried = true, err.Error(), ""
	f.failures = append(f.failures, now)
	f.due = now + firstAgain
	if k := len(f.failures); k >= tooOften {
		f.due = max(f.due, f.failures[k-tooOften]+failMemory)
	}
	return f
}

// reopen opens a disk anew, gives it what the store that was given up still has
// in memory, and has its replicas served from it. One runs at a time for a disk.
func (n *Node) reopen(was *store.Store, f *failing) {
	if f.memory == nil {
		f.memory = was.Memory()
	}
	st, err := n.Reopen(was)
	if err == nil {
		st.OnFence(n.changed.Set)
		if kept := st.Recall(f.memory); n.Volumes.RenewStore(was, st, kept) {
			n.Log.Info("a disk that had failed is in use again", "disk", was.Identity().Disk.Short(), "replicas", len(st.Replicas()), "kept", len(kept))
		} else {
			_ = st.Close() // the host stops, or the disk was taken back
		}
	}
	n.tended.mu.Lock()
	f.opening = false
	if err == nil {
		f.memory = nil
	} else {
		f.tries++
		f.tried = err.Error()
		f.due = n.Clock.Now() + min(mostAgain, firstAgain<<min(f.tries, 10))
		n.Log.Warn("a disk that has failed cannot be opened anew yet", "disk", was.Identity().Disk.Short(), "error", err)
	}
	n.tended.mu.Unlock()
	n.changed.Set()
}

// tellFailing says what is the matter with a disk that has failed.
func (n *Node) tellFailing(id holdfast.DiskID, f *failing) {
	name := n.diskName(id)
	text := ""
	switch {
	case f.down && f.tried != "":
		text = fmt.Sprintf("%s has failed and cannot be opened anew: %s; this is tried again by itself, every minute at last; replace the disk if it stays so", name, f.tried)
	case f.down && len(f.failures) >= tooOften:
		text = fmt.Sprintf("%s has failed %d times within an hour and is left alone for as long: %s; replace it", name, len(f.failures), f.why)
	case f.down:
		text = fmt.Sprintf("%s has failed and is being opened anew: %s", name, f.why)
	case len(f.failures) > 0:
		text = fmt.Sprintf("%s has failed %s within an hour, but could be opened anew and is in use: %s; replace it if this goes on", name, times(len(f.failures)), f.why)
	}
	n.Condition("disk-failing/"+id.String(), "warning", text)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
