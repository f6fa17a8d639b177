package provision

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
)

// currentKey returns the cluster key that new data keys are wrapped with.
func (p *Provisioner) currentKey(st *cluster.State) (keyring.Key, error) {
	if st.Keyring.Mod == 0 {
		return keyring.Key{}, holdfast.Errorf(holdfast.Invalid, "the cluster has no key to encrypt with; make one with 'holdfast cluster key init'")
	}
	id := st.Keyring.Val.Current().ID
	k, ok := p.Keys.Get(id)
	if !ok && p.AwaitKeys != nil && slices.ContainsFunc(st.SortedAlive(), func(a cluster.Versioned[cluster.Alive]) bool { return slices.Contains(a.Val.Keys, id) }) {
		p.AwaitKeys()
		k, ok = p.Keys.Get(id)
	}
	if !ok {
		return k, holdfast.Errorf(holdfast.Unavailable, "the cluster key is not loaded on host %s; run 'holdfast cluster key unlock'", st.Hosts[p.Self].Val.Name)
	}
	return k, nil
}

// addDataKey makes a new volume's data key, in front of those of its origin.
func (p *Provisioner) addDataKey(st *cluster.State, rec *cluster.Volume, origin []keyring.Wrapped) error {
	under, err := p.currentKey(st)
	if err != nil {
		return holdfast.Errorf(holdfast.KindOf(err), "volume %s: %w", rec.Name, err)
	}
	data, err := keyring.NewKey(p.Rand)
	if err != nil {
		return err
	}
	own, err := keyring.Wrap(&under, rec.ID, &data, p.Rand)
	if err != nil {
		return err
	}
	rec.Keys = append([]keyring.Wrapped{own}, origin...)
	return nil
}

// InitKey records the cluster's first key and loads it on this host. Kind
// Exists: there is one.
func (p *Provisioner) InitKey(k keyring.Key, from keyring.Source) error {
	st, err := p.fresh()
	if err != nil {
		return err
	}
	if st.Keyring.Mod != 0 {
		return holdfast.Errorf(holdfast.Exists, "the cluster has a key already, %s; 'holdfast cluster key rotate' replaces it", st.Keyring.Val.Current().ID.Short())
	}
	from.ID, from.Created = k.ID(), p.Clock.Wall().UTC()
	return p.commitKeys(keyring.Record{Keys: []keyring.Source{from}}, st, k)
}

// RotateKey makes another key the one that wraps. The leader then wraps every
// volume's keys anew. Kind Busy: that of the last rotation is not done.
func (p *Provisioner) RotateKey(k keyring.Key, from keyring.Source) error {
	st, err := p.fresh()
	if err != nil {
		return err
	}
	if _, err := p.currentKey(st); err != nil {
		return err // who cannot unwrap has no business to replace it
	}
	rec := st.Keyring.Val
	from.ID, from.Created = k.ID(), p.Clock.Wall().UTC()
	switch {
	case len(rec.Keys) > 1:
		return holdfast.Errorf(holdfast.Busy, "the last rotation is not complete: %d volumes are still wrapped under key %s", st.LeftToWrap(), rec.Keys[0].ID.Short())
	case rec.Current().ID == from.ID:
		return holdfast.Errorf(holdfast.Exists, "that is the key the cluster has; give another")
	}
	return p.commitKeys(keyring.Record{Keys: []keyring.Source{rec.Current(), from}}, st, k)
}

func (p *Provisioner) commitKeys(rec keyring.Record, st *cluster.State, load keyring.Key) error {
	tx := p.Cluster.Begin()
	tx.PutKeyring(rec, st.Keyring.Mod)
	if err := p.settled(tx); err != nil {
		return err
	}
	p.Keys.Add(load)
	return nil
}

// LoadKey loads a key on this host. Kind Denied: it is none of the cluster's.
func (p *Provisioner) LoadKey(k keyring.Key) error {
	st, err := p.fresh()
	if err != nil {
		return err
	}
	if st.Keyring.Mod == 0 {
		return holdfast.Errorf(holdfast.NotFound, "the cluster has no key; make one with 'holdfast cluster key init'")
	}
	if _, ok := st.Keyring.Val.Find(k.ID()); !ok {
		return holdfast.Errorf(holdfast.Denied, "that is not the cluster's key, %s; is it the right passphrase or file?", st.Keyring.Val.Current().ID.Short())
	}
	p.Keys.Add(k)
	return nil
}

// Rewrap goes on with a rotation: it wraps the keys of every volume that are
// not under the current key anew, each in a commit of its own that requires
// the record as it was read, and once nothing is left takes the old key out.
// It may be broken off and repeated anywhere, by any host. A volume whose record
// is changed at the same time is left to the next call.
func (p *Provisioner) Rewrap() error {
	st, err := p.fresh()
	if err != nil || len(st.Keyring.Val.Keys) < 2 {
		return err
	}
	current := st.Keyring.Val.Current()
	for _, v := range st.SortedVolumes() {
		if !v.Val.Stale(current.ID) {
			continue
		}
		rec := v.Val
		if rec.Keys, err = p.Keys.Rewrap(rec.Keys, current.ID, p.Rand); err != nil {
			return holdfast.Errorf(holdfast.KindOf(err), "the keys of volume %s could not be wrapped anew: %w", rec.Name, err)
		}
		tx := p.Cluster.Begin()
		tx.RequireKeyring(st.Keyring.Mod)
		tx.PutVolume(rec, v.Mod)
		if _, err := tx.Settle(settle); err != nil && !holdfast.IsKind(err, holdfast.Conflict) {
			return err
		}
	}
	if st, err = p.fresh(); err != nil || st.LeftToWrap() > 0 || len(st.Bad) > 0 || len(st.Keyring.Val.Keys) < 2 {
		return err
	}
	// Nothing new can be under the old key: who wraps requires this record.
	tx := p.Cluster.Begin()
	tx.PutKeyring(keyring.Record{Keys: []keyring.Source{st.Keyring.Val.Current()}}, st.Keyring.Mod)
	return p.settled(tx)
}

// eraseKeys takes the keys out of a volume that is deleted, so that what is
// left of it anywhere cannot be read any more. must refuses where that would
// not be so: the volume is not encrypted, or a clone has its key too.
func eraseKeys(st *cluster.State, rec *cluster.Volume, must bool) error {
	if must && !rec.Encrypted() {
		return holdfast.Errorf(holdfast.Invalid, "volume %s is not encrypted: what stands on disks cannot be made unreadable by erasing a key; delete it without --erase and wipe the disks", rec.Name)
	}
	for _, v := range st.SortedVolumes() {
		has := slices.ContainsFunc(v.Val.Keys, func(w keyring.Wrapped) bool { return w.Volume == rec.ID })
		if must && has && v.Val.ID != rec.ID {
			return holdfast.Errorf(holdfast.Conflict, "volume %s is a clone of %s and has its key; delete that first", v.Val.Name, rec.Name)
		}
	}
	rec.Keys = nil
	return nil
}
