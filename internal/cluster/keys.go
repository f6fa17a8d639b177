package cluster

import (
	"encoding/json"
	"fmt"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// Format is the version of the records and keys that this build writes
// (docs/format/cluster.md). A cluster of a newer one is refused.
const Format = 2

// The keys. Everything stands below root, so that an external etcd can be
// shared and a later format can stand beside this one.
const (
	root       = "holdfast/2/"
	keyCluster = root + "cluster"
	keyLeader  = root + "leader"
	keyKeyring = root + "keyring"

	dirHost     = root + "host/"
	dirAlive    = root + "alive/"
	dirDisk     = root + "disk/"
	dirPool     = root + "pool/"
	dirVolume   = root + "volume/"
	dirVM       = root + "vm/"
	dirMachine  = root + "machine/"
	dirIncident = root + "incident/"
	dirSchedule = root + "schedule/"
	dirJoin     = root + "join/"
	dirExport   = root + "export/"
	dirServing  = root + "serving/"
	dirUnit     = root + "unit/"
	dirName     = root + "name/" // name/KIND/NAME → identifier
)

// kind is how one kind of record is kept: where, under which identity, and
// what makes one valid.
type kind[T any] struct {
	what  string // for messages
	dir   string
	id    func(*T) string
	check func(*T) error
	// name is the name that the record holds, unique among its kind, or "" if
	// it holds none; nil if the kind has no names.
	name func(*T) string
	// seen finds the record in a picture; set if name is.
	seen func(s *State, id string) (Versioned[T], bool)
}

func (k kind[T]) key(id string) string { return k.dir + id }

func nameKey(what, name string) string { return dirName + what + "/" + name }

func hostKind() kind[Host] {
	return kind[Host]{what: "host", dir: dirHost, check: checkHost,
		id:   func(h *Host) string { return h.ID.String() },
		name: func(h *Host) string { return h.Name },
		seen: func(s *State, id string) (Versioned[Host], bool) { return lookup(s.Hosts, hostID, id) }}
}

func aliveKind() kind[Alive] {
	return kind[Alive]{what: "alive", dir: dirAlive, check: checkAlive,
		id: func(a *Alive) string { return a.Host.String() }}
}

func diskKind() kind[Disk] {
	return kind[Disk]{what: "disk", dir: dirDisk, check: checkDisk,
		id: func(d *Disk) string { return d.ID.String() }}
}

func poolKind() kind[Pool] {
	return kind[Pool]{what: "pool", dir: dirPool, check: checkPool,
		id:   func(p *Pool) string { return p.ID.String() },
		name: func(p *Pool) string { return p.Name },
		seen: func(s *State, id string) (Versioned[Pool], bool) { return lookup(s.Pools, poolID, id) }}
}

// A volume or VM that is being deleted gives up its name at once.
func volumeKind() kind[Volume] {
	return kind[Volume]{what: "volume", dir: dirVolume, check: checkVolume,
		id:   func(v *Volume) string { return v.ID.String() },
		name: func(v *Volume) string { return unless(v.Deleted, v.Name) },
		seen: func(s *State, id string) (Versioned[Volume], bool) { return lookup(s.Volumes, volumeID, id) }}
}

func vmKind() kind[VM] {
	return kind[VM]{what: "vm", dir: dirVM, check: checkVM,
		id:   func(v *VM) string { return v.ID.String() },
		name: func(v *VM) string { return unless(v.Deleted, v.Name) },
		seen: func(s *State, id string) (Versioned[VM], bool) { return lookup(s.VMs, vmID, id) }}
}

func machineKind() kind[Machine] {
	return kind[Machine]{what: "machine", dir: dirMachine, check: checkMachine,
		id: func(m *Machine) string { return m.VM.String() }}
}

func incidentKind() kind[Incident] {
	return kind[Incident]{what: "incident", dir: dirIncident, check: checkIncident,
		id: func(i *Incident) string { return i.ID }}
}

func joinKind() kind[JoinCode] {
	return kind[JoinCode]{what: "join code", dir: dirJoin, check: checkJoinCode,
		id: func(j *JoinCode) string { return j.Hash }}
}

func lookup[K comparable, T any](m map[K]Versioned[T], id func(string) (K, error), s string) (v Versioned[T], ok bool) {
	if k, err := id(s); err == nil {
		v, ok = m[k]
	}
	return v, ok
}

func unless(not bool, s string) string {
	if not {
		return ""
	}
	return s
}

// encode checks v and returns its record.
func encode[T any](k kind[T], v *T) ([]byte, error) {
	if err := k.check(v); err != nil {
		return nil, err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "%s %s: %w", k.what, k.id(v), err)
	}
	if len(b) > kv.MaxValue {
		return nil, holdfast.Errorf(holdfast.Invalid,
			"%s %s: its record has %d bytes, at most %d are allowed; make it smaller", k.what, k.id(v), len(b), kv.MaxValue)
	}
	return b, nil
}

// decode reads the record under key. Unknown fields are those of a later build
// and are passed over; anything else unexpected is refused.
func decode[T any](k kind[T], key string, b []byte) (v T, err error) {
	if len(b) > kv.MaxValue {
		return v, fmt.Errorf("%d bytes, at most %d are allowed", len(b), kv.MaxValue)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, err
	}
	if want := key[len(k.dir):]; k.id(&v) != want {
		return v, fmt.Errorf("it says that it is %.80q", k.id(&v))
	}
	return v, k.check(&v)
}

// election is the record under keyLeader.
type election struct {
	Host  holdfast.HostID `json:"host"`
	Lease kv.LeaseID      `json:"lease"`
}
