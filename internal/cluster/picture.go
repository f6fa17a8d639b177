package cluster

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// emptyState is the picture before anything was read.
func emptyState() *State {
	return &State{
		Hosts:     map[holdfast.HostID]Versioned[Host]{},
		Alive:     map[holdfast.HostID]Versioned[Alive]{},
		Disks:     map[holdfast.DiskID]Versioned[Disk]{},
		Pools:     map[holdfast.PoolID]Versioned[Pool]{},
		Volumes:   map[holdfast.VolumeID]Versioned[Volume]{},
		VMs:       map[holdfast.VMID]Versioned[VM]{},
		Machines:  map[holdfast.VMID]Versioned[Machine]{},
		Incidents: map[string]Versioned[Incident]{},
		Schedules: map[string]Versioned[BackupSchedule]{},
		Exports:   map[holdfast.ExportID]Versioned[Export]{},
		Serving:   map[holdfast.ExportID]Versioned[Serving]{},
		Bad:       map[string]string{},
		pages:     map[holdfast.VolumeID]pages{},
	}
}

// painter makes the next picture from the last one: it shares every map that
// does not change and copies each that does once.
type painter struct {
	s      *State
	copied map[string]bool // by directory
	newer  error           // the cluster is of a newer format

	pages   map[holdfast.VolumeID]bool // volumes whose pages of snapshots changed
	volumes map[holdfast.VolumeID]bool // volumes whose record did
}

func paint(from *State) *painter {
	s := *from
	return &painter{s: &s, copied: make(map[string]bool), pages: make(map[holdfast.VolumeID]bool), volumes: make(map[holdfast.VolumeID]bool)}
}

// repaint is the picture of a full read at rev, with old as the source for
// records that can no longer be read.
func repaint(old *State, items []kv.Item, rev kv.Rev) (*State, error) {
	p := paint(emptyState())
	p.s.Rev = rev
	for _, it := range items {
		p.put(it, old)
	}
	p.attach(emptyState())
	return p.s, p.newer
}

// advance is the picture after events; those already in it are passed over.
func advance(old *State, events []kv.Event) (*State, error) {
	p := paint(old)
	for _, e := range events {
		if e.Mod <= old.Rev {
			continue
		}
		p.s.Rev = max(p.s.Rev, e.Mod)
		if e.Deleted {
			p.remove(e.Key)
		} else {
			p.put(e.Item, old)
		}
	}
	p.attach(old)
	return p.s, p.newer
}

func (p *painter) put(it kv.Item, old *State) {
	s := p.s
	switch dir := dirOf(it.Key); dir {
	case dirHost:
		put(p, hostKind(), &s.Hosts, old.Hosts, it, hostID)
	case dirAlive:
		put(p, aliveKind(), &s.Alive, old.Alive, it, hostID)
	case dirDisk:
		put(p, diskKind(), &s.Disks, old.Disks, it, diskID)
	case dirPool:
		put(p, poolKind(), &s.Pools, old.Pools, it, poolID)
	case dirVolume:
		if isPage(it.Key) {
			p.putPage(it, old)
			return
		}
		put(p, volumeKind(), &s.Volumes, old.Volumes, it, volumeID)
		if id, err := volumeID(it.Key[len(dirVolume):]); err == nil {
			p.volumes[id] = true
		}
	case dirVM:
		put(p, vmKind(), &s.VMs, old.VMs, it, vmID)
	case dirMachine:
		put(p, machineKind(), &s.Machines, old.Machines, it, vmID)
	case dirIncident:
		put(p, incidentKind(), &s.Incidents, old.Incidents, it, incidentID)
	case dirSchedule:
		put(p, scheduleKind(), &s.Schedules, old.Schedules, it, incidentID)
	case dirExport:
		put(p, exportKind(), &s.Exports, old.Exports, it, exportID)
	case dirServing:
		put(p, servingKind(), &s.Serving, old.Serving, it, exportID)
	case "":
		p.putSingle(it, old)
	}
}

func (p *painter) putSingle(it kv.Item, old *State) {
	switch it.Key {
	case keyCluster:
		c, err := decodeCluster(it.Value)
		switch {
		case err == nil:
			p.s.Cluster = c
			p.good(it.Key)
		case holdfast.IsKind(err, holdfast.Invalid):
			p.newer = err
		default:
			p.bad(it.Key, err)
		}
	case keyKeyring:
		var r keyring.Record
		err := json.Unmarshal(it.Value, &r)
		if err == nil {
			err = r.Check()
		}
		if err != nil {
			p.bad(it.Key, fmt.Errorf("keyring: %w", err))
			if p.s.Keyring.Mod == 0 {
				p.s.Keyring = old.Keyring
			}
			return
		}
		p.s.Keyring = Versioned[keyring.Record]{Mod: it.Mod, Val: r}
		p.good(it.Key)
	case FenceKey:
		var m Move
		if err := json.Unmarshal(it.Value, &m); err != nil {
			p.bad(it.Key, err)
			return
		}
		p.s.Moved = &m
		p.good(it.Key)
	case keyLeader:
		var e election
		if err := json.Unmarshal(it.Value, &e); err != nil {
			p.bad(it.Key, err)
			return
		}
		p.s.Leader, p.s.LeaderLease, p.s.LeaderMod = e.Host, e.Lease, it.Mod
		p.good(it.Key)
	}
}

