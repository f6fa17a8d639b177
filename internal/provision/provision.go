// Package provision makes and removes the things people ask for: volumes,
// linked clones, snapshots, images and VMs. It joins placement, the hosts'
// disks and the cluster's records in the order that leaves nothing half made:
// replicas first, then one commit that makes the thing known. If that does not
// come about the replicas are removed again; a host that dies just then leaves
// an empty one behind, which costs its space and nothing else. Nothing is ever
// deleted because a record is missing: a record may be missing by mistake.
package provision

import (
	"cmp"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// settle bounds how long an unknown outcome is looked into.
const settle = 15 * time.Second

// Provisioner acts from one host.
type Provisioner struct {
	Self    holdfast.HostID
	Boot    holdfast.BootID // this life of the host
	Cluster *cluster.Client
	Volumes *volume.Service
	Keys    *keyring.Ring // the cluster keys in this host's memory
	// AwaitKeys gives the host a moment to take a key from another one that has
	// it; nil: it does not wait.
	AwaitKeys func()
	Clock     clock.Clock
	Rand      io.Reader
	Log       *slog.Logger
}

// VolumeSpec is a volume to be made.
type VolumeSpec struct {
	Name       string
	Blocks     uint64 // 0 with an origin: as large as that
	Copies     int    // 0: the pool's, else 2, or 1 where there is one host
	Min        int    // 0: 1
	Durability cluster.Durability
	Reads      cluster.Reads   // "": leased
	Origin     *cluster.Origin // linked clone of an image or a snapshot
	Image      bool            // to be filled and sealed
	// Encrypt has the blocks sealed under a key of the volume's own. A clone of
	// an encrypted volume is encrypted, whatever is said.
	Encrypt     bool
	Compression string          // "": none, or the origin's; "off", "fast", "auto"
	Limits      cluster.Limits  // of what its initiators get of it
	Weight      int             // of its share of a disk; 0: the default
	Pool        holdfast.PoolID // zero: the default pool; of a clone it is the origin's, whatever is said
}

func (p *Provisioner) fresh() (*cluster.State, error) { return p.Cluster.Refresh() }

func (p *Provisioner) uuid() (holdfast.UUID, error) { return holdfast.NewUUID(p.Rand) }

// CreateVolume makes a volume and returns its record as committed.
func (p *Provisioner) CreateVolume(spec VolumeSpec) (rec cluster.Volume, err error) {
	err = p.again(func() error { rec, err = p.createVolume(spec); return err })
	return rec, err
}

func (p *Provisioner) createVolume(spec VolumeSpec) (cluster.Volume, error) {
	rec, st, err := p.prepare(spec)
	if err != nil {
		return rec, err
	}
	tx := p.Cluster.Begin()
	if err := p.putVolume(tx, st, st, rec); err != nil {
		return rec, err
	}
	return rec, p.commit(tx, rec)
}

// commit makes a new volume's record, or removes its replicas. The volume's
// identity is new: what stands under it was made here, even if it has gone on
// while the answer was lost, so that the retry meets a conflict. Where it
// cannot be read, replicas without a volume are better than a volume without
// replicas.
func (p *Provisioner) commit(tx *cluster.Txn, rec cluster.Volume) error {
	rev, err := tx.Settle(settle)
	if err == nil {
		p.Cluster.WaitRev(rev, kv.CallTimeout)
		return nil
	}
	return p.unmade(rec, err)
}

// unmade removes the replicas of a volume whose commit failed, unless it was made
// after all.
func (p *Provisioner) unmade(rec cluster.Volume, err error) error {
	if holdfast.IsKind(err, holdfast.Unknown) {
		return err
	}
	st, unread := p.fresh()
	if unread != nil {
		return holdfast.Errorf(holdfast.Unknown, "whether volume %s was made could not be read; look before acting: %w", rec.Name, err)
	}
	if _, made := st.Volumes[rec.ID]; made {
		return nil
	}
	p.discard(rec)
	return err
}

// putVolume adds a volume to a transaction that is decided by now, and whose replicas
// were made by an earlier picture. Kind Conflict if what they were made of, where, or
// under which key, has changed since: they are to be made again.
func (p *Provisioner) putVolume(tx *cluster.Txn, by, now *cluster.State, rec cluster.Volume) error {
	changed := func(what string) error {
		return holdfast.Errorf(holdfast.Conflict, "volume %s: %s was changed while it was made; do it again", rec.Name, what)
	}
	if rec.Origin != nil {
		o, ok := now.Volumes[rec.Origin.Volume]
		if !ok || o.Val.Deleted {
			return holdfast.Errorf(holdfast.NotFound, "the image or volume to clone was deleted")
		}
		if o.Mod != by.Volumes[o.Val.ID].Mod {
			return changed("volume " + o.Val.Name)
		}
		if rec.Origin.Snapshot.IsZero() {
			tx.RequireVolume(o.Val.ID, o.Mod)
		} else {
			tx.PutVolume(o.Val, o.Mod) // who deletes the snapshot at this moment looks again, and hides it
		}
	}
	pool := by.Pools[rec.Pool]
	if pool.Mod != now.Pools[rec.Pool].Mod {
		return changed("pool " + pool.Val.Name)
	}
	tx.RequirePool(rec.Pool, pool.Mod)
	if rec.Encrypted() {
		if by.Keyring.Mod != now.Keyring.Mod {
			return changed("the cluster key")
		}
		tx.RequireKeyring(by.Keyring.Mod)
	}
	tx.PutVolume(rec, 0)
	return nil
}

// prepare makes the replicas of a volume that has no record yet.
func (p *Provisioner) prepare(spec VolumeSpec) (cluster.Volume, *cluster.State, error) {
	st, err := p.fresh()
	if err != nil {
		return cluster.Volume{}, nil, err
	}
	if err := holdfast.CheckName("volume", spec.Name); err != nil {
		return cluster.Volume{}, nil, err
	}
	if _, taken := st.VolumeByName(spec.Name); taken {
		return cluster.Volume{}, nil, holdfast.Errorf(holdfast.Exists, "a volume named %q exists; choose another name", spec.Name)
	}
	id, err := p.uuid()
	if err != nil {
		return cluster.Volume{}, nil, err
	}
	rec := cluster.Volume{
		ID: holdfast.VolumeID{UUID: id}, Name: spec.Name, Blocks: spec.Blocks, Copies: spec.Copies, Min: max(spec.Min, 1),
		Durability: spec.Durability, Reads: spec.Reads, Image: spec.Image, Origin: spec.Origin, Pool: spec.Pool, Limits: spec.Limits, Weight: spec.Weight, Created: p.Clock.Wall(),
	}
	if err := errors.Join(rec.Limits.Check(), cluster.CheckWeight(rec.Weight)); err != nil {
		return cluster.Volume{}, nil, holdfast.Errorf(holdfast.Invalid, "volume %s: %w", rec.Name, err)
	}
	if rec.Image {
		rec.Importer, rec.ImporterBoot = p.Self, p.Boot
	}
	if rec.Durability == "" {
		rec.Durability = cluster.OnFlush
	}
	rec.Compression = spec.Compression
	if spec.Origin != nil {
		return p.prepareClone(rec, st, spec.Encrypt)
	}
	rec.Compression = strings.TrimPrefix(rec.Compression, "off")
	if spec.Encrypt {
		if err := p.addDataKey(st, &rec, nil); err != nil {
			return rec, st, err
		}
	}
	return p.prepareEmpty(rec, st)
}

// defaultCopies is what the pool says, else two, or one where a second would
// share the only host.
func defaultCopies(st *cluster.State, pool cluster.Pool) int {
	if pool.Copies > 0 {
		return pool.Copies
	}
	return min(2, max(1, st.DataHosts()))
}

func (p *Provisioner) prepareEmpty(rec cluster.Volume, st *cluster.State) (cluster.Volume, *cluster.State, error) {
	if rec.Blocks == 0 || rec.Blocks > holdfast.MaxVolumeBlocks {
		return rec, st, holdfast.Errorf(holdfast.Invalid, "volume %s: a size of %d blocks is out of range; give 1 block (4 KiB) to 64 TiB", rec.Name, rec.Blocks)
	}
	pool, err := poolOf(st, rec.Pool)
	if err != nil {
		return rec, st, err
	}
	if rec.Copies == 0 {
		rec.Copies = defaultCopies(st, pool)
	}
	spots, why := placement.PlaceVolume(st, rec.Blocks, rec.Copies, placement.Constraints{Pool: rec.Pool})
	if len(spots) < rec.Min || len(spots) == 0 {
		return rec, st, holdfast.Errorf(holdfast.NoSpace, "volume %s: %s", rec.Name, why.String())
	}
	for _, s := range spots {
		ref, err := p.replicaOn(s.Host, s.Disk)
		if err == nil {
			err = p.Volumes.CreateReplica(ref, rec.ID, rec.Blocks, holdfast.ReplicaID{}, cluster.Snapshot{})
		}
		if err != nil {
			p.discard(rec)
			return rec, st, holdfast.Errorf(holdfast.KindOf(err), "volume %s: its copy on host %s could not be made: %w", rec.Name, st.Hosts[s.Host].Val.Name, err)
		}
		rec.InSync = append(rec.InSync, ref)
	}
	return rec, st, nil
}

func (p *Provisioner) replicaOn(h holdfast.HostID, d holdfast.DiskID) (cluster.Replica, error) {
	id, err := p.uuid()
	return cluster.Replica{ID: holdfast.ReplicaID{UUID: id}, Host: h, Disk: d}, err
}

// prepareClone makes linked clones beside the origin's in-sync replicas.
func (p *Provisioner) prepareClone(rec cluster.Volume, st *cluster.State, encrypt bool) (cluster.Volume, *cluster.State, error) {
	o, ok := st.Volumes[rec.Origin.Volume]
	if !ok || o.Val.Deleted {
		return rec, st, holdfast.Errorf(holdfast.NotFound, "volume %s: the image or volume to clone does not exist", rec.Name)
	}
	if o.Val.Image && !o.Val.Sealed {
		return rec, st, holdfast.Errorf(holdfast.Unavailable, "image %s is still being imported", o.Val.Name)
	}
	if rec.Origin.Snapshot.IsZero() && !o.Val.Image {
		return rec, st, holdfast.Errorf(holdfast.Invalid, "volume %s changes; clone a snapshot of it", o.Val.Name)
	}
	if rec.Blocks != 0 && rec.Blocks < o.Val.Blocks {
		return rec, st, holdfast.Errorf(holdfast.Invalid, "volume %s: a clone of %s has at least %d blocks", rec.Name, o.Val.Name, o.Val.Blocks)
	}
	if rec.Copies == 0 {
		rec.Copies = o.Val.Copies
	}
	grow := rec.Blocks
	rec.Blocks, rec.Epoch, rec.Pool = o.Val.Blocks, o.Val.Epoch, o.Val.Pool
	if _, err := poolOf(st, rec.Pool); err != nil {
		return rec, st, err
	}
	switch {
	case o.Val.Encrypted():
		if err := p.addDataKey(st, &rec, o.Val.Keys); err != nil {
			return rec, st, err
		}
	case encrypt:
		return rec, st, holdfast.Errorf(holdfast.Invalid, "volume %s: it would share blocks with %s that stand in the clear; import the image with --encrypt, or make an empty volume", rec.Name, o.Val.Name)
	}
	rec.Compression = strings.TrimPrefix(cmp.Or(rec.Compression, o.Val.Compression), "off")
	of := cluster.Snapshot{ID: rec.Origin.Snapshot}
	if i := slices.IndexFunc(o.Val.Snapshots, func(s cluster.Snapshot) bool { return s.ID == of.ID }); i >= 0 {
		of = o.Val.Snapshots[i]
	} else if !of.ID.IsZero() {
		return rec, st, holdfast.Errorf(holdfast.NotFound, "volume %s: the snapshot of volume %s to clone was deleted", rec.Name, o.Val.Name)
	}
	last := holdfast.Errorf(holdfast.Unavailable, "none of them is alive")
	for _, from := range o.Val.InSync {
		if !st.AliveHost(from.Host) {
			continue
		}
		ref, err := p.replicaOn(from.Host, from.Disk)
		if err == nil {
			err = p.Volumes.CreateReplica(ref, rec.ID, rec.Blocks, from.ID, of)
		}
		if err != nil {
			p.Log.Warn("a linked clone's copy could not be made", "volume", rec.Name, "host", st.Hosts[from.Host].Val.Name, "error", err)
			last = err
			continue
		}
		if rec.InSync = append(rec.InSync, ref); len(rec.InSync) == rec.Copies {
			break
		}
	}
	if len(rec.InSync) < rec.Min {
		p.discard(rec)
		return rec, st, holdfast.Errorf(holdfast.Unavailable, "volume %s: too few hosts with a good copy of %s can be reached: %w", rec.Name, o.Val.Name, last)
	}
	rec.Blocks = max(rec.Blocks, grow) // the first writer grows the replicas to the record's size
	return rec, st, nil
}

// discard removes replicas of a volume whose record was not made.
func (p *Provisioner) discard(rec cluster.Volume) {
	for _, ref := range rec.InSync {
		if err := p.Volumes.RemoveReplica(ref); err != nil {
			p.Log.Warn("a replica without a volume is left behind for now", "replica", ref.ID.Short(), "error", err)
		}
	}
}
