package upgrade

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/health"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// harmless are the warnings with which a host may begin anew: they say nothing of
// how many copies there are and what could be lost. Whatever is not here stops an
// upgrade, a condition of a later version too.
var harmless = []string{"backup-failed", "backup-late", "disk-filling", "swap", "iscsi-portal", "iscsi-refused", "pool-racks", "volume-forced", "clock-skew"}

// Unsafe says why no host's process should begin anew now: the cluster is not whole.
// A host that is excepted, because it is what ails and should get another program
// therefore, is no reason itself, as long as the others are whole without it.
func Unsafe(s *cluster.State, work []string, except holdfast.HostID) (out []string) {
	for _, rec := range s.SortedHosts() {
		if h := rec.Val; !s.AliveHost(h.ID) && h.ID != except {
			out = append(out, fmt.Sprintf("host %s in rack %s is away: wait until it is back, or remove it ('holdfast host remove %s --lost')", h.Name, h.Domain, h.Name))
		}
	}
	v := placement.Look(s)
	for _, vol := range v.Volumes {
		if why := short(v, vol, except); why != "" {
			out = append(out, why)
		}
	}
	if !except.IsZero() {
		return out // what else is wrong may be that host's doing
	}
	for _, c := range health.Summary(s, nil).Conditions {
		for _, x := range append([]health.Condition{c}, c.Effects...) {
			kind := x.ID // NAME, NAME/WHAT or NAME@HOST
			if i := strings.IndexAny(kind, "/@"); i >= 0 {
				kind = kind[:i]
			}
			told := kind == "rack-away" || kind == "host-away" || kind == "volume-one-copy" || kind == "volume-degraded" || kind == "volume-stalled" || kind == "volume-away"
			if !told && x.Severity != health.Info && !(x.Severity == health.Warning && slices.Contains(harmless, kind)) {
				out = append(out, x.Text)
			}
		}
	}
	return append(out, work...)
}

// short says that a volume has fewer copies than it should, but for one on a host
// that is excepted.
func short(v *placement.View, vol cluster.Volume, except holdfast.HostID) string {
	have, spared := 0, 0
	for _, r := range v.InSync(vol) {
		if r.Host != except {
			have++
		}
	}
	if !except.IsZero() && slices.ContainsFunc(slices.Concat(vol.InSync, vol.Others), func(r cluster.Replica) bool { return r.Host == except }) {
		spared = 1
	}
	if have+spared >= vol.Copies && (have > 0 || vol.Copies <= 1) {
		return ""
	}
	return fmt.Sprintf("volume %s has %d of %d copies: wait until it has all ('holdfast status' tells how far that is)", vol.Name, len(v.InSync(vol)), vol.Copies)
}
