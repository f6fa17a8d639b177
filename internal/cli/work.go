package cli

import (
	"fmt"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// maxWork is how many pieces of work the status names before it counts.
const maxWork = 20

func copies(n int) string {
	if n == 1 {
		return "1 copy"
	}
	return fmt.Sprintf("%d copies", n)
}

// printWork prints a line for each piece of long work that is under way.
func (a *app) printWork(list []v1.Work) {
	more := 0
	if a.format != "wide" && len(list) > maxWork {
		list, more = list[:maxWork], len(list)-maxWork
	}
	for _, w := range list {
		fmt.Fprintln(a.Stdout, plain(workText(w)))
	}
	if more > 0 {
		fmt.Fprintf(a.Stdout, "and %d more; 'holdfast status -o wide' lists them\n", more)
	}
}

// workText is that line: "rebuilding db on c1: 43 % of 12GiB, 85MiB/s, 1m20s left".
func workText(w v1.Work) string {
	of := w.Volume + " on " + w.Host
	if w.Volume == "" {
		of = w.Disk
	}
	switch w.Kind {
	case "rebuild":
		return "rebuilding " + of + ": " + rebuildText(w.Rebuild)
	case "resync":
		return "bringing " + of + " up to date: " + rebuildText(w.Rebuild)
	case "evacuation":
		return fmt.Sprintf("evacuating %s: %s to go, %s", of, copies(w.Copies), rebuildText(w.Rebuild))
	case "backup":
		return "backing up " + of + ": " + rebuildText(w.Rebuild) + " (task " + w.ID + ")"
	case "restore":
		return "restoring " + of + ": " + rebuildText(w.Rebuild) + " (task " + w.ID + ")"
	}
	text := "scrubbing " + of + ": " + rebuildText(w.Rebuild)
	if w.Bad > 0 {
		text += ", " + counted(int(w.Bad), "bad block")
	}
	return text
}
