// Package sketch draws clusters from lines of text, for tests that read like
// situations:
//
//	host a1 rack=a cpus=8 mem=16384 disk=100 voter
//	host w1 witness voter
//	disk a1/x size=100 evacuate
//	pool fast tier=ram copies=2
//	key one old
//	volume db1 size=10 copies=2 in-sync=a1,b1 writer=a1
//	vm db1 volume=db1 mem=2048 host=a1 running
//	lose rack a
//
// Sizes are GiB for disks and volumes, MiB for memory. A host has one disk of its
// own name; further ones are called HOST/NAME. Identities follow from
// names, so that a picture drawn twice is the same.
package sketch

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// Wall is the calendar time at which every picture begins.
var wall = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Wall returns the calendar time at which every picture begins.
func Wall() time.Time { return wall }

// Cluster is a picture under work. It belongs to one test.
type Cluster struct {
	rev   kv.Rev
	state cluster.State
	away  map[holdfast.HostID]cluster.Alive // what hosts said before they were lost
	pools map[holdfast.DiskID]holdfast.PoolID
}

// New returns an empty picture.
func New() *Cluster {
	return &Cluster{
		state: cluster.State{
			Hosts:     map[holdfast.HostID]cluster.Versioned[cluster.Host]{},
			Alive:     map[holdfast.HostID]cluster.Versioned[cluster.Alive]{},
			Disks:     map[holdfast.DiskID]cluster.Versioned[cluster.Disk]{},
			Volumes:   map[holdfast.VolumeID]cluster.Versioned[cluster.Volume]{},
			Pools:     map[holdfast.PoolID]cluster.Versioned[cluster.Pool]{},
			VMs:       map[holdfast.VMID]cluster.Versioned[cluster.VM]{},
			Machines:  map[holdfast.VMID]cluster.Versioned[cluster.Machine]{},
			Incidents: map[string]cluster.Versioned[cluster.Incident]{},
		},
		away:  map[holdfast.HostID]cluster.Alive{},
		pools: map[holdfast.DiskID]holdfast.PoolID{},
	}
}

