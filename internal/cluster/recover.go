package cluster

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// What a recovery leaves free, so that nothing it gives out was given out by
// members that are lost, after the records that it begins with were kept
// (docs/adr/0061).
const (
	EpochGap      holdfast.Epoch = 1 << 16 // and as much again by chance: two recoveries apart do not meet
	GenerationGap                = 1 << 16 // of caches
	MachineGap                   = 1 << 20 // of assignments of VMs
	revisionGap                  = 1 << 32 // of an incarnation that the records do not know
)

// Survivor is what a recovery begins with, beside the records.
type Survivor struct {
	Self  Host                     // the host that recovers, where it answers now: it alone votes
	Last  int                      // the latest incarnation that it has been in; its records may be of an earlier one
	Stay  map[holdfast.HostID]bool // other hosts that stay members
	Found map[holdfast.ReplicaID]Found
	Adopt map[holdfast.DiskID]string // disks of lost hosts that are in Self now: their paths
	Wall  time.Time
	// Chance returns a number below n.
	Chance func(n uint32) uint32
}

// Found is a replica as it stands on a disk of the host that recovers.
type Found struct {
	Promise holdfast.Epoch // the highest it has promised
	Last    holdfast.Epoch // the last that it took part in
	Prefix  holdfast.LSN
	Wrong   string // why its content cannot be served; empty: it can
}

// Outlook is what becomes of a volume.
type Outlook string

// The outlooks.
const (
	Served      Outlook = "served"      // by a replica of the last known in-sync set
	Short       Outlook = "short"       // there is one, but fewer than the volume's minimum
	StaleOnly   Outlook = "stale"       // only replicas that were not in sync are left
	Unreachable Outlook = "unreachable" // no replica is left that could be read
)

// VolumeOutlook is one volume of a recovery's plan.
type VolumeOutlook struct {
	Volume  Volume // as in the records
	Outlook Outlook
	From    []Replica      // that it is served from, or that are left
	Epoch   holdfast.Epoch // that its next opening is above
	Why     string
}

// RecoveryPlan is what a recovery makes of the records.
type RecoveryPlan struct {
	Cluster Cluster // as it will stand
	Shut    []Host  // members that are shut out
	Stay    []Host  // members that stay, the host that recovers first
	Volumes []VolumeOutlook
	VMs     []VM
	Adopted []Disk   // that were of lost hosts
	Aside   []string // what is on them and is not taken into use
	Bad     []string // records that cannot be read, which stay as they are
	Items   []kv.Item
}

// PlanRecovery makes the records of a cluster's next incarnation of those of the
// last: one host votes, members that are gone are out, every volume's epoch is
// above whatever was given out, and only replicas of the last known in-sync set
// are served. Nothing is changed by it. Errors: Invalid; Conflict if a host that
// stays has the name of the one that recovers.
func PlanRecovery(items []kv.Item, rev kv.Rev, s Survivor) (*RecoveryPlan, error) {
	st, err := repaint(emptyState(), items, rev)
	if err != nil {
		return nil, err
	}
	if st.Cluster.ID.IsZero() {
		return nil, holdfast.Errorf(holdfast.Invalid, "the records name no cluster")
	}
	before := max(st.Cluster.Incarnation, s.Last)
	r := &recovery{st: st, s: s, gaps: 1 + before - st.Cluster.Incarnation, p: &RecoveryPlan{Cluster: st.Cluster}, out: make(map[string][]byte, len(items))}
	for _, it := range Lasting(items) {
		r.out[it.Key] = it.Value
	}
	delete(r.out, FenceKey) // whatever it was to become
	r.adopt()
	r.p.Cluster.Incarnation = before + 1
	r.p.Cluster.External = false // whose etcd that is, nobody here knows any more
	r.p.Cluster.Past += rev + kv.Rev(r.gaps-1)*revisionGap
	r.put(keyCluster, r.p.Cluster)
	if err := r.hosts(); err != nil {
		return nil, err
	}
	r.volumes()
	r.vms()
	r.incidents()
	for _, k := range sortedKeys(st.Bad) {
		r.p.Bad = append(r.p.Bad, strings.TrimPrefix(k, root)+": "+st.Bad[k])
	}
	for _, k := range sortedKeys(r.out) {
		r.p.Items = append(r.p.Items, kv.Item{Key: k, Value: r.out[k]})
	}
	return r.p, r.err
}

