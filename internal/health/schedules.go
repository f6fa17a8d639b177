package health

import "fmt"

// schedules finds backups that are not made.
func (b *board) schedules() {
	for _, s := range b.v.State.SortedSchedules() {
		host := b.v.HostName(s.Val.Host)
		switch {
		case !b.v.State.AliveHost(s.Val.Host):
			b.add(b.byHost[s.Val.Host], "backup-away/"+s.Val.Name, Warning,
				fmt.Sprintf("backup schedule %s is not run: its directory %s is on host %s, which is away; if it does not return, create the schedule anew on another host", s.Val.Name, s.Val.Dir, host), s.Val.Good)
		case s.Val.Error != "" && !s.Val.Began.After(s.Val.Ended):
			b.cause("backup-failed/"+s.Val.Name, Warning,
				fmt.Sprintf("backup schedule %s failed on host %s: %s; it is tried again, at once with 'holdfast backup schedule run %s'", s.Val.Name, host, s.Val.Error, s.Val.Name), s.Val.Ended)
		}
	}
}
