package provision

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// SetAside makes a volume of its own of a replica on this host that its volume was
// forced open without (ADR 0065): the content is on disk under the identities that
// the record has for it, then one commit makes it known. It is done if the replica
// is none that waits for it; it may be broken off and repeated. It blocks.
func (p *Provisioner) SetAside(id holdfast.VolumeID, lost holdfast.ReplicaID) error {
	st, err := p.fresh()
	if err != nil {
		return err
	}
	v, ok := st.Volumes[id]
	l, waits := v.Val.LostCopy(lost)
	if !ok || !waits {
		return nil
	}
	aside := cluster.Volume{ID: l.Volume, Copies: 1, Min: 1, Durability: v.Val.Durability, Pool: v.Val.Pool, Compression: v.Val.Compression,
		Epoch: v.Val.Epoch, Image: v.Val.Image, Sealed: v.Val.Sealed, Created: p.Clock.Wall(),
		InSync: []cluster.Replica{{ID: l.Copy, Host: l.Host, Disk: l.Disk}}}
	if v.Val.Encrypted() {
		if err := p.addDataKey(st, &aside, v.Val.Keys); err != nil {
			return err
		}
	}
	if aside.Blocks, err = p.Volumes.SetAside(&l, v.Val.Epoch); err != nil {
		return err
	}
	at := aside.Created.UTC()
	l.At = &at
	return p.transact(func(st *cluster.State, tx *cluster.Txn) error {
		v, ok := st.Volumes[id]
		if !ok {
			return holdfast.Errorf(holdfast.NotFound, "volume %s was deleted", id.Short())
		}
		if _, waits := v.Val.LostCopy(lost); !waits {
			return errStands
		}
		aside.Name = cluster.DatedName(v.Val.Name, "lost", at, func(name string) bool { _, taken := st.VolumeByName(name); return taken })
		l.Name = aside.Name
		if aside.Encrypted() {
			tx.RequireKeyring(st.Keyring.Mod)
		}
		tx.RequirePool(aside.Pool, st.Pools[aside.Pool].Mod)
		tx.PutVolume(aside, 0)
		rec, f := v.Val, *v.Val.Forced
		f.Lost = slices.Clone(f.Lost)
		f.Lost[slices.IndexFunc(f.Lost, func(o cluster.LostCopy) bool { return o.ID == lost })] = l
		rec.Forced = &f
		tx.PutVolume(rec, v.Mod)
		return nil
	})
}
