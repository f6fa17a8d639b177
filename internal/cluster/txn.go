package cluster

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// Any as the revision of a put or delete means that the record is changed
// whatever it holds, or whether it exists. Records with names refuse it.
const Any kv.Rev = -1

// Txn gathers changes that are committed together or not at all. Every put and
// delete names the revision of the record that it was decided on
// (Versioned.Mod; zero: the record must not exist), so a decision on an old
// picture fails with kind Conflict instead of undoing somebody else's.
//
// Names are unique among the hosts, pools, volumes and VMs, each: the commit keeps
// their index, and fails with kind Exists if a name is taken. A volume or VM
// whose Deleted is set has given its name up.
//
// A Txn belongs to one task. A mistake in a record is returned by Commit.
type Txn struct {
	c     *Client
	conds []kv.Cond
	ops   []kv.Op
	names []rename
	vols  []volumePut
	err   error
}

// Begin returns an empty transaction.
func (c *Client) Begin() *Txn { return &Txn{c: c} }

// Len returns how many operations the commit may need at most; kv.MaxOps are
// allowed, so long work is split by it.
func (t *Txn) Len() int { return len(t.ops) + 2*len(t.names) }

// Conditions returns how many records the commit depends on so far.
func (t *Txn) Conditions() int { return len(t.conds) }

func (t *Txn) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

// require adds the condition that key was last changed at mod.
func (t *Txn) require(key string, mod kv.Rev) {
	if mod == Any {
		return
	}
	for _, c := range t.conds {
		if c.Key == key {
			if c.Mod != mod {
				t.fail(holdfast.Errorf(holdfast.Conflict, "%s was read at two revisions; read it again and retry", key))
			}
			return
		}
	}
	t.conds = append(t.conds, kv.Cond{Key: key, Mod: mod})
}

func putRecord[T any](t *Txn, k kind[T], v T, mod kv.Rev, lease kv.LeaseID) {
	b, err := encode(k, &v)
	if err != nil {
		t.fail(err)
		return
	}
	key := k.key(k.id(&v))
	t.require(key, mod)
	t.ops = append(t.ops, kv.Op{Key: key, Value: b, Lease: lease})
	if k.name != nil {
		t.names = append(t.names, renameOf(k, key, k.id(&v), mod, k.name(&v)))
	}
}

func deleteRecord[T any](t *Txn, k kind[T], id string, mod kv.Rev) {
	key := k.key(id)
	if mod == 0 {
		t.fail(holdfast.Errorf(holdfast.Invalid, "the delete of %s names no revision; read it first", key))
	}
	t.require(key, mod)
	t.ops = append(t.ops, kv.Op{Key: key, Delete: true})
	if k.name != nil {
		t.names = append(t.names, renameOf(k, key, id, mod, ""))
	}
}

// PutHost adds or changes a host.
func (t *Txn) PutHost(h Host, mod kv.Rev) { putRecord(t, hostKind(), h, mod, 0) }

// DeleteHost removes a host for good.
func (t *Txn) DeleteHost(id holdfast.HostID, mod kv.Rev) {
	deleteRecord(t, hostKind(), id.String(), mod)
}

// RequireHost makes the commit depend on the host's record being as read.
func (t *Txn) RequireHost(id holdfast.HostID, mod kv.Rev) { t.require(dirHost+id.String(), mod) }

// PutDisk adds or changes a disk.
func (t *Txn) PutDisk(d Disk, mod kv.Rev) { putRecord(t, diskKind(), d, mod, 0) }

// DeleteDisk removes a disk.
func (t *Txn) DeleteDisk(id holdfast.DiskID, mod kv.Rev) {
	deleteRecord(t, diskKind(), id.String(), mod)
}

// RequireDisk makes the commit depend on the disk's record being as read.
func (t *Txn) RequireDisk(id holdfast.DiskID, mod kv.Rev) { t.require(dirDisk+id.String(), mod) }

// PutPool adds or changes a pool.
func (t *Txn) PutPool(p Pool, mod kv.Rev) { putRecord(t, poolKind(), p, mod, 0) }

// DeletePool removes a pool.
func (t *Txn) DeletePool(id holdfast.PoolID, mod kv.Rev) {
	deleteRecord(t, poolKind(), id.String(), mod)
}

// RequirePool makes the commit depend on a pool's record being as read; the
// default pool has none and is always there.
func (t *Txn) RequirePool(id holdfast.PoolID, mod kv.Rev) {
	if !id.IsZero() {
		t.require(dirPool+id.String(), mod)
	}
}

// PutKeyring changes the cluster's record of its keys.
func (t *Txn) PutKeyring(r keyring.Record, mod kv.Rev) {
	b, err := json.Marshal(r)
	if err == nil {
		err = r.Check()
	}
	if err != nil {
		t.fail(err)
		return
	}
	t.require(keyKeyring, mod)
	t.ops = append(t.ops, kv.Op{Key: keyKeyring, Value: b})
}

// RequireKeyring makes the commit depend on the record of keys being as read:
// who wraps a data key does so under a key that stays current until then.
func (t *Txn) RequireKeyring(mod kv.Rev) { t.require(keyKeyring, mod) }

// PutVolume adds or changes a volume, with its snapshots.
func (t *Txn) PutVolume(v Volume, mod kv.Rev) {
	putRecord(t, volumeKind(), v, mod, 0)
	t.vols = append(t.vols, volumePut{v.ID, mod, v.Snapshots})
}

