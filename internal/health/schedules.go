package health

import "fmt"

// schedules finds backups that are not made.
func (b *board) schedules() {
	for _, s := range b.v.State.SortedSchedules() {
		host := b.v.HostName(s.Val.Host)
		switch {
		case !b.v.State.AliveHost(s.Val.Host):
			b.add(b.byHost[s.Val.Host], "backup-away/"+s.Val.Name, Warning,
				fmt.Sprintf("backup schedule %s is not run: its directory %s is on host %s, which is away; if it does not return, 'holdfast backup schedule set %s --on HOST --to DIR' gives it to another one", s.Val.Name, s.Val.Dir, host, s.Val.Name), s.Val.Good)
		case s.Val.Error != "" && !s.Val.Running:
			b.cause("backup-failed/"+s.Val.Name, Warning,
				fmt.Sprintf("backup schedule %s failed on host %s: %s; it is tried again, at once with 'holdfast backup schedule run %s'", s.Val.Name, host, s.Val.Error, s.Val.Name), s.Val.Ended)
		case !s.Val.Late.IsZero():
			b.cause("backup-late/"+s.Val.Name, Warning,
				fmt.Sprintf("backup schedule %s on host %s is late: %s; 'holdfast backup schedule show %s' says when one went well", s.Val.Name, host, whyLate(s.Val.Running), s.Val.Name), s.Val.Late)
		}
	}
}

// whyLate says why a backup is not there though it did not fail.
func whyLate(running bool) string {
	if running {
		return "its run takes longer than it has until the next"
	}
	return "others are run before it, or do not end"
}
