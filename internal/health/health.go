// Package health says how the cluster is: one sentence first, then what is
// wrong, each thing once, under its cause. It is pure and reads the same
// pictures as the planners, so that what it promises is what they would do.
package health

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/placement"
)

// The severities of a condition.
const (
	Info    = "info"    // worth knowing
	Warning = "warning" // less safe than it should be
	Error   = "error"   // something does not work
)

// Status is the state of health of a cluster.
type Status struct {
	Sentence   string            // what runs, what is short, what can be lost
	Running    int               // VMs that run
	Wanted     int               // VMs that should
	Verdict    placement.Verdict // what can be lost
	Plan       placement.Plan    // and what would happen
	Conditions []Condition       // causes, the most severe first
}

// Condition is something wrong, with what follows from it.
type Condition struct {
	cluster.Condition
	Effects []Condition
}

// Progress is how far the copies being built or brought up to date have come,
// for the volumes where it is known.
type Progress map[holdfast.VolumeID]Copying

// Copying is how far a copy has come.
type Copying struct {
	Percent int  // of what is copied now
	Waits   bool // it has not begun: others are before it
}

// Summary judges a state.
func Summary(s *cluster.State, progress Progress) Status {
	v := placement.Look(s)
	st := Status{Plan: v.FailoverPlan()}
	st.Verdict = placement.Judge(st.Plan)
	b := &board{v: v, progress: progress}
	b.racks()
	b.control(st.Plan)
	b.disks()
	b.volumes()
	b.pools()
	b.keys()
	b.schedules()
	b.held()
	st.Running, st.Wanted = b.vms()
	b.hostsSay()
	b.unreadable()
	st.Conditions = b.sorted()
	st.Sentence = b.sentence(st)
	return st
}

// board collects conditions under their causes.
type board struct {
	v        *placement.View
	progress Progress
	causes   []*Condition
	byHost   map[holdfast.HostID]*Condition // the cause of everything that a lost host explains
	byDisk   map[holdfast.DiskID]*Condition
	down     []string // VMs that do not run: "db1: starting on c"
	single   []cluster.Volume
	away     []string // volumes without a copy on a living host
	lost     []string // volumes without a copy anywhere
	holding  bool
}

func (b *board) cause(id, severity, text string, since time.Time) *Condition {
	c := &Condition{Condition: cluster.Condition{ID: id, Severity: severity, Text: text, Since: since}}
	b.causes = append(b.causes, c)
	return c
}

// add puts a condition under its cause, or stands it alone.
func (b *board) add(under *Condition, id, severity, text string, since time.Time) {
	if under == nil {
		b.cause(id, severity, text, since)
		return
	}
	under.Effects = append(under.Effects, Condition{Condition: cluster.Condition{ID: id, Severity: severity, Text: text, Since: since}})
	if rank(severity) < rank(under.Severity) {
		under.Severity = severity
	}
}

func rank(severity string) int { return slices.Index([]string{Error, Warning, Info}, severity) }

// racks finds the racks and hosts that are away.
func (b *board) racks() {
	b.byHost = map[holdfast.HostID]*Condition{}
	for _, r := range b.v.Racks {
		if !r.Up() {
			since, hosts := time.Time{}, []string{}
			for _, h := range r.Hosts {
				hosts = append(hosts, h.Name)
				if at := b.lostSince(h.ID); since.IsZero() || at.Before(since) {
					since = at
				}
			}
			text := fmt.Sprintf("rack %s is away (%s)", r.Domain, strings.Join(hosts, ", "))
			if r.Witness() {
				text = fmt.Sprintf("the witness %s in rack %s is away: until it is back, or another has joined, the control plane can spare no other host's vote", strings.Join(hosts, ", "), r.Domain)
			}
			c := b.cause("rack-away/"+r.Domain.String(), Warning, text, since)
			for _, h := range r.Hosts {
				b.byHost[h.ID] = c
			}
			continue
		}
		for _, h := range r.Hosts {
			if !h.Up() {
				b.byHost[h.ID] = b.cause("host-away/"+h.Name, Warning, fmt.Sprintf("host %s in rack %s is away", h.Name, r.Domain), b.lostSince(h.ID))
			}
		}
	}
}

// lostSince returns when the newest incident with a host was opened: the newest by
// the order of the records, since clocks jump.
func (b *board) lostSince(id holdfast.HostID) (at time.Time) {
	for _, rec := range b.v.State.SortedIncidents() {
		if slices.Contains(rec.Val.Hosts, id) {
			at = rec.Val.Opened
		}
	}
	return at
}

// disks finds disks that are not in use, or full.
func (b *board) disks() {
	b.byDisk = map[holdfast.DiskID]*Condition{}
	for _, h := range b.v.Hosts {
		if !h.Up() {
			continue
		}
		for _, d := range h.Alive.Disks {
			name := h.Name + ":" + b.v.State.Disks[d.Disk].Val.Path
			reserve := d.Total / 100 * placement.ReservePercent
			switch {
			case d.Error != "":
				b.byDisk[d.Disk] = b.cause("disk-failed/"+name, Warning, fmt.Sprintf("disk %s is not in use: %s", name, d.Error), time.Time{})
			case d.Full || d.Free <= reserve:
				b.cause("disk-full/"+name, Error, fmt.Sprintf("disk %s is full but for its reserve: its volumes may stall; delete something or add a disk", name), time.Time{})
			case d.Free <= 2*reserve:
				b.cause("disk-filling/"+name, Warning, fmt.Sprintf("disk %s is filling up: %d %% free, %d %% are kept in reserve", name, d.Free*100/max(d.Total, 1), placement.ReservePercent), time.Time{})
			}
		}
	}
}

