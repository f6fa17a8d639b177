package health

import (
	"fmt"
	"strings"
)

// maxNamed is how many things a sentence names before it counts.
const maxNamed = 3

// sentence says the truth in one line: what runs, what is short of copies, what
// can be lost.
func (b *board) sentence(st Status) string {
	parts := []string{b.runningText(st)}
	if b.holding {
		parts = append(parts, "Restarts are held: too many hosts vanished at once.")
	}
	if n := len(b.lost); n == 1 {
		parts = append(parts, fmt.Sprintf("Volume %s is lost.", b.lost[0]))
	} else if n > 1 {
		parts = append(parts, fmt.Sprintf("%d volumes are lost (%s).", n, list(b.lost)))
	}
	if n := len(b.away); n == 1 {
		parts = append(parts, fmt.Sprintf("Volume %s has no in-sync copy on a living host.", b.away[0]))
	} else if n > 1 {
		parts = append(parts, fmt.Sprintf("%d volumes have no in-sync copy on a living host (%s).", n, list(b.away)))
	}
	if s := b.singleText(); s != "" {
		parts = append(parts, s)
	}
	return strings.Join(append(parts, st.Verdict.Sentence), " ")
}

func (b *board) runningText(st Status) string {
	switch {
	case st.Wanted == 0:
		return "No VM should be running."
	case st.Running == st.Wanted && st.Wanted == 1:
		return "The 1 VM is running."
	case st.Running == st.Wanted:
		return fmt.Sprintf("All %d VMs running.", st.Wanted)
	}
	return fmt.Sprintf("%d of %s not running (%s).", st.Wanted-st.Running, count(st.Wanted, "VM", "VMs"), listBy("; ", b.down))
}

// singleText tells of the volumes with one copy left.
func (b *board) singleText() string {
	var names []string
	for _, vol := range b.single {
		names = append(names, vol.Name)
	}
	switch len(names) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("One copy left of volume %s%s.", names[0], b.rebuild(b.single[0]))
	}
	return fmt.Sprintf("One copy left of %d volumes (%s).", len(names), list(names))
}

func list(names []string) string { return listBy(", ", names) }

func listBy(sep string, names []string) string {
	if n := len(names); n > maxNamed {
		names = append(append([]string{}, names[:maxNamed]...), fmt.Sprintf("%d more", n-maxNamed))
	}
	return strings.Join(names, sep)
}
