package health

import (
	"fmt"
	"strings"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// forced tells of a volume that was opened from a stale copy, until somebody says
// that they have dealt with it.
func (b *board) forced(vol cluster.Volume) {
	f := vol.Forced
	if f == nil || f.Acknowledged != nil {
		return
	}
	text := fmt.Sprintf("volume %s was forced open from a stale copy: what was flushed above LSN %s may be missing", vol.Name, f.Upto)
	var back []string
	for _, l := range f.Lost {
		if l.At == nil {
			continue
		}
		name := l.Name
		if now, ok := b.v.State.Volumes[l.Volume]; ok {
			name = now.Val.Name
		}
		back = append(back, fmt.Sprintf("%s (%s more)", name, count(int(l.Blocks), "block", "blocks")))
	}
	if len(back) > 0 {
		text += "; a lost copy came back and is set aside as volume " + strings.Join(back, ", ")
	}
	b.cause("volume-forced/"+vol.Name, Warning, fmt.Sprintf("%s; 'holdfast volume force-open %s --acknowledge' when you have dealt with it", text, vol.Name), f.At)
}

// stale says what can be done with a volume of which a stale copy is left on a
// living host; "": there is none.
func (b *board) stale(vol cluster.Volume) string {
	for _, r := range vol.Others {
		for _, e := range vol.Ejected {
			if e.Replica == r.ID && b.v.Usable(r) {
				return fmt.Sprintf("host %s has a stale copy: 'holdfast volume force-open %s --plan' says what would be missing", b.v.HostName(r.Host), vol.Name)
			}
		}
	}
	return ""
}

// orElse appends what can be done instead of waiting.
func orElse(text string) string {
	if text == "" {
		return ""
	}
	return "; if it will not come back, " + text
}

func also(text string) string {
	if text == "" {
		return ""
	}
	return "; " + text
}
