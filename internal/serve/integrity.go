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
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// integrityWait bounds how long a host may take to tell of its disks.
const integrityWait = 3 * time.Second

// Integrity implements httpapi.Integrity.
func (h *Host) Integrity(ctx context.Context, local bool) (v1.Integrity, error) {
	m, err := h.member()
	if err != nil {
		return v1.Integrity{}, err
	}
	st := m.node.Cluster.State()
	out := h.ownIntegrity(m, st)
	if !local {
		ctx, cancel := context.WithTimeout(ctx, integrityWait)
		defer cancel()
		var mu sync.Mutex
		out.Silent = m.everyOther(st, h.dir.id.Host, func(host cluster.Host, c *client.Client) error {
			x, err := c.Integrity(ctx, true)
			mu.Lock()
			defer mu.Unlock()
			out.Disks = append(out.Disks, x.Disks...)
			out.Replicas = append(out.Replicas, x.Replicas...)
			return err
		})
	}
	slices.SortFunc(out.Disks, func(a, b v1.DiskIntegrity) int { return slices.Compare([]byte(a.Disk), []byte(b.Disk)) })
	slices.SortFunc(out.Replicas, func(a, b v1.ReplicaIntegrity) int { return slices.Compare([]byte(a.Replica), []byte(b.Replica)) })
	return out, nil
}

// everyOther calls f for every other host that is alive, side by side, and
// returns those for which it failed.
func (m *member) everyOther(st *cluster.State, self holdfast.HostID, f func(cluster.Host, *client.Client) error) (silent []string) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for id, rec := range st.Hosts {
		if id == self || !st.AliveHost(id) {
			continue
		}
		wg.Go(func() {
			c := m.peer(rec.Val)
			defer c.Close()
			if err := f(rec.Val, c); err != nil {
				mu.Lock()
				silent = append(silent, rec.Val.Name)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(silent)
	return silent
}

func (h *Host) ownIntegrity(m *member, st *cluster.State) v1.Integrity {
	out := v1.Integrity{Disks: []v1.DiskIntegrity{}, Replicas: []v1.ReplicaIntegrity{}}
	for _, s := range m.node.Volumes.Stores() {
		now := s.Scrubbing()
		d := v1.DiskIntegrity{Disk: s.Identity().Disk.String(), Host: h.cfg.Name, Scrubbed: when(now.Last), Next: when(now.Next), Scrub: renderScrub(now)}
		out.Disks = append(out.Disks, d)
		faults := s.Faults()
		for _, r := range s.Replicas() {
			state := r.State()
			x := v1.ReplicaIntegrity{Replica: state.Replica.String(), Volume: nameOf(st, state.Volume), Host: h.cfg.Name, Disk: d.Disk, Proved: when(r.Proved()), Faults: []v1.Fault{}}
			if now.Replica.IsZero() || now.Replica == state.Replica {
				x.Scrub = d.Scrub
			}
			for _, f := range faults {
				if f.Replica == state.Replica {
					x.Faults = append(x.Faults, renderFault(f, x))
				}
			}
			out.Replicas = append(out.Replicas, x)
		}
	}
	return out
}

func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}

func renderScrub(s store.ScrubStatus) *v1.Scrub {
	if !s.Running {
		return nil
	}
	out := &v1.Scrub{Started: *when(s.Started), Done: s.Done, Total: s.Total, Rate: s.Rate, LeftSecs: int64(s.Left() / time.Second), Bad: s.Bad}
	if !s.Replica.IsZero() {
		out.Replica = s.Replica.String()
	}
	return out
}

func renderFault(f store.Fault, of v1.ReplicaIntegrity) v1.Fault {
	out := v1.Fault{Volume: of.Volume, Host: of.Host, Disk: of.Disk, Replica: of.Replica, Offset: int64(f.Addr) * holdfast.BlockSize, LSN: f.LSN.String(),
		Hop: f.Hop.String(), State: "bad", Known: f.Known, First: f.First.UTC(), Last: f.Last.UTC()}
	switch {
	case f.Repaired:
		out.State = "repaired"
	case f.Gone:
		out.State = "gone"
	case f.Nowhere:
		out.State = "lost"
	}
	return out
}

// ScrubDisk implements httpapi.Integrity.
func (h *Host) ScrubDisk(ctx context.Context, id holdfast.DiskID) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	for _, s := range m.node.Volumes.Stores() {
		if s.Identity().Disk == id {
			return s.Scrub(holdfast.ReplicaID{})
		}
	}
	st := m.node.Cluster.State()
	host := st.Disks[id].Val.Host
	if host == h.dir.id.Host || !st.AliveHost(host) {
		return holdfast.Errorf(holdfast.Unavailable, "disk %s is not in use now; 'holdfast disk list -o wide' says why", id.Short())
	}
	c := m.peer(st.Hosts[host].Val)
	defer c.Close()
	return c.ScrubDisk(ctx, id.String())
}

// ScrubVolume implements httpapi.Integrity.
func (h *Host) ScrubVolume(ctx context.Context, id holdfast.VolumeID, local bool) error {
	return h.onReplicas(ctx, id, local, func(s *store.Store, r holdfast.ReplicaID) error { return s.Scrub(r) },
		func(c *client.Client) error { return c.ScrubVolume(ctx, id.String(), true) })
}

// Acknowledge implements httpapi.Integrity.
func (h *Host) Acknowledge(ctx context.Context, id holdfast.VolumeID, local bool) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	return h.onReplicas(ctx, id, local, func(s *store.Store, r holdfast.ReplicaID) error {
		s.Acknowledge(r)
		m.node.Volumes.ForgetRot(s.Identity().Disk)
		return nil
	}, func(c *client.Client) error { return c.AcknowledgeFaults(ctx, id.String(), true) })
}

// onReplicas does something with every replica of a volume: here with those of
// this host, by remote at the other hosts that have one. It fails if it could be
// done nowhere, and otherwise tells of the hosts where it failed.
func (h *Host) onReplicas(_ context.Context, id holdfast.VolumeID, local bool, here func(*store.Store, holdfast.ReplicaID) error, remote func(*client.Client) error) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	done := 0
	for _, s := range m.node.Volumes.Stores() {
		for _, r := range s.Replicas() {
			if st := r.State(); st.Volume == id {
				if err := here(s, st.Replica); err != nil {
					return err
				}
				done++
			}
		}
	}
	if local {
		return nil
	}
	st := m.node.Cluster.State()
	rec := st.Volumes[id].Val
	asked := map[holdfast.HostID]bool{h.dir.id.Host: true}
	for _, ref := range append(append([]cluster.Replica(nil), rec.InSync...), rec.Others...) {
		if asked[ref.Host] || !st.AliveHost(ref.Host) {
			continue
		}
		asked[ref.Host] = true
		c := m.peer(st.Hosts[ref.Host].Val)
		if rerr := remote(c); rerr != nil {
			err = holdfast.Errorf(holdfast.KindOf(rerr), "host %s: %w", st.Hosts[ref.Host].Val.Name, rerr)
		} else {
			done++
		}
		c.Close()
	}
	if done == 0 && err == nil {
		err = holdfast.Errorf(holdfast.Unavailable, "no host with a copy of volume %s can be reached", rec.Name)
	}
	return err
}
