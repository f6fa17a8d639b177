package client

import (
	"context"
	"strconv"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// DiffAsk says what is compared. From and To are snapshots, "head" (the volume
// as it is now) or "nothing" (as if nothing was ever written).
type DiffAsk struct {
	From, To string
	Offset   int64 // bytes: where to begin
	Limit    int   // extents; 0: as many as a host tells at once
}

// DiffPage is a page of what differs between two states of a volume.
func (c *Client) DiffPage(ctx context.Context, volume string, a DiffAsk) (v1.Diff, error) {
	var limit string
	if a.Limit > 0 {
		limit = strconv.Itoa(a.Limit)
	}
	return fetch[v1.Diff](ctx, c, "GET", query(path("volumes", volume, "diff"), "from", a.From, "to", a.To,
		"offset", strconv.FormatInt(a.Offset, 10), "limit", limit), nil)
}

// Diff calls f for every stretch of a volume that differs between two states,
// ascending, and returns the size of the later one. An error of f ends it.
func (c *Client) Diff(ctx context.Context, volume string, a DiffAsk, f func(v1.Extent) error) (int64, error) {
	var held v1.Extent // what may go on in the next page
	for {
		page, err := c.DiffPage(ctx, volume, a)
		if err != nil {
			return 0, err
		}
		for _, e := range page.Extents {
			if e.Offset == held.Offset+held.Length && e.Zero == held.Zero && held.Length > 0 {
				held.Length += e.Length
				continue
			}
			if held.Length > 0 {
				if err := f(held); err != nil {
					return 0, err
				}
			}
			held = e
		}
		switch {
		case page.Next == 0 && held.Length > 0:
			return page.Size, f(held)
		case page.Next == 0:
			return page.Size, nil
		case page.Next <= a.Offset:
			return 0, holdfast.Errorf(holdfast.Invalid, "the host's comparison of volume %s does not go on after offset %d", volume, a.Offset)
		}
		a.Offset = page.Next
	}
}
