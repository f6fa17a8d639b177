package cluster

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// joinCodeLife is how long a join code may be used at most.
const joinCodeLife = time.Hour

// settleTime bounds how long the calls of this file pursue an unknown outcome.
const settleTime = 20 * time.Second

// Init writes the record of a new cluster and its first host. Kind Exists if
// the store already holds a cluster. Format may be left zero.
func (c *Client) Init(cl Cluster, first Host) error {
	if cl.Format == 0 {
		cl.Format = Format
	}
	k := kind[Cluster]{what: "cluster", dir: keyCluster, check: checkCluster, id: func(*Cluster) string { return "" }}
	t := c.Begin()
	putRecord(t, k, cl, 0, 0)
	t.PutHost(first, 0)
	_, err := t.Settle(settleTime)
	if holdfast.IsKind(err, holdfast.Conflict) || holdfast.IsKind(err, holdfast.Exists) {
		return holdfast.Errorf(holdfast.Exists, "this control plane already holds a cluster; join it, or start from an empty data directory")
	}
	return err
}

// CreateJoinCode stores the hash of a secret that admits one host, into rack
// if that is not empty, within life (1 s to an hour; 0: an hour). The time is
// counted by the store's lease, so no calendar decides.
func (c *Client) CreateJoinCode(hash, rack string, life time.Duration) (JoinCode, error) {
	if life == 0 {
		life = joinCodeLife
	}
	if life < time.Second || life > joinCodeLife {
		return JoinCode{}, holdfast.Errorf(holdfast.Invalid, "a join code may be used for 1 second to 1 hour, not for %v", life)
	}
	lease, err := c.st.Grant(life)
	if err != nil {
		return JoinCode{}, err
	}
	j := JoinCode{Hash: hash, Rack: rack, Lease: lease, Created: c.clk.Wall().UTC()}
	t := c.Begin()
	putRecord(t, joinKind(), j, 0, lease)
	if _, err := t.Settle(settleTime); err != nil {
		if !holdfast.IsKind(err, holdfast.Unknown) {
			c.endLease(lease)
		}
		return JoinCode{}, err
	}
	return j, nil
}

// endLease gives a lease back; if that fails it ends by itself.
func (c *Client) endLease(id kv.LeaseID) {
	if err := c.st.Revoke(id); err != nil && !holdfast.IsKind(err, holdfast.NotFound) {
		c.log.Debug("a lease could not be revoked and will run out", "err", err)
	}
}

// JoinCodes returns the codes that may still be used, by hash.
func (c *Client) JoinCodes() ([]JoinCode, error) {
	items, _, err := c.st.Range(dirJoin)
	if err != nil {
		return nil, err
	}
	var out []JoinCode
	for _, it := range items {
		j, err := decode(joinKind(), it.Key, it.Value)
		if err != nil {
			c.log.Error("a join code cannot be read", "key", it.Key, "err", err)
			continue
		}
		out = append(out, j)
	}
	return out, nil
}

// RevokeJoinCode makes a code useless; kind NotFound if it is already.
func (c *Client) RevokeJoinCode(hash string) error {
	j, _, err := c.joinCode(hash)
	if err != nil {
		return err
	}
	return c.st.Revoke(j.Lease)
}

// joinCode reads a code and its revision.
func (c *Client) joinCode(hash string) (JoinCode, kv.Rev, error) {
	if err := checkJoinCode(&JoinCode{Hash: hash}); err != nil {
		return JoinCode{}, 0, err
	}
	it, err := c.get(joinKind().key(hash))
	if err != nil {
		return JoinCode{}, 0, err
	}
	if it.Mod == 0 {
		return JoinCode{}, 0, holdfast.Errorf(holdfast.NotFound, "there is no such join code")
	}
	j, err := decode(joinKind(), it.Key, it.Value)
	return j, it.Mod, err
}

// Join spends the code of that hash and adds the host, in one commit. Kind
// Denied if the code is wrong, expired, used or for another rack; Exists if
// the host or its name is already a member. A host that joins again under the
// same identifier and key, because the first answer was lost, is let in by a
// new code.
func (c *Client) Join(hash string, h Host) error {
	j, mod, err := c.joinCode(hash)
	if holdfast.IsKind(err, holdfast.NotFound) || holdfast.IsKind(err, holdfast.Invalid) {
		return errJoinCode()
	}
	if err != nil {
		return err
	}
	if j.Rack != "" && j.Rack != h.Domain.Rack {
		return holdfast.Errorf(holdfast.Denied, "this join code is for rack %q, not %q; use it there or make another", j.Rack, h.Domain.Rack)
	}
	was, err := c.memberBefore(h)
	if err != nil {
		return err
	}
	t := c.Begin()
	t.PutHost(h, was)
	deleteRecord(t, joinKind(), hash, mod)
	_, err = t.Settle(settleTime)
	if holdfast.IsKind(err, holdfast.Conflict) {
		return errJoinCode() // somebody else was quicker with the same code
	}
	return err
}

// memberBefore returns the revision of h's record if it is a member already,
// with the same key; zero if it is none.
func (c *Client) memberBefore(h Host) (kv.Rev, error) {
	it, err := c.get(hostKind().key(h.ID.String()))
	if err != nil || it.Mod == 0 {
		return 0, err
	}
	old, err := decode(hostKind(), it.Key, it.Value)
	if err == nil && old.CertKey == h.CertKey && h.CertKey != "" {
		return it.Mod, nil
	}
	return 0, holdfast.Errorf(holdfast.Exists,
		"host %s (%s) is already a member; remove it first if this computer is to join anew", h.Name, h.ID)
}

func errJoinCode() error {
	return holdfast.Errorf(holdfast.Denied, "the join code is wrong, has expired or was used; make a new one on a member host")
}
