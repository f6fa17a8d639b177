package upgrade

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/health"
)

// risked are the racks of which a host will begin anew. On the way back a host may
// ail, which makes a risk of all others: then it is about the next one alone.
func (a Ask) risked(p Plan) (out []holdfast.FaultDomain) {
	for _, r := range p.Racks {
		if slices.ContainsFunc(r.Steps, func(s Step) bool { return !s.Done && s.Skipped == "" }) {
			if out = append(out, r.Domain); a.Back {
				break
			}
		}
	}
	return out
}

// Risks are what would be lost or stand still if a host of one of these racks did not
// come back, by the plans for that.
func Risks(s *cluster.State, racks ...holdfast.FaultDomain) (out []string) {
	for _, j := range health.Summary(s, nil).Verdict.Racks {
		if !j.Can && !j.Witness && slices.ContainsFunc(racks, func(d holdfast.FaultDomain) bool { return d.String() == j.Name }) {
			out = append(out, fmt.Sprintf("if rack %s did not come back: %s", j.Name, strings.Join(j.Reasons, "; ")))
		}
	}
	for _, v := range s.SortedVolumes() {
		if !v.Val.Deleted && s.InMemory(v.Val.Pool) && len(v.Val.InSync) == 1 && slices.Contains(racks, s.RackOf(v.Val.InSync[0].Host)) {
			out = append(out, fmt.Sprintf("volume %s is in the memory of host %s and nowhere else: it is lost when that begins anew", v.Val.Name, s.Hosts[v.Val.InSync[0].Host].Val.Name))
		}
	}
	if id, ok := soleKeeper(s); ok && slices.Contains(racks, s.RackOf(id)) {
		out = append(out, fmt.Sprintf("host %s alone has the cluster key, in its memory: unless a key_file is in its configuration, encrypted volumes are locked when it has begun anew, until 'holdfast cluster key unlock'", s.Hosts[id].Val.Name))
	}
	return out
}

// soleKeeper is the host that is the only one with the cluster key.
func soleKeeper(s *cluster.State) (id holdfast.HostID, ok bool) {
	if s.Keyring.Mod == 0 {
		return id, false
	}
	key, n := s.Keyring.Val.Current().ID, 0
	for _, a := range s.SortedAlive() {
		if slices.Contains(a.Val.Keys, key) {
			id = a.Val.Host
			n++
		}
	}
	return id, n == 1
}
