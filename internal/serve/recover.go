package serve

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/kept"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// recoveryOrder is a recovery to be made when the host has stopped its work. It is in
// memory only: the records may be sealed on the disk under a key that is not.
type recoveryOrder struct {
	records records
	last    int // the incarnation that this host is in, which the records may not know yet
	stay    map[holdfast.HostID]bool
	found   map[holdfast.ReplicaID]cluster.Found
	keys    []keyring.Key // to have on the ring afterwards
	adopt   map[holdfast.DiskID]string

	external bool // the control plane that is lost was in an external etcd
}

// records are where a recovery begins.
type records struct {
	kept.Copy
	source string
	seen   time.Time // when this host last knew of none newer; zero: it knows no better than Made
}

// reachTime bounds the look for other hosts that are left.
const reachTime = 2 * time.Second

// RecoveryPlan implements httpapi.Recoverer.
func (h *Host) RecoveryPlan(ctx context.Context, from httpapi.RecoverFrom) (v1.Recovery, error) {
	_, p, err := h.planRecovery(ctx, from)
	return p, err
}

// Recover implements httpapi.Recoverer.
func (h *Host) Recover(ctx context.Context, name string, from httpapi.RecoverFrom) (v1.Recovery, error) {
	o, p, err := h.planRecovery(ctx, from)
	if err != nil {
		return p, err
	}
	if name != p.Cluster {
		return p, holdfast.Errorf(holdfast.Invalid, "nothing was done: this cluster is %s, not %s", p.Cluster, name)
	}
	h.log.Warn("the control plane is rebuilt here", "incarnation", p.Incarnation, "revision", p.Revision, "source", p.Source)
	p.State = "begun"
	time.AfterFunc(answerFirst, func() {
		h.mu.Lock()
		m := h.run
		h.mu.Unlock()
		if m != nil { // whoever waits for a majority waits in vain
			m.kv.Close()
		}
		h.restart(o)
	})
	return p, nil
}

// answerFirst lets the answer out before the API stops with the host.
const answerFirst = 100 * time.Millisecond

func (h *Host) planRecovery(ctx context.Context, from httpapi.RecoverFrom) (*recoveryOrder, v1.Recovery, error) {
	if len(from.Disks) > 0 {
		return h.planFromDisks(ctx, from)
	}
	h.mu.Lock()
	m := h.run
	h.mu.Unlock()
	setBack := m != nil && holdfast.IsKind(m.node.Cluster.Err(), holdfast.Damaged)
	if m != nil && m.ms.Load().External && m.node.Lease().Valid() && !setBack {
		return nil, v1.Recovery{}, holdfast.Errorf(holdfast.Conflict, "the external etcd answers; there is nothing to recover")
	}
	if m != nil && m.node.Lease().Valid() && !setBack {
		return nil, v1.Recovery{}, holdfast.Errorf(holdfast.Conflict, "the control plane has its majority and answers; there is nothing to recover. To strike what is lost use 'holdfast rack remove --lost'")
	}
	ms, err := h.dir.membership()
	if err != nil {
		return nil, v1.Recovery{}, err
	}
	if ms == nil {
		return nil, v1.Recovery{}, holdfast.Errorf(holdfast.Conflict, "this host is in no cluster; there is nothing to recover. With disks of a lost host in it, name them with --from-disk")
	}
	o := &recoveryOrder{last: ms.Incarnation}
	if o.records, o.keys, err = h.gather(m, *ms, from.Key, setBack); err != nil {
		return nil, v1.Recovery{}, err
	}
	if move, ok := cluster.MoveIn(o.records.Items); ok && !ms.External {
		if m != nil && h.arrived(m, move) == nil {
			return nil, v1.Recovery{}, holdfast.Errorf(holdfast.Conflict, "the control plane has moved into the external etcd, which answers; there is nothing to recover")
		}
		o.last = max(o.last, move.Incarnation) // whatever became of that
	}
	if ms.Ended > max(o.last, o.records.Incarnation) {
		return nil, v1.Recovery{}, holdfast.Errorf(holdfast.Conflict, "the control plane was rebuilt on another host already (incarnation %d); this one cannot do so again beside it", ms.Ended)
	}
	if o.found, err = h.examine(m, *ms); err != nil {
		return nil, v1.Recovery{}, err
	}
	creds, err := auth.LoadCredentials(h.dir.file("pki"), ms.credential())
	if err != nil {
		return nil, v1.Recovery{}, err
	}
	if o.stay, err = h.survivors(ctx, creds, o, m != nil && ms.Member, setBack); err != nil {
		return nil, v1.Recovery{}, err
	}
	if o.external = ms.External; ms.External && !setBack {
		if err := h.nobodyReaches(ctx, creds, o); err != nil {
			return nil, v1.Recovery{}, err
		}
	}
	p, err := cluster.PlanRecovery(o.records.Items, o.records.Rev, h.survivor(o, h.record(creds)))
	if err != nil {
		return nil, v1.Recovery{}, err
	}
	return o, h.renderRecovery(p, o), nil
}

