package health

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// versions tells that the hosts run several: an upgrade goes on, or stands still.
func (b *board) versions() {
	run := map[string][]string{}
	for _, h := range b.v.Hosts {
		if h.Up() && h.Alive.Version != "" {
			run[h.Alive.Version] = append(run[h.Alive.Version], h.Name)
		}
	}
	if len(run) < 2 {
		return
	}
	var parts []string
	for _, v := range slices.Sorted(maps.Keys(run)) {
		parts = append(parts, fmt.Sprintf("%s on %s", v, list(run[v])))
	}
	b.cause("versions-differ", Info, fmt.Sprintf("the hosts run several versions (%s): that is meant for as long as an upgrade takes; 'holdfast upgrade --plan' says what is left", strings.Join(parts, "; ")), time.Time{})
}
