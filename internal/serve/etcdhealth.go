package serve

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/kv/etcd"
)

// watchEvery is how often the host that makes the plans looks at what it tells for
// all; an external etcd is asked how it is by the others in one of so many turns.
const (
	watchEvery  = 5 * time.Second
	watchOthers = 6
)

// Shares of its quota, in percent, from which an external etcd is said to fill up.
const etcdFilling = 80

// watchEtcd tells how an external etcd is. That a member is away, or it fills up, is
// told by the host that makes the plans, once for all. That it cannot be reached, or
// is full, shows in every host's status: no record can say so then. It ends with the
// member.
func (h *Host) watchEtcd(m *member) {
	for turn := 0; ; turn++ {
		select {
		case <-m.done:
			return
		case <-time.After(watchEvery):
		}
		if m.struck.Load() {
			return
		}
		if !m.node.Lease().Valid() {
			why := whyNone(m.kv.Look())
			m.away.Store(&why)
			continue
		}
		m.away.Store(nil)
		leads := m.node.Cluster.State().Leader == h.dir.id.Host
		if !leads {
			m.node.Condition("etcd-member-away", "warning", "")
			m.node.Condition("etcd-filling", "warning", "")
			if turn%watchOthers != 0 && m.full.Load() == nil {
				continue
			}
		}
		seen := m.kv.Look()
		full, filling := roomText(seen)
		if m.full.Store(nil); full != "" {
			m.full.Store(&full)
		}
		if leads {
			m.node.Condition("etcd-member-away", "warning", awayText(seen))
			m.node.Condition("etcd-filling", "warning", filling)
		}
	}
}

// whyAway is what the last look at an etcd that cannot be used found, to stand
// behind a sentence.
func (m *member) whyAway() string {
	if why := m.away.Load(); why != nil && *why != "" {
		return ": " + *why
	}
	return ""
}

// whyNone says why an etcd cannot be used as a whole: what is said of the first
// endpoint, and how many say the like.
func whyNone(seen []etcd.Seen) string {
	var first string
	n := 0
	for _, s := range seen {
		switch {
		case s.Err != nil:
			first, n = cmp.Or(first, s.Err.Error()), n+1
		case !s.Leads:
			first, n = cmp.Or(first, "etcd "+s.URL+" has no leader: too few of its members are there"), n+1
		}
	}
	if n > 1 {
		first += fmt.Sprintf(" (and likewise %d more of %d)", n-1, len(seen))
	}
	return first
}

// awayText says which endpoints are not to be had; empty if all are, or all are
// not: then nobody reads it.
func awayText(seen []etcd.Seen) string {
	var away []string
	for _, s := range seen {
		switch {
		case s.Err != nil:
			away = append(away, s.Err.Error())
		case !s.Leads:
			away = append(away, "etcd "+s.URL+" has no leader")
		}
	}
	if len(away) == 0 || len(away) == len(seen) {
		return ""
	}
	return fmt.Sprintf("%d of %d members of the external etcd that holds the control plane cannot be used: %s", len(away), len(seen), strings.Join(away, "; "))
}

// roomText says whether an etcd is full, or how it fills up.
func roomText(seen []etcd.Seen) (full, filling string) {
	for _, s := range seen {
		switch {
		case s.Err != nil:
		case s.Full:
			full = fmt.Sprintf("the external etcd that holds the control plane is full (%d of %d MiB at %s): it takes no changes until its owner compacts, defragments and disarms its alarm", s.Used>>20, s.Quota>>20, s.URL)
		case s.Used > s.Quota/100*etcdFilling && filling == "":
			filling = fmt.Sprintf("the external etcd that holds the control plane is filling up: %d of %d MiB at %s; its owner must compact and defragment it, Holdfast never does", s.Used>>20, s.Quota>>20, s.URL)
		}
	}
	return full, filling
}