// decodeCluster fails with kind Invalid if the cluster is of a newer format.
func decodeCluster(b []byte) (c Cluster, err error) {
	if err := json.Unmarshal(b, &c); err != nil {
		return c, err
	}
	if c.Format > Format {
		return c, holdfast.Errorf(holdfast.Invalid,
			"cluster %s has records of format %d and this build knows %d: upgrade Holdfast on this host", c.Name, c.Format, Format)
	}
	return c, checkCluster(&c)
}

func (p *painter) remove(key string) {
	s := p.s
	p.good(key)
	switch dir := dirOf(key); dir {
	case dirHost:
		remove(p, dir, &s.Hosts, key, hostID)
	case dirAlive:
		remove(p, dir, &s.Alive, key, hostID)
	case dirDisk:
		remove(p, dir, &s.Disks, key, diskID)
	case dirPool:
		remove(p, dir, &s.Pools, key, poolID)
	case dirVolume:
		if isPage(key) {
			p.removePage(key)
			return
		}
		remove(p, dir, &s.Volumes, key, volumeID)
	case dirVM:
		remove(p, dir, &s.VMs, key, vmID)
	case dirMachine:
		remove(p, dir, &s.Machines, key, vmID)
	case dirIncident:
		remove(p, dir, &s.Incidents, key, incidentID)
	case dirSchedule:
		remove(p, dir, &s.Schedules, key, incidentID)
	case dirExport:
		remove(p, dir, &s.Exports, key, exportID)
	case dirServing:
		remove(p, dir, &s.Serving, key, exportID)
	case "":
		switch key {
		case keyLeader:
			s.Leader, s.LeaderLease, s.LeaderMod = holdfast.HostID{}, 0, 0
		case keyKeyring:
			s.Keyring = Versioned[keyring.Record]{}
		case FenceKey:
			s.Moved = nil
		}
	}
}

func (p *painter) bad(key string, err error) {
	own(p, "bad", &p.s.Bad)
	p.s.Bad[key] = err.Error()
}

func (p *painter) good(key string) {
	if _, was := p.s.Bad[key]; was {
		own(p, "bad", &p.s.Bad)
		delete(p.s.Bad, key)
	}
}

// own makes *m the picture's own before the first change to it.
func own[K comparable, V any](p *painter, dir string, m *map[K]V) {
	if !p.copied[dir] {
		*m = maps.Clone(*m)
		p.copied[dir] = true
	}
}

func put[K comparable, T any](p *painter, k kind[T], m *map[K]Versioned[T], old map[K]Versioned[T], it kv.Item, id func(string) (K, error)) {
	key, err := id(it.Key[len(k.dir):])
	if err != nil {
		p.bad(it.Key, err)
		return
	}
	last, ok := old[key]
	if ok && last.Mod == it.Mod { // as it was read before
		own(p, k.dir, m)
		(*m)[key] = last
		p.good(it.Key)
		return
	}
	v, err := decode(k, it.Key, it.Value)
	if err != nil {
		p.bad(it.Key, fmt.Errorf("%s: %w", k.what, err))
		if ok {
			own(p, k.dir, m)
			(*m)[key] = last
		}
		return
	}
	own(p, k.dir, m)
	(*m)[key] = Versioned[T]{Mod: it.Mod, Val: v}
	p.good(it.Key)
}

func remove[K comparable, T any](p *painter, dir string, m *map[K]Versioned[T], key string, id func(string) (K, error)) {
	if k, err := id(key[len(dir):]); err == nil {
		own(p, dir, m)
		delete(*m, k)
	}
}

// dirOf returns the directory of a key below root with its slash, or "".
func dirOf(key string) string {
	rest := strings.TrimPrefix(key, root)
	i := strings.IndexByte(rest, '/')
	if i < 0 || len(rest) == len(key) {
		return ""
	}
	return key[:len(root)+i+1]
}

// canonical refuses a second spelling of an identifier.
func canonical(s string) (holdfast.UUID, error) {
	u, err := holdfast.ParseUUID(s)
	if err == nil && u.String() != s {
		err = fmt.Errorf("%q is not written in lower case", s)
	}
	return u, err
}

func hostID(s string) (holdfast.HostID, error) {
	u, err := canonical(s)
	return holdfast.HostID{UUID: u}, err
}

func diskID(s string) (holdfast.DiskID, error) {
	u, err := canonical(s)
	return holdfast.DiskID{UUID: u}, err
}

func poolID(s string) (holdfast.PoolID, error) {
	u, err := canonical(s)
	return holdfast.PoolID{UUID: u}, err
}

func volumeID(s string) (holdfast.VolumeID, error) {
	u, err := canonical(s)
	return holdfast.VolumeID{UUID: u}, err
}

func vmID(s string) (holdfast.VMID, error) {
	u, err := canonical(s)
	return holdfast.VMID{UUID: u}, err
}

func exportID(s string) (holdfast.ExportID, error) {
	u, err := canonical(s)
	return holdfast.ExportID{UUID: u}, err
}

func incidentID(s string) (string, error) { return s, nil }
