package cluster

import (
	"log/slog"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// Export is a set of volumes made reachable as one iSCSI target. Nobody may
// log in until an initiator is added. A volume is a unit of one export at most
// and then of no VM.
type Export struct {
	ID         holdfast.ExportID `json:"id"`
	Name       string            `json:"name"`
	Target     string            `json:"target"` // its iSCSI name; made of the cluster's name and its own
	Units      []Unit            `json:"units"`
	Initiators []Initiator       `json:"initiators,omitempty"`
	Created    time.Time         `json:"created"`
}

// Unit is a volume as a logical unit of a target.
type Unit struct {
	LUN       int               `json:"lun"`
	Volume    holdfast.VolumeID `json:"volume"`
	ReadOnly  bool              `json:"read_only,omitempty"`
	Removable bool              `json:"removable,omitempty"`  // its medium can be ejected and loaded
	BlockSize int               `json:"block_size,omitempty"` // 4096; 0: 512
}

// Initiator may log in to a target: whoever states its name, and knows its
// secret if it has one. Mutual is what the target proves to know.
type Initiator struct {
	Name         string `json:"name"` // an iSCSI name, or "*" for any
	User         string `json:"user,omitempty"`
	Secret       Secret `json:"secret,omitempty"`
	MutualUser   string `json:"mutual_user,omitempty"`
	MutualSecret Secret `json:"mutual_secret,omitempty"`
}

// Secret is what must not be shown: it is written into records only.
type Secret string

// String implements fmt.Stringer.
func (Secret) String() string { return "(secret)" }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return "(secret)" }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue("(secret)") }

// Serving says which host runs the units of an export now. It stands under
// that host's lease; a target that nobody serves is served by the host that is
// asked for it next.
type Serving struct {
	Export holdfast.ExportID `json:"export"`
	Host   holdfast.HostID   `json:"host"`
	Boot   holdfast.BootID   `json:"boot"`
	Lease  kv.LeaseID        `json:"lease"`
}

// UnitState is what a logical unit keeps for its initiators beyond the host
// that runs it. It exists as long as its volume is a unit of an export.
type UnitState struct {
	Volume holdfast.VolumeID `json:"volume"`
	Export holdfast.ExportID `json:"export"`
	// Reservations are the persistent reservations with APTPL
	// (docs/protocol/iscsi.md).
	Reservations []byte `json:"reservations,omitempty"`
}

// Bounds of exports.
const (
	MaxUnits      = 64  // of one export
	MaxInitiators = 256 // of one export
	maxSecret     = 255 // bytes of a CHAP secret
	maxTarget     = 223 // bytes of an iSCSI name (RFC 7143 §4.2.7.1)
)

func exportKind() kind[Export] {
	return kind[Export]{what: "export", dir: dirExport, check: checkExport,
		id:   func(e *Export) string { return e.ID.String() },
		name: func(e *Export) string { return e.Name },
		seen: func(s *State, id string) (Versioned[Export], bool) { return lookup(s.Exports, exportID, id) }}
}

func servingKind() kind[Serving] {
	return kind[Serving]{what: "serving", dir: dirServing, check: checkServing,
		id: func(s *Serving) string { return s.Export.String() }}
}

func unitKind() kind[UnitState] {
	return kind[UnitState]{what: "unit", dir: dirUnit, check: checkUnitState,
		id: func(u *UnitState) string { return u.Volume.String() }}
}

func checkExport(e *Export) error {
	const what = "export"
	if e.ID.IsZero() {
		return bad(what, e.Name, "it has no identifier")
	}
	if err := holdfast.CheckName(what, e.Name); err != nil {
		return err
	}
	switch {
	case len(e.Target) > maxTarget || !strings.HasPrefix(e.Target, "iqn."):
		return bad(what, e.Name, "the target name %.40q: it begins with iqn. and has at most %d bytes", e.Target, maxTarget)
	case len(e.Units) == 0 || len(e.Units) > MaxUnits:
		return bad(what, e.Name, "%d volumes: 1 to %d are allowed", len(e.Units), MaxUnits)
	case len(e.Initiators) > MaxInitiators:
		return bad(what, e.Name, "%d initiators, at most %d are allowed", len(e.Initiators), MaxInitiators)
	}
	luns, volumes := make(map[int]bool), make(map[holdfast.VolumeID]bool)
	for _, u := range e.Units {
		switch {
		case u.Volume.IsZero() || volumes[u.Volume]:
			return bad(what, e.Name, "unit %d has no volume, or that of another unit", u.LUN)
		case u.LUN < 0 || u.LUN > 255 || luns[u.LUN]:
			return bad(what, e.Name, "unit number %d: 0 to 255 are allowed, each once", u.LUN)
		case u.BlockSize != 0 && u.BlockSize != 512 && u.BlockSize != 4096:
			return bad(what, e.Name, "blocks of %d bytes: 512 and 4096 are allowed", u.BlockSize)
		}
		luns[u.LUN], volumes[u.Volume] = true, true
	}
	return checkInitiators(e)
}

