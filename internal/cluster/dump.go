package cluster

import "github.com/holdfast-cloud/holdfast/internal/kv"

// Dump reads all records that stand by themselves, as they are, in the order of
// their keys and of one revision not older than the call. What hangs on a lease
// says only who is there now, and is left out. It holds the cluster's secrets.
func (c *Client) Dump() ([]kv.Item, kv.Rev, error) {
	if err := c.Err(); err != nil {
		return nil, 0, err
	}
	items, rev, err := c.st.Range(root)
	if err != nil {
		return nil, 0, err
	}
	out := items[:0:0]
	for _, i := range items {
		if i.Lease == 0 {
			out = append(out, i)
		}
	}
	return out, rev, nil
}