// DeleteVolume removes a volume's record and those of its snapshots.
func (t *Txn) DeleteVolume(id holdfast.VolumeID, mod kv.Rev) {
	deleteRecord(t, volumeKind(), id.String(), mod)
	t.vols = append(t.vols, volumePut{id: id, mod: mod})
}

// RequireVolume makes the commit depend on the volume's record being as read.
func (t *Txn) RequireVolume(id holdfast.VolumeID, mod kv.Rev) { t.require(dirVolume+id.String(), mod) }

// PutVM adds or changes a VM.
func (t *Txn) PutVM(v VM, mod kv.Rev) { putRecord(t, vmKind(), v, mod, 0) }

// DeleteVM removes a VM's record.
func (t *Txn) DeleteVM(id holdfast.VMID, mod kv.Rev) { deleteRecord(t, vmKind(), id.String(), mod) }

// RequireVM makes the commit depend on the VM's record being as read.
func (t *Txn) RequireVM(id holdfast.VMID, mod kv.Rev) { t.require(dirVM+id.String(), mod) }

// PutMachine adds or changes what is observed of a VM's process.
func (t *Txn) PutMachine(m Machine, mod kv.Rev) { putRecord(t, machineKind(), m, mod, 0) }

// DeleteMachine removes it.
func (t *Txn) DeleteMachine(vm holdfast.VMID, mod kv.Rev) {
	deleteRecord(t, machineKind(), vm.String(), mod)
}

// RequireMachine makes the commit depend on the machine's record being as read.
func (t *Txn) RequireMachine(vm holdfast.VMID, mod kv.Rev) { t.require(dirMachine+vm.String(), mod) }

// PutIncident adds or changes an incident.
func (t *Txn) PutIncident(i Incident, mod kv.Rev) { putRecord(t, incidentKind(), i, mod, 0) }

// DeleteIncident forgets one.
func (t *Txn) DeleteIncident(id string, mod kv.Rev) { deleteRecord(t, incidentKind(), id, mod) }

// RequireAlive makes the commit depend on what a host says of itself being as
// read; mod zero: on the host being away.
func (t *Txn) RequireAlive(id holdfast.HostID, mod kv.Rev) { t.require(dirAlive+id.String(), mod) }

// AsLeader makes the commit depend on the election of that revision
// (State.LeaderMod, Election.Leading): a deposed leader changes nothing.
func (t *Txn) AsLeader(mod kv.Rev) {
	if mod <= 0 {
		t.fail(holdfast.Errorf(holdfast.Fenced, "this host is not the leader"))
		return
	}
	t.require(keyLeader, mod)
}

func (t *Txn) putElection(e election, mod kv.Rev) {
	b, err := json.Marshal(e)
	if err != nil {
		t.fail(err)
	}
	t.require(keyLeader, mod)
	t.ops = append(t.ops, kv.Op{Key: keyLeader, Value: b, Lease: e.Lease})
}

// Commit makes the changes and returns their revision, at which every put
// record then stands. Errors: those of kv.Store.Commit; Invalid for a record
// that breaks the rules or a commit that is too large; Exists for a name that
// is taken. After Unknown, use Settle or read (Client.Refresh) and decide anew.
func (t *Txn) Commit() (kv.Rev, error) {
	conds, ops, err := t.build()
	if err != nil {
		return 0, err
	}
	rev, err := t.c.st.Commit(conds, ops)
	if holdfast.IsKind(err, holdfast.Conflict) {
		return 0, t.explain(err)
	}
	return rev, err
}

// Settle is Commit, repeated under the same conditions while its outcome is
// Unknown or Unavailable, for at most timeout. Since the conditions stay, the
// changes are made at most once. A Conflict after an unknown outcome counts as
// success if the records stand exactly as put.
func (t *Txn) Settle(timeout time.Duration) (kv.Rev, error) {
	end := t.c.clk.Now() + timeout
	unsure := false
	for delay := retryMin; ; delay = min(2*delay, retryMax) {
		rev, err := t.Commit()
		switch kind := holdfast.KindOf(err); {
		case err == nil:
			return rev, nil
		case unsure && (kind == holdfast.Conflict || kind == holdfast.Exists || kind == holdfast.NotFound):
			rev, done, rerr := t.standing()
			if done {
				return rev, nil
			}
			if rerr == nil {
				return 0, err
			}
		case kind == holdfast.Unknown:
			unsure = true
		case kind != holdfast.Unavailable:
			return 0, err
		}
		if t.c.clk.Now()+delay > end {
			if unsure {
				return 0, holdfast.Errorf(holdfast.Unknown, "whether the change was made could not be found out within %v; read before acting: %w", timeout, err)
			}
			return 0, err
		}
		clock.Sleep(t.c.clk, delay)
	}
}

// standing reports whether the map holds exactly what t puts, since one commit.
func (t *Txn) standing() (rev kv.Rev, ok bool, err error) {
	for _, o := range t.ops {
		it, err := t.c.get(o.Key)
		if err != nil {
			return 0, false, err
		}
		if o.Delete {
			if it.Mod != 0 {
				return 0, false, nil
			}
			continue
		}
		if it.Mod == 0 || !bytes.Equal(it.Value, o.Value) || rev != 0 && it.Mod != rev {
			return 0, false, nil
		}
		rev = it.Mod
	}
	return rev, true, nil
}

// get reads one key; Mod is zero if it does not exist.
func (c *Client) get(key string) (kv.Item, error) {
	items, _, err := c.st.Range(key)
	if err != nil {
		return kv.Item{}, err
	}
	if i := slices.IndexFunc(items, func(it kv.Item) bool { return it.Key == key }); i >= 0 {
		return items[i], nil
	}
	return kv.Item{}, nil
}