func (h *Host) survivor(o *recoveryOrder, self cluster.Host) cluster.Survivor {
	self.Peer, self.Client, self.Voter = h.peerURL(), h.clientURL(), true
	self.Witness = h.cfg.Witness
	return cluster.Survivor{Self: self, Last: o.last, Stay: o.stay, Found: o.found, Adopt: o.adopt, Wall: time.Now(), Chance: func(n uint32) uint32 {
		var b [4]byte
		rand.Read(b[:])
		return binary.LittleEndian.Uint32(b[:]) % n
	}}
}

// gather finds the newest records on this host: what its own member of the
// control plane holds, or the copy that it kept. The member of one that was set back
// holds others than were promised, however far its revision went on since.
func (h *Host) gather(m *member, ms membership, k httpapi.NewKey, setBack bool) (r records, keys []keyring.Key, err error) {
	if m != nil {
		for _, id := range m.node.Keys.IDs() {
			if key, ok := m.node.Keys.Get(id); ok {
				keys = append(keys, key)
			}
		}
	}
	b, head, seen, keptErr := h.shelf().Newest()
	if keptErr == nil && head.Cluster != ms.Cluster {
		keptErr = holdfast.Errorf(holdfast.Invalid, "the kept records are of another cluster, %s", head.Name)
	}
	if keptErr == nil && head.Key != nil {
		if keys, err = h.withKey(keys, *head.Key, k); err != nil {
			return r, nil, err
		}
	}
	if m != nil && m.etcd.Load() != nil {
		items, incarnation, rev, err := cluster.ReadLasting(m.etcd.Load().Local)
		own := kept.Head{Incarnation: incarnation, Rev: rev}
		if err == nil && (keptErr != nil || !setBack && !head.Newer(&own)) {
			own.Cluster, own.Name, own.Made = ms.Cluster, ms.Name, time.Now().UTC()
			r = records{kept.Copy{Head: own, Items: items}, "this host's member of the control plane", time.Time{}}
			if keptErr == nil && seen.After(head.Made) {
				r.seen = seen
			}
			return r, keys, nil
		}
	}
	if keptErr != nil {
		return r, nil, holdfast.Errorf(holdfast.KindOf(keptErr), "this host has no records of the cluster to begin with: %w; try another host that is left", keptErr)
	}
	c, err := h.openKept(b, head, keys)
	return records{c, "the records that this host kept", seen}, keys, err
}

// withKey adds the cluster key that seals the records, if it is not in memory.
func (h *Host) withKey(keys []keyring.Key, from keyring.Source, k httpapi.NewKey) ([]keyring.Key, error) {
	if slices.ContainsFunc(keys, func(have keyring.Key) bool { return have.ID() == from.ID }) {
		return keys, nil
	}
	var key keyring.Key
	switch {
	case k.Key != nil:
		key = *k.Key
	case k.Passphrase != nil && from.Argon != nil:
		var err error
		if key, err = h.derive(*from.Argon, k.Passphrase); err != nil {
			return nil, err
		}
	case h.cfg.KeyFile != "" && from.Argon == nil:
		var err error
		if key, err = readKeyFile(h.cfg.KeyFile); err != nil {
			return nil, err
		}
	case from.Argon != nil:
		return nil, holdfast.Errorf(holdfast.Denied, "the kept records are sealed with the cluster key, which comes from a passphrase; give it with --passphrase-file (- for standard input)")
	default:
		return nil, holdfast.Errorf(holdfast.Denied, "the kept records are sealed with the cluster key; give its file with --file")
	}
	if key.ID() != from.ID {
		return nil, holdfast.Errorf(holdfast.Denied, "that is not the cluster key which the kept records are sealed with (%s)", from.ID.Short())
	}
	return append(keys, key), nil
}