// recovery is one call of PlanRecovery.
type recovery struct {
	st   *State
	s    Survivor
	gaps int // one, and one for each incarnation that the records do not know
	p    *RecoveryPlan
	out  map[string][]byte
	err  error
}

func (r *recovery) put(key string, v any) {
	b, err := json.Marshal(v)
	if err != nil && r.err == nil {
		r.err = holdfast.Errorf(holdfast.Invalid, "%s: %w", key, err)
	}
	r.out[key] = b
}

func (r *recovery) member(id holdfast.HostID) bool { return id == r.s.Self.ID || r.s.Stay[id] }

// hosts lets the one host vote, and strikes those that do not stay, with their
// disks.
func (r *recovery) hosts() error {
	self := r.s.Self
	if was, ok := r.st.Hosts[self.ID]; ok {
		delete(r.out, nameKey("host", was.Val.Name))
		self = was.Val
		self.Name, self.Domain, self.Addr, self.APIAddr = r.s.Self.Name, r.s.Self.Domain, r.s.Self.Addr, r.s.Self.APIAddr
		self.Peer, self.Client, self.Voter, self.CertKey = r.s.Self.Peer, r.s.Self.Client, r.s.Self.Voter, r.s.Self.CertKey
	}
	r.p.Stay = []Host{self}
	for _, rec := range r.st.SortedHosts() {
		h := rec.Val
		key := hostKind().key(h.ID.String())
		switch {
		case h.ID == r.s.Self.ID:
		case r.s.Stay[h.ID] && h.Name == self.Name:
			return holdfast.Errorf(holdfast.Conflict, "host %s is left and stays a member, and this host has the same name; give this one another (name in its configuration), or recover on that one", h.Name)
		case r.s.Stay[h.ID]:
			h.Peer, h.Client, h.Voter = "", "", false
			r.p.Stay = append(r.p.Stay, h)
			r.put(key, h)
		default:
			r.p.Shut = append(r.p.Shut, h)
			delete(r.out, key)
			delete(r.out, nameKey("host", h.Name))
		}
	}
	r.put(hostKind().key(self.ID.String()), self)
	r.out[nameKey("host", self.Name)] = []byte(self.ID.String())
	for id, d := range r.st.Disks {
		if !r.member(d.Val.Host) {
			delete(r.out, diskKind().key(id.String()))
		}
	}
	return nil
}

func (r *recovery) volumes() {
	for _, rec := range r.st.SortedVolumes() {
		o := r.outlook(rec.Val)
		v := rec.Val
		v.Epoch, v.Writer = o.Epoch, holdfast.HostID{}
		v.Generation += GenerationGap * uint32(r.gaps)
		v.Release, v.Compared = nil, nil
		v.Others = slices.DeleteFunc(slices.Clone(v.Others), func(x Replica) bool { return !r.left(x) })
		if o.Outlook == Served || o.Outlook == Short {
			for _, x := range v.InSync {
				if r.left(x) && !slices.Contains(o.From, x) {
					v.Others = append(v.Others, x) // it is here and cannot be served: it is built anew
				}
			}
			v.InSync = o.From
		} // else the set stands: it says who had the last of it
		v.Tidy()
		r.put(volumeKind().key(v.ID.String()), v)
		if !rec.Val.Deleted {
			r.p.Volumes = append(r.p.Volumes, o)
		}
	}
}

// left reports whether a replica is on a disk of a member.
func (r *recovery) left(x Replica) bool {
	_, known := r.st.Disks[x.Disk]
	return known && r.member(x.Host)
}

