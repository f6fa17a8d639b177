package serve

import (
	"context"
	"crypto/tls"
	"net"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/auth"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/disk/filedisk"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/kept"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// planFromDisks plans a recovery on a host that is in no cluster, from disks that
// were taken out of hosts that are lost.
func (h *Host) planFromDisks(ctx context.Context, from httpapi.RecoverFrom) (*recoveryOrder, v1.Recovery, error) {
	ms, err := h.dir.membership()
	if err != nil {
		return nil, v1.Recovery{}, err
	}
	if ms != nil {
		return nil, v1.Recovery{}, holdfast.Errorf(holdfast.Conflict, "this host is in cluster %s; disks of lost hosts are recovered from by one that is in none, with an empty data_dir. From its own records this one recovers without --from-disk", ms.Name)
	}
	if h.cfg.Witness {
		return nil, v1.Recovery{}, errWitnessDisk(h.cfg.Name)
	}
	o := &recoveryOrder{adopt: make(map[holdfast.DiskID]string), found: make(map[holdfast.ReplicaID]cluster.Found)}
	if err := h.recordsOnDisks(o, from); err != nil {
		return nil, v1.Recovery{}, err
	}
	for _, path := range from.Disks {
		st, err := h.openAlone(*o.newMembership(), path)
		if err != nil {
			return nil, v1.Recovery{}, err
		}
		look(o.found, st, false)
		if err := st.close(); err != nil {
			return nil, v1.Recovery{}, err
		}
	}
	creds, err := h.authorityOf(ctx, o)
	if err != nil {
		return nil, v1.Recovery{}, err
	}
	if o.stay, err = h.survivors(ctx, creds, o, false, false); err != nil {
		return nil, v1.Recovery{}, err
	}
	p, err := cluster.PlanRecovery(o.records.Items, o.records.Rev, h.survivor(o, h.record(creds)))
	if err != nil {
		return nil, v1.Recovery{}, err
	}
	return o, h.renderRecovery(p, o), nil
}

// recordsOnDisks finds the newest records that stand on disks, which are all of
// one cluster.
func (h *Host) recordsOnDisks(o *recoveryOrder, from httpapi.RecoverFrom) error {
	var newest []byte
	var head kept.Head
	var of store.Identity
	for i, path := range from.Disks {
		id, copies, err := keptOn(path)
		if err != nil {
			return err
		}
		if i > 0 && id.Cluster != of.Cluster {
			return holdfast.Errorf(holdfast.Invalid, "disk %s is of cluster %s, and %s of cluster %s; recover one cluster", path, id.Cluster.Short(), from.Disks[0], of.Cluster.Short())
		}
		if other, twice := o.adopt[id.Disk]; twice {
			return holdfast.Errorf(holdfast.Conflict, "%s and %s are the same disk, one as it was and one that was copied from it; name the one that is newer", other, path)
		}
		of = id
		o.adopt[id.Disk] = path
		for _, b := range copies {
			x, err := kept.ReadHead(b)
			if err != nil || x.Cluster != id.Cluster {
				h.log.Warn("a copy of the records on a disk cannot be used", "path", path, "error", err)
				continue
			}
			if newest == nil || x.Newer(&head) {
				newest, head, o.records.source = b, x, "the copy on disk "+path
			}
		}
	}
	if newest == nil {
		return holdfast.Errorf(holdfast.NotFound, "no records of the cluster stand on these disks, so which copies on them are good is not known; try another disk")
	}
	var key keyring.Key
	var err error
	switch {
	case head.Open != nil:
		key = keyring.Key(head.Open)
	case head.Key == nil:
		return holdfast.Errorf(holdfast.Corrupt, "the copy of the records names no key")
	default:
		if o.keys, err = h.withKey(nil, *head.Key, from.Key); err != nil {
			return err
		}
		key = o.keys[0]
	}
	o.records.Copy, err = kept.Open(newest, key)
	return err
}

// keptOn reads what stands on a disk.
func keptOn(path string) (store.Identity, [][]byte, error) {
	dev, err := filedisk.Open(path, filedisk.Options{})
	if err != nil {
		return store.Identity{}, nil, err
	}
	defer dev.Close()
	id, copies, err := store.Kept(dev)
	if err != nil {
		return id, nil, holdfast.Errorf(holdfast.KindOf(err), "disk %s: %w", path, err)
	}
	return id, copies, nil
}

// newMembership is that of a host that enters a cluster with the disks it adopts.
func (o *recoveryOrder) newMembership() *membership {
	ms := &membership{Cluster: o.records.Cluster, Name: o.records.Name, IO: make(map[string]cluster.IO)}
	for _, it := range cluster.DisksIn(o.records.Items) {
		if path, ok := o.adopt[it.ID]; ok {
			if io := cluster.IOOf(o.records.Items, it); io != cluster.Mixed {
				ms.IO[path] = io
			}
		}
	}
	for _, path := range o.adopt {
		ms.Disks = append(ms.Disks, path)
	}
	slices.Sort(ms.Disks)
	return ms
}

// authorityOf makes this host a credential by the authority in the records. Where
// there is none, as on disks in the clear, a new one is made, and whoever is left
// is no member: it is refused while somebody is.
func (h *Host) authorityOf(ctx context.Context, o *recoveryOrder) (auth.Credentials, error) {
	text := cluster.AuthorityIn(o.records.Items)
	if text == nil {
		for _, host := range cluster.HostsIn(o.records.Items) {
			if saysItIs(ctx, host.APIAddr, o.records.Cluster) {
				return auth.Credentials{}, holdfast.Errorf(holdfast.Conflict, "host %s of cluster %s answers at %s; recover there, without --from-disk", host.Name, o.records.Name, host.APIAddr)
			}
		}
		ca, err := auth.NewCA(o.records.Cluster)
		if err != nil {
			return auth.Credentials{}, err
		}
		if text, err = ca.PEM(); err != nil {
			return auth.Credentials{}, err
		}
		o.records.Items = cluster.WithAuthority(o.records.Items, text)
	}
	ca, err := auth.ParseCA(text)
	if err != nil {
		return auth.Credentials{}, err
	}
	ca.Incarnation = o.records.Incarnation
	return h.certify(ca)
}

// saysItIs reports whether somebody at an address shows a certificate of a
// cluster's host, by whatever authority.
func saysItIs(ctx context.Context, addr string, id holdfast.ClusterID) bool {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	is := false
	conf := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, ServerName: auth.ServerName, VerifyConnection: func(cs tls.ConnectionState) error {
		who, err := auth.IdentityOf(cs.PeerCertificates[0])
		is = err == nil && who.Cluster == id && who.Kind == auth.Host
		return nil
	}} // nothing is said to it: it is only asked who it claims to be
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: reachTime}, Config: conf}
	if c, err := d.DialContext(ctx, "tcp", addr); err == nil {
		c.Close()
	}
	return is
}
