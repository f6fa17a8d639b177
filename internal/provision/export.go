package provision

import (
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// targetPrefix begins the iSCSI names of all targets (RFC 7143 §4.2.7.4).
const targetPrefix = "iqn.2026-11.cloud.holdfast:"

func errExported(volume, export string) error {
	return holdfast.Errorf(holdfast.Busy, "volume %s is reachable through export %s; delete the export first, or clone the volume", volume, export)
}

// CreateExport makes volumes reachable as an iSCSI target; nobody may log in
// yet. The volumes' records are conditions of the commit, so that none becomes
// a VM's disk meanwhile.
func (p *Provisioner) CreateExport(name string, units []cluster.Unit) (cluster.Export, error) {
	if err := holdfast.CheckName("export", name); err != nil {
		return cluster.Export{}, err
	}
	u, err := p.uuid()
	if err != nil {
		return cluster.Export{}, err
	}
	st, err := p.fresh()
	if err != nil {
		return cluster.Export{}, err
	}
	e := cluster.Export{ID: holdfast.ExportID{UUID: u}, Name: name, Units: slices.Clone(units), Created: p.Clock.Wall(),
		Target: targetPrefix + strings.ToLower(st.Cluster.Name) + "." + name}
	tx := p.Cluster.Begin()
	for i := range e.Units {
		v, ok := st.Volumes[e.Units[i].Volume]
		if !ok || v.Val.Deleted {
			return e, holdfast.Errorf(holdfast.NotFound, "volume %s does not exist", e.Units[i].Volume.Short())
		}
		if err := mayExport(st, v.Val, &e.Units[i]); err != nil {
			return e, err
		}
		tx.RequireVolume(v.Val.ID, v.Mod)
	}
	tx.PutExport(e, 0)
	rev, err := tx.Settle(settle)
	if err == nil {
		p.Cluster.WaitRev(rev, kv.CallTimeout)
	}
	return e, err
}

// mayExport says why a volume cannot be a unit. An image may only be read.
func mayExport(st *cluster.State, v cluster.Volume, u *cluster.Unit) error {
	if vm, ok := st.VMs[v.VM]; ok && !vm.Val.Deleted {
		return holdfast.Errorf(holdfast.Busy, "volume %s is the disk of VM %s; clone it", v.Name, vm.Val.Name)
	}
	if other, ok := st.ExportOf(v.ID); ok {
		return errExported(v.Name, other.Val.Name)
	}
	if v.Image {
		if !v.Sealed {
			return holdfast.Errorf(holdfast.Unavailable, "image %s is still being imported", v.Name)
		}
		u.ReadOnly = true
	}
	return nil
}

// DeleteExport ends an export. The host that serves it ends its sessions.
func (p *Provisioner) DeleteExport(id holdfast.ExportID) error {
	_, err := p.changeExport(id, func(tx *cluster.Txn, e *cluster.Export, mod kv.Rev) error {
		tx.DeleteExport(*e, mod)
		return nil
	})
	return err
}

// AllowInitiator adds an initiator to an export, or changes the one of that
// name.
func (p *Provisioner) AllowInitiator(id holdfast.ExportID, i cluster.Initiator) (cluster.Export, error) {
	return p.changeExport(id, func(tx *cluster.Txn, e *cluster.Export, mod kv.Rev) error {
		if i.Secret != "" && i.User == "" {
			i.User = i.Name
		}
		if i.MutualSecret != "" && i.MutualUser == "" {
			i.MutualUser = e.Target
		}
		if at := slices.IndexFunc(e.Initiators, func(x cluster.Initiator) bool { return x.Name == i.Name }); at >= 0 {
			e.Initiators[at] = i
		} else {
			e.Initiators = append(e.Initiators, i)
		}
		tx.PutExport(*e, mod)
		return nil
	})
}

// DenyInitiator removes an initiator from an export.
func (p *Provisioner) DenyInitiator(id holdfast.ExportID, name string) (cluster.Export, error) {
	return p.changeExport(id, func(tx *cluster.Txn, e *cluster.Export, mod kv.Rev) error {
		n := len(e.Initiators)
		e.Initiators = slices.DeleteFunc(e.Initiators, func(x cluster.Initiator) bool { return x.Name == name })
		if len(e.Initiators) == n {
			return holdfast.Errorf(holdfast.NotFound, "initiator %.80q is not on the list of export %s", name, e.Name)
		}
		tx.PutExport(*e, mod)
		return nil
	})
}

// changeExport has f add to a transaction what becomes of an export, again if
// somebody else was first.
func (p *Provisioner) changeExport(id holdfast.ExportID, f func(*cluster.Txn, *cluster.Export, kv.Rev) error) (e cluster.Export, err error) {
	err = p.transact(func(st *cluster.State, tx *cluster.Txn) error {
		rec, ok := st.Exports[id]
		if !ok {
			return holdfast.Errorf(holdfast.NotFound, "export %s does not exist", id.Short())
		}
		e = rec.Val
		e.Initiators = slices.Clone(e.Initiators)
		return f(tx, &e, rec.Mod)
	})
	return e, err
}
