package serve

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// workWait bounds how long a host may take to tell what it is at: nobody waits
// longer for the status than that because of it.
const workWait = time.Second

// Work implements httpapi.Reader.
func (h *Host) Work(ctx context.Context, local bool) (v1.Works, error) {
	m, err := h.member()
	if err != nil {
		return v1.Works{}, err
	}
	st := m.node.Cluster.State()
	out := v1.Works{Work: h.ownWork(m, st)}
	if local {
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, workWait)
	defer cancel()
	var mu sync.Mutex
	at := atWork(st)
	out.Silent = m.everyOther(st, h.dir.id.Host, func(host cluster.Host, c *client.Client) error {
		if !at[host.ID] {
			return nil
		}
		x, err := c.Work(ctx, true)
		mu.Lock()
		defer mu.Unlock()
		out.Work = append(out.Work, x.Work...)
		return err
	})
	return out, nil
}

// atWork is the hosts that have something to tell of, so that not all are asked
// whenever somebody looks: those that write a volume of which a living copy is
// not in sync, and those that say that they scrub, or have tasks.
func atWork(st *cluster.State) map[holdfast.HostID]bool {
	out := make(map[holdfast.HostID]bool)
	for _, v := range st.Volumes {
		if slices.ContainsFunc(v.Val.Others, func(r cluster.Replica) bool { return st.AliveHost(r.Host) }) {
			out[v.Val.Writer] = true
		}
	}
	for id, a := range st.Alive {
		if a.Val.Tasks > 0 || slices.ContainsFunc(a.Val.Disks, func(d cluster.DiskUse) bool { return d.Scrubs }) {
			out[id] = true
		}
	}
	return out
}

// ownWork is what this host is at.
func (h *Host) ownWork(m *member, st *cluster.State) []v1.Work {
	out := append([]v1.Work{}, h.taskWork(st)...)
	for _, c := range m.node.Volumes.Mendings() {
		x := v1.Work{Kind: "rebuild", Volume: nameOf(st, c.Volume), VolumeID: c.Volume.String(), Host: st.Hosts[c.Host].Val.Name,
			Rebuild: v1.Rebuild{Done: c.Done, Total: c.Bytes, Rate: c.Rate, LeftSecs: int64(c.Left / time.Second), Part: c.Part, Parts: c.Parts,
				Waits: c.Waits, Ahead: c.Ahead, Limit: c.Limit, LimitedBy: c.LimitedBy}}
		if c.Resync {
			x.Kind = "resync"
		}
		out = append(out, x)
	}
	for _, s := range m.node.Volumes.Stores() {
		now := s.Scrubbing()
		if !now.Running {
			continue
		}
		id := s.Identity().Disk
		x := v1.Work{Kind: "scrub", Host: h.cfg.Name, Disk: h.cfg.Name + ":" + st.Disks[id].Val.Path, Bad: now.Bad,
			Rebuild: v1.Rebuild{Total: now.Total, Rate: now.Rate, LeftSecs: int64(now.Left() / time.Second)}}
		if now.Total > 0 {
			x.Done = min(float64(now.Done)/float64(now.Total), 1)
		}
		for _, r := range s.Replicas() {
			if !now.Replica.IsZero() && r.State().Replica == now.Replica {
				x.VolumeID, x.Volume = r.State().Volume.String(), nameOf(st, r.State().Volume)
			}
		}
		out = append(out, x)
	}
	return out
}

// nameOf is a volume's name, or its identity if it is not known.
func nameOf(st *cluster.State, id holdfast.VolumeID) string {
	if v, ok := st.Volumes[id]; ok {
		return v.Val.Name
	}
	return id.String()
}
