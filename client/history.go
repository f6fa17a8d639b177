package client

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// Span is how a history is asked for.
type Span struct {
	Range   time.Duration // how long, 10 seconds to 31 days; 0: an hour
	Step    time.Duration // 10 seconds, a minute or 15 minutes; 0: the shortest that is kept so long
	End     time.Time     // zero: now
	Metrics []string      // nil: all
	Local   bool          // only of the host that is called
}

// History tells what was measured of a thing of a kind: "vm", "volume" or "host". ref
// is its name or identity. Invalid: there is no such kind.
func (c *Client) History(ctx context.Context, kind, ref string, s Span) (v1.History, error) {
	if kind != "vm" && kind != "volume" && kind != "host" {
		return v1.History{}, holdfast.Errorf(holdfast.Invalid, "history: there is no kind %q; use vm, volume or host", kind)
	}
	q := url.Values{}
	set := func(name, value string, is bool) {
		if is {
			q.Set(name, value)
		}
	}
	set("range", strconv.FormatInt(int64(s.Range/time.Second), 10), s.Range != 0)
	set("step", strconv.FormatInt(int64(s.Step/time.Second), 10), s.Step != 0)
	set("end", s.End.UTC().Format(time.RFC3339), !s.End.IsZero())
	set("metrics", strings.Join(s.Metrics, ","), len(s.Metrics) > 0)
	set("local", "true", s.Local)
	p := path("history", kind+"s", ref)
	if len(q) > 0 {
		p += "?" + q.Encode()
	}
	return fetch[v1.History](ctx, c, "GET", p, nil)
}
