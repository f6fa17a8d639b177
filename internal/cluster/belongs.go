package cluster

import (
	"github.com/holdfast-cloud/holdfast"
)

// Belongs asks a store that several clusters could meet in, by reading single
// keys, whether it holds the records of one cluster. Kind Conflict if it holds
// none or another's; what get fails with is returned as it is.
func Belongs(id holdfast.ClusterID, name string, get func(key string) ([]byte, bool, error)) error {
	b, found, err := get(keyCluster)
	if err != nil {
		return err
	}
	if !found {
		return holdfast.Errorf(holdfast.Conflict, "it holds no cluster, and should hold %s: is it the right one, with the right prefix? If it was lost with its data, see 'holdfast runbook etcd-away'", name)
	}
	c, err := decodeCluster(b)
	if err != nil {
		return holdfast.Errorf(holdfast.KindOf(err), "the cluster's own record in it cannot be read: %w", err)
	}
	if c.ID != id {
		return holdfast.Errorf(holdfast.Conflict, "it holds cluster %s (%s) and not %s (%s), which this host is in; give the right etcd, or the right prefix", c.Name, c.ID.Short(), name, id.Short())
	}
	return nil
}

// Vacant is Belongs for a cluster that is to be made: nothing may be there. Kind
// Exists if something is.
func Vacant(get func(key string) ([]byte, bool, error)) error {
	b, found, err := get(keyCluster)
	if err != nil || !found {
		return err
	}
	name := "that cannot be read"
	if c, err := decodeCluster(b); err == nil {
		name = c.Name
	}
	return holdfast.Errorf(holdfast.Exists, "there is a cluster in it already: %s; join that one, or give the new one a prefix of its own (kv.prefix, or serve --etcd-prefix)", name)
}