// volumes finds volumes that are short of copies.
func (b *board) volumes() {
	for _, vol := range b.v.Volumes {
		have := len(b.v.InSync(vol))
		if c := vol.Compared; c != nil && c.Differ > 0 {
			b.cause("copies-differ/"+vol.Name, Error, fmt.Sprintf("the copies of volume %s differ (%s found): reads may return either; 'holdfast volume verify %s' names where, and what to do", vol.Name, count(int(c.Differ), "difference", "differences"), vol.Name), c.At)
		}
		b.forced(vol)
		cause := b.missingBecause(vol)
		switch {
		case have == 0 && len(vol.InSync) == 0:
			b.add(cause, "volume-empty/"+vol.Name, Error, fmt.Sprintf("volume %s has no copy at all; delete it, and make it again, or from a backup", vol.Name), time.Time{})
		case b.v.State.Gone(vol):
			b.lost = append(b.lost, vol.Name)
			b.add(cause, "volume-lost/"+vol.Name, Error, fmt.Sprintf("volume %s is lost: every in-sync copy was on a disk that is gone%s; %s", vol.Name, b.inMemory(vol), cmp.Or(b.stale(vol), "delete it, and make it again from a backup")), time.Time{})
		case have == 0:
			b.away = append(b.away, vol.Name)
			b.add(cause, "volume-away/"+vol.Name, Error, fmt.Sprintf("volume %s has no in-sync copy on a living host: waiting for host %s%s", vol.Name, b.names(vol.InSync), orElse(b.stale(vol))), time.Time{})
		case have < vol.Min:
			b.add(cause, "volume-stalled/"+vol.Name, Error, fmt.Sprintf("volume %s takes no writes: %d in-sync, it needs %d%s", vol.Name, have, vol.Min, b.rebuild(vol)), time.Time{})
		case have < vol.Copies && have == 1:
			b.single = append(b.single, vol)
			b.add(cause, "volume-one-copy/"+vol.Name, Warning, fmt.Sprintf("volume %s has one copy left, on host %s%s", vol.Name, b.names(b.v.InSync(vol)), b.rebuild(vol)), time.Time{})
		case have < vol.Copies:
			b.add(cause, "volume-degraded/"+vol.Name, Warning, fmt.Sprintf("volume %s has %d of %d copies%s", vol.Name, have, vol.Copies, b.rebuild(vol)), time.Time{})
		}
	}
}

// missingBecause returns the cause of a volume's lack of copies, or nil.
func (b *board) missingBecause(vol cluster.Volume) *Condition {
	for _, set := range [][]cluster.Replica{vol.InSync, vol.Others} {
		for _, r := range set {
			if c := b.byHost[r.Host]; c != nil {
				return c
			}
			if c := b.byDisk[r.Disk]; c != nil {
				return c
			}
		}
	}
	return nil
}

func (b *board) names(rs []cluster.Replica) string {
	var out []string
	for _, r := range rs {
		out = append(out, b.v.HostName(r.Host))
	}
	return strings.Join(out, " or ")
}

// rebuild says what is done about a lack of copies.
func (b *board) rebuild(vol cluster.Volume) string {
	for _, r := range vol.Others {
		if !b.v.Usable(r) {
			continue
		}
		switch c, ok := b.progress[vol.ID]; {
		case ok && c.Waits:
			return fmt.Sprintf("; a copy on host %s waits for its turn", b.v.HostName(r.Host))
		case ok:
			return fmt.Sprintf("; rebuild %d %%", c.Percent)
		}
		return fmt.Sprintf("; a copy is being built on host %s", b.v.HostName(r.Host))
	}
	if _, ok, why := b.v.PlaceReplica(vol); !ok {
		return "; " + why.Short
	}
	return ""
}

// sorted returns the causes, the most severe first, otherwise as found.
func (b *board) sorted() []Condition {
	slices.SortStableFunc(b.causes, func(x, y *Condition) int { return rank(x.Severity) - rank(y.Severity) })
	var out []Condition
	for _, c := range b.causes {
		if text := effectsText(c.Effects); text != "" {
			c.Text += ": " + text
		}
		out = append(out, *c)
	}
	return out
}

// effectsText counts effects by kind: "2 volumes short of copies, 1 VM not running".
func effectsText(effects []Condition) string {
	var parts []string
	for _, kind := range [][4]string{
		{"volume-", "volume", "volumes", "short of copies"}, {"vm-", "VM", "VMs", "not running"}, {"backup-", "backup schedule", "backup schedules", "not run"},
	} {
		n := 0
		for _, e := range effects {
			if strings.HasPrefix(e.ID, kind[0]) {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, count(n, kind[1], kind[2])+" "+kind[3])
		}
	}
	return strings.Join(parts, ", ")
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