// outlook says what becomes of a volume, and raises its epoch above everything
// that a record or a promise could have.
func (r *recovery) outlook(v Volume) VolumeOutlook {
	o := VolumeOutlook{Volume: v, Epoch: v.Epoch}
	var wrong []string
	for _, list := range [][]Replica{v.InSync, v.Others} {
		for _, x := range list {
			f, here := r.s.Found[x.ID]
			o.Epoch = max(o.Epoch, f.Promise, f.Last)
			if x.Host == r.s.Self.ID && !here && r.left(x) {
				wrong = append(wrong, "its disk is not in use here")
			} else if f.Wrong != "" {
				wrong = append(wrong, f.Wrong)
			}
		}
	}
	gap := EpochGap * holdfast.Epoch(2*r.gaps-1) // a recovery takes up to two
	o.Epoch = min(o.Epoch+gap+holdfast.Epoch(r.s.Chance(uint32(EpochGap))), holdfast.MaxEpoch)
	good := func(list []Replica) (out []Replica) {
		for _, x := range list {
			f, here := r.s.Found[x.ID]
			if r.left(x) && (x.Host != r.s.Self.ID || here && f.Wrong == "") {
				out = append(out, x)
			}
		}
		return out
	}
	in, stale := good(v.InSync), good(v.Others)
	switch {
	case len(in) >= max(v.Min, 1):
		o.Outlook, o.From = Served, in
		o.Why = r.where(in)
	case len(in) > 0:
		o.Outlook, o.From = Short, in
		o.Why = fmt.Sprintf("%s; %d of the %d replicas that it needs are left: 'holdfast volume set %s --min %d' opens it", r.where(in), len(in), v.Min, v.Name, len(in))
	case len(stale) > 0:
		o.Outlook, o.From = StaleOnly, stale
		o.Why = fmt.Sprintf("%s, which was not in sync: what was written after it fell behind was only on %s; it stays closed, 'holdfast volume force-open %s' serves the old state", r.where(stale), r.lost(v), v.Name)
	default:
		o.Outlook = Unreachable
		o.Why = "its in-sync replicas were on " + r.lost(v)
		if len(wrong) > 0 {
			o.Why += "; here: " + strings.Join(wrong, ", ")
		}
	}
	return o
}

func (r *recovery) where(list []Replica) string {
	var names []string
	for _, x := range list {
		text := r.name(x.Host)
		if f, here := r.s.Found[x.ID]; here {
			text += fmt.Sprintf(" (last epoch %d, up to %v)", f.Last, f.Prefix)
		}
		names = append(names, text)
	}
	return "from host " + strings.Join(names, ", ")
}

func (r *recovery) lost(v Volume) string {
	var names []string
	for _, x := range v.InSync {
		names = append(names, r.name(x.Host))
	}
	return strings.Join(names, ", ")
}

func (r *recovery) name(id holdfast.HostID) string {
	if h, ok := r.st.Hosts[id]; ok {
		return h.Val.Name
	}
	return id.Short()
}

// vms have every VM started anew, on a host that is chosen then.
func (r *recovery) vms() {
	for _, rec := range r.st.SortedVMs() {
		v := rec.Val
		v.Host, v.Leave, v.Came = holdfast.HostID{}, 0, ""
		v.Generation += MachineGap * int64(r.gaps)
		r.put(vmKind().key(v.ID.String()), v)
		if !v.Deleted {
			r.p.VMs = append(r.p.VMs, v)
		}
	}
}

// incidents closes what was open and tells of the recovery.
func (r *recovery) incidents() {
	now := r.s.Wall.UTC()
	for id, rec := range r.st.Incidents {
		if inc := rec.Val; inc.Closed == nil {
			inc.Closed = &now
			inc.Steps = append(slices.Clone(inc.Steps), Step{At: now, What: "recovered", Text: "the control plane was rebuilt on host " + r.s.Self.Name})
			r.put(incidentKind().key(id), inc)
		}
	}
	inc := Incident{ID: fmt.Sprintf("%012d-recovery", r.p.Cluster.Past), Opened: now, Closed: &now}
	for _, h := range r.p.Shut {
		inc.Hosts = append(inc.Hosts, h.ID)
	}
	for _, line := range r.p.Lines() {
		inc.Steps = append(inc.Steps, Step{At: now, What: "recovered", Text: line})
		if len(inc.Steps) >= 200 {
			break // the file has all
		}
	}
	r.put(incidentKind().key(inc.ID), inc)
}

