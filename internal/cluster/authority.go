package cluster

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// keyAuthority holds the certificate authority with its key: every member host
// may admit others, whichever hosts are lost. Who has a member's disk or key
// has the cluster anyway; docs/THREATS.md says what to do then.
const keyAuthority = root + "authority"

// PutAuthority stores the authority of a new cluster.
func (c *Client) PutAuthority(pem []byte) error {
	_, err := c.st.Commit([]kv.Cond{{Key: keyAuthority}}, []kv.Op{{Key: keyAuthority, Value: pem}})
	if holdfast.IsKind(err, holdfast.Conflict) || holdfast.IsKind(err, holdfast.Unknown) {
		if have, rerr := c.Authority(); rerr == nil && string(have) == string(pem) {
			return nil
		}
	}
	return err
}

// Authority returns what PutAuthority stored.
func (c *Client) Authority() ([]byte, error) {
	it, err := c.get(keyAuthority)
	if err != nil {
		return nil, err
	}
	if it.Mod == 0 {
		return nil, holdfast.Errorf(holdfast.NotFound, "the cluster's records hold no certificate authority")
	}
	return it.Value, nil
}