func (h *Host) openKept(b []byte, head kept.Head, keys []keyring.Key) (kept.Copy, error) {
	if head.Key == nil {
		key, err := kept.HostKey(h.dir.file("pki"), false, nil)
		if err != nil {
			return kept.Copy{}, err
		}
		return kept.Open(b, key)
	}
	for _, k := range keys {
		if k.ID() == head.Key.ID {
			return kept.Open(b, k)
		}
	}
	return kept.Copy{}, holdfast.Errorf(holdfast.Denied, "the cluster key that seals the kept records was not given")
}

// examine says how the replicas on this host's disks stand. A disk in memory ends
// with the process's work: what is on it is not counted on.
func (h *Host) examine(m *member, ms membership) (map[holdfast.ReplicaID]cluster.Found, error) {
	out := make(map[holdfast.ReplicaID]cluster.Found)
	if m != nil {
		m.mu.Lock()
		stores := slices.Clone(m.stores)
		m.mu.Unlock()
		for _, st := range stores {
			look(out, st, slices.ContainsFunc(ms.RAM, func(r ramDisk) bool { return r.Path == st.path }))
		}
		return out, nil
	}
	for _, path := range ms.Disks { // its work could not begin: nobody else has them open
		st, err := h.openAlone(ms, path)
		if err != nil {
			h.log.Warn("a disk cannot be read for the recovery", "path", path, "error", err)
			continue
		}
		look(out, st, false)
		if err := st.close(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// look notes how the replicas of a disk stand.
func look(out map[holdfast.ReplicaID]cluster.Found, st opened, memory bool) {
	for _, r := range st.Replicas() {
		s := r.State()
		f := cluster.Found{Promise: s.Promise, Last: lastEpoch(s.History), Prefix: s.Prefix}
		switch {
		case memory:
			f.Wrong = "it is on a disk in memory, which ends when this host begins anew"
		case st.Err() != nil:
			f.Wrong = "its disk failed: " + st.Err().Error()
		case s.Damage != "":
			f.Wrong = "it is damaged: " + s.Damage
		case s.Building:
			f.Wrong = "it was being built and is not complete"
		}
		out[s.Replica] = f
	}
}

func lastEpoch(h []record.Start) holdfast.Epoch {
	if len(h) == 0 {
		return 0
	}
	return h[len(h)-1].Epoch
}

// survivors finds the other hosts that are left: those that answer and prove who
// they are; votes says that this host's own member of the control plane works.
// Kind Conflict: together they could have a majority, or one is in a later
// incarnation.
func (h *Host) survivors(ctx context.Context, creds auth.Credentials, o *recoveryOrder, votes, setBack bool) (map[holdfast.HostID]bool, error) {
	members, last := cluster.HostsIn(o.records.Items), max(o.last, o.records.Incarnation)
	stay := make(map[holdfast.HostID]bool)
	var mu sync.Mutex
	var later string
	var wg sync.WaitGroup
	for _, host := range members {
		if host.ID == h.dir.id.Host {
			continue
		}
		wg.Go(func() {
			id, ok := whoAnswers(ctx, host.APIAddr, creds)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case ok && id.Incarnation > last:
				later = host.Name
			case ok && id.Host == host.ID && auth.SameHash(id.KeyHash, host.CertKey):
				stay[host.ID] = true
			}
		})
	}
	wg.Wait()
	if later != "" {
		return nil, holdfast.Errorf(holdfast.Conflict, "the control plane was rebuilt on host %s already; this host has only to reach it", later)
	}
	all, here := 0, 0
	var names []string
	for _, host := range members {
		if host.Voter {
			all++
			if host.ID == h.dir.id.Host && votes || stay[host.ID] {
				here++
				names = append(names, host.Name)
			}
		}
	}
	if here > all/2 && !setBack {
		return nil, holdfast.Errorf(holdfast.Conflict, "%d of %d members of the control plane answer (%v): they have a majority and need no recovery; see 'holdfast status' there", here, all, names)
	}
	return stay, nil
}

// whoAnswers asks who serves the API at an address, whether or not it lets this
// host in.
func whoAnswers(ctx context.Context, addr string, creds auth.Credentials) (id auth.Identity, ok bool) {
	conf := auth.ClientTLS(creds, func(who auth.Identity) error {
		id, ok = who, true
		return nil
	})
	conf.NextProtos = []string{"http/1.1"}
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: reachTime}, Config: conf}
	if c, err := d.DialContext(ctx, "tcp", addr); err == nil {
		c.Close()
	}
	return id, ok
}