// Lines say for people what a recovery does.
func (p *RecoveryPlan) Lines() []string {
	out := []string{fmt.Sprintf("control plane of cluster %s rebuilt on host %s: incarnation %d, which alone votes", p.Cluster.Name, p.Stay[0].Name, p.Cluster.Incarnation)}
	for _, h := range p.Stay[1:] {
		out = append(out, "host "+h.Name+" stays a member")
	}
	for _, h := range p.Shut {
		out = append(out, fmt.Sprintf("host %s (rack %s) shut out", h.Name, h.Domain.Rack))
	}
	for _, want := range []Outlook{Unreachable, StaleOnly, Short, Served} {
		for _, v := range p.Volumes {
			if v.Outlook == want {
				out = append(out, fmt.Sprintf("volume %s %s: %s; epoch %d → above %d", v.Volume.Name, want, v.Why, v.Volume.Epoch, v.Epoch))
			}
		}
	}
	for _, d := range p.Adopted {
		out = append(out, fmt.Sprintf("disk %s is of this host now, as %s", d.ID.Short(), d.Path))
	}
	out = append(out, p.Aside...)
	for _, b := range p.Bad {
		out = append(out, "record "+b)
	}
	return out
}

// Refill writes the records of a recovery into an empty control plane. Kind
// Exists if there is a cluster in it.
func (c *Client) Refill(items []kv.Item) error {
	if it, err := c.get(keyCluster); err != nil {
		return err
	} else if it.Mod != 0 {
		return holdfast.Errorf(holdfast.Exists, "this control plane already holds a cluster")
	}
	if err := fill(c.st, nil, items); err != nil {
		return err
	}
	i := slices.IndexFunc(items, func(it kv.Item) bool { return it.Key == keyCluster })
	if i < 0 {
		return holdfast.Errorf(holdfast.Invalid, "the records name no cluster")
	}
	_, err := c.st.Commit([]kv.Cond{{Key: keyCluster}}, []kv.Op{{Key: keyCluster, Value: items[i].Value}})
	return err
}

// fill writes records under conditions, all but the cluster's own: with that they
// are complete.
func fill(st kv.Store, still []kv.Cond, items []kv.Item) error {
	var ops []kv.Op
	size := 0
	flush := func() error {
		if len(ops) == 0 {
			return nil
		}
		_, err := st.Commit(still, ops)
		ops, size = nil, 0
		return err
	}
	for _, it := range items {
		if it.Key == keyCluster {
			continue
		}
		if len(ops) == kv.MaxOps || size+len(it.Value) > refillBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		ops, size = append(ops, kv.Op{Key: it.Key, Value: it.Value}), size+len(it.Value)+len(it.Key)
	}
	return flush()
}

// refillBytes bounds the values of one commit of fill.
const refillBytes = 512 << 10

// AuthorityIn returns the certificate authority that stands in records; nil if
// none does.
func AuthorityIn(items []kv.Item) []byte {
	for _, it := range items {
		if it.Key == keyAuthority {
			return it.Value
		}
	}
	return nil
}

// HostsIn returns the hosts that stand in records, by identifier.
func HostsIn(items []kv.Item) (out []Host) {
	for _, it := range items {
		if dirOf(it.Key) == dirHost {
			if h, err := decode(hostKind(), it.Key, it.Value); err == nil {
				out = append(out, h)
			}
		}
	}
	return out
}

// DisksIn returns the disks that stand in records, by identifier.
func DisksIn(items []kv.Item) (out []Disk) {
	for _, it := range items {
		if dirOf(it.Key) == dirDisk {
			if d, err := decode(diskKind(), it.Key, it.Value); err == nil {
				out = append(out, d)
			}
		}
	}
	return out
}
