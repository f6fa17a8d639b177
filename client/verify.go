package client

import (
	"context"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// Bounds on what a comparison of copies tells.
const (
	verifyKept = 1000   // differences that are kept
	verifyMost = 10_000 // differences after which it is given up
)

// VerifyPart compares the copies of a volume from a place on: from is Next of the
// part before, none to begin.
func (c *Client) VerifyPart(ctx context.Context, volume, from string) (v1.Verify, error) {
	return fetch[v1.Verify](ctx, c, "POST", path("volumes", volume, "verify"), v1.VerifySpec{From: from})
}

// Verify compares the copies of a volume by their block maps. progress is told
// how much is done, 0 to 1.
func (c *Client) Verify(ctx context.Context, volume string, progress func(done float64)) (v1.VerifyResult, error) {
	out := v1.VerifyResult{Volume: volume, Differences: []v1.CopyDifference{}}
	votes := newVotes()
	for from := ""; ; {
		part, err := c.VerifyPart(ctx, volume, from)
		if err != nil {
			return out, err
		}
		if from == "" {
			out.Started, out.Copies = part.Started, part.Copies
		}
		for _, h := range slices.Concat(out.Copies, part.Copies) {
			if !slices.Contains(out.Left, h) && (!slices.Contains(part.Copies, h) || !slices.Contains(out.Copies, h)) {
				out.Left = append(out.Left, h)
			}
		}
		out.Copies = slices.DeleteFunc(slices.Clone(out.Copies), func(h string) bool { return slices.Contains(out.Left, h) })
		out.Blocks, out.Busy = out.Blocks+part.Blocks, out.Busy+part.Busy
		out.Differ += int64(len(part.Differences))
		votes.count(part.Differences)
		out.Differences = append(out.Differences, part.Differences[:min(len(part.Differences), verifyKept-len(out.Differences))]...)
		progress(part.Done)
		if out.Stopped = part.Next != "" && out.Differ >= verifyMost; part.Next == "" || out.Stopped {
			out.Equal = out.Differ == 0
			out.Outvoted = votes.outvoted(out.Copies)
			return out, nil
		}
		if part.Next == from {
			return out, holdfast.Errorf(holdfast.Invalid, "the host's comparison of volume %s does not go on", volume)
		}
		from = part.Next
	}
}

// RebuildCopies has copies of a volume built anew from the others.
func (c *Client) RebuildCopies(ctx context.Context, volume string, hosts []string) error {
	return c.call(ctx, "POST", path("volumes", volume, "rebuild"), v1.RebuildSpec{Hosts: hosts}, nil)
}

// votes counts which copies agree.
type votes struct {
	alone     map[string]bool // hosts that were outvoted somewhere
	undecided bool            // somewhere no more than half agreed
}

func newVotes() *votes { return &votes{alone: make(map[string]bool)} }

func (v *votes) count(list []v1.CopyDifference) {
	for _, d := range list {
		camps := make(map[v1.HeldCopy][]string)
		for _, h := range d.Held {
			what := h
			what.Host = ""
			camps[what] = append(camps[what], h.Host)
		}
		most := 0
		for _, hosts := range camps {
			most = max(most, len(hosts))
		}
		v.undecided = v.undecided || 2*most <= len(d.Held)
		for _, hosts := range camps {
			if len(hosts) < most {
				for _, h := range hosts {
					v.alone[h] = true
				}
			}
		}
	}
}

// outvoted are the copies against which more than half of all agree, everywhere:
// none, if that is not so of any difference.
func (v *votes) outvoted(copies []string) (out []string) {
	for _, h := range copies {
		if v.alone[h] {
			out = append(out, h)
		}
	}
	if v.undecided || 2*(len(copies)-len(out)) <= len(copies) {
		return nil
	}
	return out
}