func checkInitiators(e *Export) error {
	for _, i := range e.Initiators {
		switch {
		case i.Name == "" || len(i.Name) > maxTarget:
			return bad("export", e.Name, "an initiator's name has 1 to %d bytes", maxTarget)
		case len(i.User) > maxText || len(i.MutualUser) > maxText:
			return bad("export", e.Name, "a CHAP name has at most %d bytes", maxText)
		case len(i.Secret) > maxSecret || len(i.MutualSecret) > maxSecret:
			return bad("export", e.Name, "a CHAP secret has at most %d bytes", maxSecret)
		}
	}
	return nil
}

func checkServing(s *Serving) error {
	if s.Export.IsZero() || s.Host.IsZero() {
		return bad("serving", s.Export.String(), "it lacks its export or host")
	}
	return nil
}

func checkUnitState(u *UnitState) error {
	if u.Volume.IsZero() || u.Export.IsZero() {
		return bad("unit", u.Volume.String(), "it lacks its volume or export")
	}
	return nil
}

// PutExport adds or changes an export. With mod zero its volumes become units:
// the commit fails with kind Conflict if one is a unit already.
func (t *Txn) PutExport(e Export, mod kv.Rev) {
	putRecord(t, exportKind(), e, mod, 0)
	if mod != 0 {
		return
	}
	for _, u := range e.Units {
		putRecord(t, unitKind(), UnitState{Volume: u.Volume, Export: e.ID}, 0, 0)
	}
}

// DeleteExport removes an export with everything that its units kept.
func (t *Txn) DeleteExport(e Export, mod kv.Rev) {
	deleteRecord(t, exportKind(), e.ID.String(), mod)
	for _, u := range e.Units {
		deleteRecord(t, unitKind(), u.Volume.String(), Any)
	}
}

// Serve makes the host of ka serve an export, if nobody does: mod is the
// revision of the Serving that was seen, zero for none. The record ends with
// the host's lease. Errors: Conflict if somebody else was quicker; Unavailable
// without a lease; those of Commit.
func (c *Client) Serve(ka *KeepAlive, id holdfast.ExportID, mod kv.Rev) (kv.Rev, error) {
	ka.mu.Lock()
	lease, a := ka.word.lease, ka.alive
	ka.mu.Unlock()
	if lease == 0 {
		return 0, holdfast.Errorf(holdfast.Unavailable, "this host holds no lease now")
	}
	t := c.Begin()
	putRecord(t, servingKind(), Serving{Export: id, Host: a.Host, Boot: a.Boot, Lease: lease}, mod, lease)
	return t.Settle(kv.CallTimeout)
}

// EndServing gives up what Serve got, if it still stands at mod.
func (c *Client) EndServing(id holdfast.ExportID, mod kv.Rev) error {
	t := c.Begin()
	deleteRecord(t, servingKind(), id.String(), mod)
	_, err := t.Commit()
	return err
}

// UnitState reads what a logical unit keeps, and the revision it stands at.
func (c *Client) UnitState(v holdfast.VolumeID) (UnitState, kv.Rev, error) {
	key := unitKind().key(v.String())
	it, err := c.get(key)
	if err != nil {
		return UnitState{}, 0, err
	}
	if it.Mod == 0 {
		return UnitState{}, 0, holdfast.Errorf(holdfast.NotFound, "volume %s is no unit of an export", v.Short())
	}
	u, err := decode(unitKind(), key, it.Value)
	if err != nil {
		return u, 0, holdfast.Errorf(holdfast.Corrupt, "what unit %s keeps cannot be read: %w", v.Short(), err)
	}
	return u, it.Mod, nil
}

// SaveUnit replaces what a logical unit keeps, on the condition that it stands
// at mod and its export is served as of the revision serving. Errors: Conflict
// if either has changed; those of Txn.Settle.
func (c *Client) SaveUnit(u UnitState, mod, serving kv.Rev) (kv.Rev, error) {
	t := c.Begin()
	t.require(servingKind().key(u.Export.String()), serving)
	putRecord(t, unitKind(), u, mod, 0)
	return t.Settle(kv.CallTimeout)
}

// Served reports whether an export is served by a host under the lease that it
// holds now.
func (k *KeepAlive) Served(s Serving) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return s.Host == k.alive.Host && s.Lease == k.word.Lease()
}