// Draw reads many lines; empty ones and comments (#) are skipped.
func Draw(text string) (*Cluster, error) {
	c := New()
	for line := range strings.Lines(text) {
		if err := c.Do(strings.TrimSpace(line)); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// State returns the picture as planners see it; later lines do not change it.
func (c *Cluster) State() *cluster.State {
	s := c.state
	s.Rev = c.rev
	s.Hosts = maps.Clone(s.Hosts)
	s.Alive = maps.Clone(s.Alive)
	s.Disks = maps.Clone(s.Disks)
	s.Pools = maps.Clone(s.Pools)
	s.Volumes = maps.Clone(s.Volumes)
	s.VMs = maps.Clone(s.VMs)
	s.Machines = maps.Clone(s.Machines)
	s.Incidents = maps.Clone(s.Incidents)
	return &s
}

// Identities by name.
func id(kind, name string) (u holdfast.UUID) {
	h := sha256.Sum256([]byte(kind + "/" + name))
	copy(u[:], h[:])
	return u
}

// Host returns the identity of a host by its name; HostID zero is "".
func Host(name string) holdfast.HostID {
	if name == "" {
		return holdfast.HostID{}
	}
	return holdfast.HostID{UUID: id("host", name)}
}

// Disk returns the identity of a host's own disk, or of one called HOST/NAME.
func Disk(host string) holdfast.DiskID { return holdfast.DiskID{UUID: id("disk", host)} }

// Pool returns the identity of a pool; zero is "".
func Pool(name string) holdfast.PoolID {
	if name == "" {
		return holdfast.PoolID{}
	}
	return holdfast.PoolID{UUID: id("pool", name)}
}

// Volume returns the identity of a volume.
func Volume(name string) holdfast.VolumeID { return holdfast.VolumeID{UUID: id("volume", name)} }

// VM returns the identity of a VM.
func VM(name string) holdfast.VMID { return holdfast.VMID{UUID: id("vm", name)} }

// Replica returns the identity of a volume's replica on a host's own disk, or on
// one called HOST/NAME.
func Replica(volume, disk string) holdfast.ReplicaID {
	return holdfast.ReplicaID{UUID: id("replica", volume+"/"+disk)}
}

func replica(volume, disk string) cluster.Replica {
	host, _, _ := strings.Cut(disk, "/")
	return cluster.Replica{ID: Replica(volume, disk), Host: Host(host), Disk: Disk(disk)}
}

// Do carries out one line.
func (c *Cluster) Do(line string) error {
	f := strings.Fields(line)
	if len(f) == 0 || strings.HasPrefix(line, "#") {
		return nil
	}
	if len(f) < 2 {
		return fmt.Errorf("%q: a name is missing", line)
	}
	c.rev++
	w := &words{line: line, name: f[1], rest: map[string]string{}}
	for _, a := range f[2:] {
		k, v, _ := strings.Cut(a, "=")
		w.rest[k] = v
		w.order = append(w.order, k)
	}
	switch f[0] {
	case "host":
		c.host(w)
	case "disk":
		c.disk(w)
	case "pool":
		c.pool(w)
	case "key":
		c.key(w)
	case "volume":
		c.volume(w)
	case "vm":
		c.vm(w)
	case "machine":
		c.machine(w)
	case "lose", "return":
		c.move(w, f[0] == "return")
	default:
		return fmt.Errorf("%q: no such command", line)
	}
	if w.err == nil && len(w.rest) > 0 {
		return fmt.Errorf("%q: cannot use %v", line, w.order)
	}
	return w.err
}

// words are one line's arguments; what is used is taken out.
type words struct {
	line, name string
	rest       map[string]string
	order      []string
	err        error
}

func (w *words) has(k string) bool { _, ok := w.rest[k]; return ok }

func (w *words) text(k, or string) string {
	if v, ok := w.rest[k]; ok {
		delete(w.rest, k)
		return v
	}
	return or
}

func (w *words) flag(k string, or bool) bool {
	if !w.has(k) {
		return or
	}
	return w.text(k, "") != "no"
}

func (w *words) num(k string, or int) int {
	s := w.text(k, "")
	if s == "" {
		return or
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		w.err = fmt.Errorf("%q: %s is not a number", w.line, k)
	}
	return n
}

func (w *words) list(k string) []string {
	s := w.text(k, "")
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

const gib = 1 << 30

// host draws or changes a host with its one disk.
func (c *Cluster) host(w *words) {
	hid := Host(w.name)
	h := c.state.Hosts[hid].Val
	a, alive := c.state.Alive[hid]
	if h.Name == "" {
		h = cluster.Host{ID: hid, Name: w.name, Addr: w.name + ":1", Domain: holdfast.FaultDomain{Rack: w.name[:1]}}
		a.Val = cluster.Alive{Host: hid, CPUs: 8, MemoryMiB: 16384, Accelerator: "tcg", Sandbox: "full", Wall: wall,
			Boot:  holdfast.BootID{UUID: id("boot", w.name)},
			Disks: []cluster.DiskUse{{Disk: Disk(w.name), Total: 100 * gib, Free: 100 * gib}}}
		alive = true
	}
	if len(a.Val.Disks) == 0 {
		a.Val.Disks = []cluster.DiskUse{{Disk: Disk(w.name)}} // a witness again, which has none in the end
	}
	h.Domain.Rack = w.text("rack", h.Domain.Rack)
	h.Witness = w.flag("witness", h.Witness)
	h.Domain.Site = w.text("site", h.Domain.Site)
	h.Voter = w.flag("voter", h.Voter)
	if w.flag("peer", h.Peer != "" || h.Voter) {
		h.Peer = w.name + ":2"
	}
	h.Drained = w.flag("drained", h.Drained)
	a.Val.Version = w.text("version", a.Val.Version)
	if w.flag("memory-lost", false) { // it comes back with another, empty disk
		was := a.Val.Disks[0]
		delete(c.state.Disks, was.Disk)
		a.Val.Disks = []cluster.DiskUse{{Disk: Disk(w.name + "/" + was.Disk.String()), Total: was.Total, Free: was.Total}}
		c.pools[a.Val.Disks[0].Disk] = c.pools[was.Disk]
	}
	if w.flag("restarted", false) {
		a.Val.Boot = holdfast.BootID{UUID: id("boot", w.name+" again")}
	}
	for _, name := range w.list("keys") {
		a.Val.Keys = append(a.Val.Keys, Key(name))
	}
	a.Val.CPUs = w.num("cpus", a.Val.CPUs)
	a.Val.MemoryMiB = w.num("mem", a.Val.MemoryMiB)
	d := a.Val.Disks[0]
	free := d.Total - d.Free
	d.Total = int64(w.num("disk", int(d.Total/gib))) * gib
	d.Free = int64(w.num("free", int((d.Total-free)/gib))) * gib
	d.Error = w.text("disk-error", d.Error)
	a.Val.Disks = append([]cluster.DiskUse{d}, a.Val.Disks[1:]...)
	c.state.Hosts[hid] = cluster.Versioned[cluster.Host]{Mod: c.rev, Val: h}
	if w.has("pool") {
		c.pools[d.Disk] = Pool(w.text("pool", ""))
	}
	rec := c.state.Disks[d.Disk].Val
	rec.ID, rec.Host, rec.Path, rec.Size = d.Disk, hid, "disk0", d.Total
	rec.Evacuate = w.flag("evacuate", rec.Evacuate)
	rec.Pool = c.pools[d.Disk]
	rec.RAM = c.state.InMemory(rec.Pool)
	c.state.Disks[d.Disk] = cluster.Versioned[cluster.Disk]{Mod: c.rev, Val: rec}
	if h.Witness {
		a.Val.Disks = nil
		delete(c.state.Disks, d.Disk)
	}
	if w.flag("down", !alive) {
		delete(c.state.Alive, hid)
		c.away[hid] = a.Val
		return
	}
	c.state.Alive[hid] = cluster.Versioned[cluster.Alive]{Mod: c.rev, Val: a.Val}
}

// disk draws or changes a further disk of a host that is alive.
func (c *Cluster) disk(w *words) {
	name, path, ok := strings.Cut(w.name, "/")
	a, alive := c.state.Alive[Host(name)]
	if !ok || !alive {
		w.err = fmt.Errorf("%q: a disk is called HOST/NAME, of a host that is alive", w.line)
		return
	}
	a.Val.Disks = slices.Clone(a.Val.Disks)
	i := slices.IndexFunc(a.Val.Disks, func(d cluster.DiskUse) bool { return d.Disk == Disk(w.name) })
	if i < 0 {
		i = len(a.Val.Disks)
		a.Val.Disks = append(a.Val.Disks, cluster.DiskUse{Disk: Disk(w.name), Total: 100 * gib, Free: 100 * gib})
	}
	d := &a.Val.Disks[i]
	free := d.Total - d.Free
	d.Total = int64(w.num("size", int(d.Total/gib))) * gib
	d.Free = int64(w.num("free", int((d.Total-free)/gib))) * gib
	d.Error = w.text("error", d.Error)
	rec := c.state.Disks[d.Disk].Val
	rec.ID, rec.Host, rec.Path, rec.Size = d.Disk, Host(name), path, d.Total
	rec.Evacuate = w.flag("evacuate", rec.Evacuate)
	if s := w.text("successor", ""); s != "" {
		rec.Successor = Disk(s)
	}
	c.state.Disks[d.Disk] = cluster.Versioned[cluster.Disk]{Mod: c.rev, Val: rec}
	a.Mod = c.rev
	c.state.Alive[Host(name)] = a
}

// pool draws or changes a pool.
func (c *Cluster) pool(w *words) {
	pid := Pool(w.name)
	p := c.state.Pools[pid].Val
	if p.Name == "" {
		p = cluster.Pool{ID: pid, Name: w.name, Tier: cluster.SSD, Created: wall}
	}
	p.Tier = cluster.Tier(w.text("tier", string(p.Tier)))
	p.Copies = w.num("copies", p.Copies)
	c.state.Pools[pid] = cluster.Versioned[cluster.Pool]{Mod: c.rev, Val: p}
}

// key makes the cluster key that is called so the current one; "old" keeps the
// one before.
func (c *Cluster) key(w *words) {
	rec := keyring.Record{Keys: []keyring.Source{{ID: Key(w.name), From: keyring.File, Created: wall}}}
	if w.flag("old", false) {
		rec.Keys = append([]keyring.Source{c.state.Keyring.Val.Current()}, rec.Keys...)
	}
	c.state.Keyring = cluster.Versioned[keyring.Record]{Mod: c.rev, Val: rec}
}

// Key returns the name of a cluster key.
func Key(name string) keyring.ID {
	k := keyring.Key(sha256.Sum256([]byte("key/" + name)))
	return k.ID()
}

// volume draws or changes a volume.
func (c *Cluster) volume(w *words) {
	vid := Volume(w.name)
	v := c.state.Volumes[vid].Val
	if v.Name == "" {
		v = cluster.Volume{ID: vid, Name: w.name, Blocks: 10 * gib / holdfast.BlockSize, Copies: 2, Min: 1,
			Durability: cluster.OnFlush, Epoch: 1, Created: wall}
	}
	v.Blocks = uint64(w.num("size", int(v.Blocks*holdfast.BlockSize/gib))) * gib / holdfast.BlockSize
	v.Copies = w.num("copies", v.Copies)
	if w.has("pool") {
		v.Pool = Pool(w.text("pool", ""))
	}
	if under := w.text("under", ""); under != "" { // encrypted, its key wrapped by that cluster key
		v.Keys = []keyring.Wrapped{{Volume: vid, Under: Key(under), Data: make([]byte, 60)}}
	}
	v.Min = w.num("min", v.Min)
	v.Epoch = holdfast.Epoch(w.num("epoch", int(v.Epoch)))
	if w.has("writer") {
		v.Writer = Host(w.text("writer", ""))
	}
	if o := w.text("origin", ""); o != "" {
		v.Origin = &cluster.Origin{Volume: Volume(o)}
	}
	if h := w.text("importer", ""); h != "" {
		v.Importer, v.ImporterBoot = Host(h), c.state.Alive[Host(h)].Val.Boot
	}
	v.Image = w.flag("image", v.Image)
	v.Sealed = w.flag("sealed", v.Sealed)
	v.Deleted = w.flag("deleted", v.Deleted)
	for _, set := range []struct {
		key string
		to  *[]cluster.Replica
	}{{"in-sync", &v.InSync}, {"others", &v.Others}} {
		if !w.has(set.key) {
			continue
		}
		*set.to = nil
		for _, h := range w.list(set.key) {
			*set.to = append(*set.to, replica(w.name, h))
		}
	}
	if w.has("moving") {
		v.Moving = nil
		for _, d := range w.list("moving") {
			v.Moving = append(v.Moving, Replica(w.name, d))
		}
	}
	c.state.Volumes[vid] = cluster.Versioned[cluster.Volume]{Mod: c.rev, Val: v}
}

// vm draws or changes a VM; "running" adds the machine too.
func (c *Cluster) vm(w *words) {
	mid := VM(w.name)
	vm := c.state.VMs[mid].Val
	if vm.Name == "" {
		vm = cluster.VM{ID: mid, Name: w.name, CPUs: 1, MemoryMiB: 1024, Power: cluster.On, Priority: 1,
			Isolation: cluster.IsolationPause, Created: wall}
	}
	if w.has("volume") {
		vm.Volume = Volume(w.text("volume", ""))
	}
	vm.CPUs = w.num("cpus", vm.CPUs)
	vm.MemoryMiB = w.num("mem", vm.MemoryMiB)
	vm.Priority = w.num("priority", vm.Priority)
	if w.has("host") {
		vm.Host = Host(w.text("host", ""))
		vm.Generation++
	}
	switch {
	case w.flag("off", false):
		vm.Power = cluster.Stopped
	case w.flag("on", false):
		vm.Power = cluster.On
	}
	vm.Deleted = w.flag("deleted", vm.Deleted)
	if w.flag("leave", false) {
		vm.Leave = vm.Generation
	}
	c.state.VMs[mid] = cluster.Versioned[cluster.VM]{Mod: c.rev, Val: vm}
	if w.flag("running", false) {
		c.setMachine(vm, "running", "")
	}
}

// machine sets the observed state of a VM where it is assigned.
func (c *Cluster) machine(w *words) {
	vm, ok := c.state.VMs[VM(w.name)]
	if !ok {
		w.err = fmt.Errorf("%q: no such VM", w.line)
		return
	}
	now := vm.Val // what it was started with
	now.MemoryMiB = w.num("mem", now.MemoryMiB)
	c.setMachine(now, w.text("state", "running"), strings.ReplaceAll(w.text("reason", ""), "_", " "))
}

func (c *Cluster) setMachine(vm cluster.VM, state, reason string) {
	c.state.Machines[vm.ID] = cluster.Versioned[cluster.Machine]{Mod: c.rev, Val: cluster.Machine{
		VM: vm.ID, Host: vm.Host, Generation: vm.Generation, State: state, Reason: reason, Since: wall,
		CPUs: vm.CPUs, MemoryMiB: vm.MemoryMiB, Edition: vm.Edition}}
}

// move takes hosts away or brings them back: "lose a1", "lose a1 b1",
// "lose rack a", "return rack a".
func (c *Cluster) move(w *words, back bool) {
	names := append([]string{w.name}, w.order...)
	for k := range w.rest {
		delete(w.rest, k)
	}
	match := func(h cluster.Host) bool {
		for _, n := range names {
			if h.Name == n {
				return true
			}
		}
		return false
	}
	if w.name == "rack" && len(names) == 2 {
		match = func(h cluster.Host) bool { return h.Domain.Rack == names[1] }
	}
	found := false
	for hid, h := range c.state.Hosts {
		if !match(h.Val) {
			continue
		}
		found = true
		if a, ok := c.state.Alive[hid]; ok && !back {
			c.away[hid] = a.Val
			delete(c.state.Alive, hid)
		} else if a, ok := c.away[hid]; ok && back {
			delete(c.away, hid)
			c.state.Alive[hid] = cluster.Versioned[cluster.Alive]{Mod: c.rev, Val: a}
		}
	}
	if !found {
		w.err = fmt.Errorf("%q: no such host", w.line)
	}
}

// Put replaces records that are still at the revisions named, as one commit
// does; kind Conflict if one is not.
func (c *Cluster) Put(vols []cluster.Versioned[cluster.Volume], vms []cluster.Versioned[cluster.VM],
	incs, gone []cluster.Versioned[cluster.Incident]) (kv.Rev, error) {
	for _, r := range vols {
		if c.state.Volumes[r.Val.ID].Mod != r.Mod {
			return 0, holdfast.Errorf(holdfast.Conflict, "volume %s changed", r.Val.Name)
		}
	}
	for _, r := range vms {
		if c.state.VMs[r.Val.ID].Mod != r.Mod {
			return 0, holdfast.Errorf(holdfast.Conflict, "VM %s changed", r.Val.Name)
		}
	}
	for _, set := range [][]cluster.Versioned[cluster.Incident]{incs, gone} {
		for _, r := range set {
			if c.state.Incidents[r.Val.ID].Mod != r.Mod {
				return 0, holdfast.Errorf(holdfast.Conflict, "incident %s changed", r.Val.ID)
			}
		}
	}
	c.rev++
	for _, r := range vols {
		c.state.Volumes[r.Val.ID] = cluster.Versioned[cluster.Volume]{Mod: c.rev, Val: r.Val}
	}
	for _, r := range vms {
		c.state.VMs[r.Val.ID] = cluster.Versioned[cluster.VM]{Mod: c.rev, Val: r.Val}
	}
	for _, r := range incs {
		c.state.Incidents[r.Val.ID] = cluster.Versioned[cluster.Incident]{Mod: c.rev, Val: r.Val}
	}
	for _, r := range gone {
		delete(c.state.Incidents, r.Val.ID)
	}
	return c.rev, nil
}