func (h *Host) renderRecovery(p *cluster.RecoveryPlan, o *recoveryOrder) v1.Recovery {
	out := emptyRecovery("planned", p.Cluster.Name, h.cfg.Name)
	out.Incarnation, out.Source, out.Revision, out.Lines = p.Cluster.Incarnation, o.records.source, int64(o.records.Rev), p.Lines()
	if o.records.Host != (holdfast.HostID{}) {
		out.Made = &o.records.Made
	}
	if !o.records.seen.IsZero() {
		out.Seen = &o.records.seen
	}
	for _, x := range p.Stay {
		out.Stay = append(out.Stay, x.Name)
	}
	for _, x := range p.Shut {
		out.Shut = append(out.Shut, v1.RecoveryHost{Name: x.Name, Rack: x.Domain.Rack})
	}
	for _, v := range p.Volumes {
		n := 0
		if v.Outlook == cluster.Served || v.Outlook == cluster.Short {
			n = len(v.From)
		}
		out.Volumes = append(out.Volumes, v1.RecoveryVolume{Volume: v.Volume.Name, Size: int64(v.Volume.Blocks) * holdfast.BlockSize, State: string(v.Outlook),
			Why: v.Why, Copies: n, Wanted: v.Volume.Copies, Epoch: uint32(v.Volume.Epoch), Next: uint32(v.Epoch)})
	}
	for _, v := range p.VMs {
		if v.Power == cluster.On {
			out.VMs = append(out.VMs, v.Name)
		}
	}
	out.Warnings = warnings(p, o)
	return out
}

// warnings are what a recovery cannot know, or cannot have back.
func warnings(p *cluster.RecoveryPlan, o *recoveryOrder) []string {
	out := []string{}
	if o.external {
		out = append(out, "the control plane leaves the external etcd and is on the cluster's own hosts from now on; it does not go back. Take --etcd and kv.endpoints out of every host's configuration, and see to it that the old etcd never comes back with these records: delete what is under the prefix, or the etcd")
	}
	since := o.records.Made
	if o.records.seen.After(since) || o.records.Host == (holdfast.HostID{}) {
		since = o.records.seen
	}
	when := "since this host was cut off from them"
	if !since.IsZero() {
		when = "after " + since.UTC().Format("2006-01-02 15:04:05Z") + " by this host's clock"
	}
	out = append(out, fmt.Sprintf("what the lost hosts did %s cannot be known: if they went on without this host, what was made and written there since is not here", when))
	if have := o.records.Incarnation; have < o.last {
		out = append(out, fmt.Sprintf("the records are of incarnation %d of the control plane, and this host was in incarnation %d: nothing that was made or changed there is in them; another host that is left may know more", have, o.last))
	}
	for _, v := range p.Volumes {
		for _, x := range v.From {
			f, here := o.found[x.ID]
			if here && f.Promise > v.Volume.Epoch {
				out = append(out, fmt.Sprintf("volume %s: the replica here has promised epoch %d, the records know %d: it was opened after they were kept", v.Volume.Name, f.Promise, v.Volume.Epoch))
			} else if here && v.Outlook == cluster.Served && f.Last < v.Volume.Epoch && !v.Volume.Writer.IsZero() {
				out = append(out, fmt.Sprintf("volume %s: the replica here last took part in epoch %d, the records know %d: that opening may have gone on without it", v.Volume.Name, f.Last, v.Volume.Epoch))
			}
		}
	}
	return append(append(out, p.Aside...), p.Bad...)
}

func emptyRecovery(state, name, host string) v1.Recovery {
	return v1.Recovery{State: state, Cluster: name, Host: host, Stay: []string{}, Shut: []v1.RecoveryHost{}, Volumes: []v1.RecoveryVolume{}, VMs: []string{}, Warnings: []string{}}
}
