package drill

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/lab"
	"github.com/holdfast-cloud/holdfast/lab/diary"
)

// A torture breaks a lab of its own for as long as it is asked to, in every way
// that a lab can be broken, by a seed. It goes in episodes: one to three faults side
// by side, all taken back, and the cluster whole again before the next. All the
// while three kinds of witnesses work on it, none of which knows its inside:
//
//   - probe guests in VMs, which write numbered blocks, flush each, and verify all
//     of their disk at every boot (what they say is kept by lab/diary);
//   - groups of NBD clients that write the same blocks side by side, whose history
//     is judged for linearizability (lab/observer, internal/history);
//   - fio with its own checksums, by way of QEMU's storage daemon, which connects
//     again (torturefio.go).
//
// In the end everything is put right, redundancy is whole, every guest verifies its
// disk, every disk is scrubbed and the copies of every volume are compared.
//
// What is drawn is in tortureplan.go, what it does in tortureact.go, who watches in
// tortureload.go, what is judged in torturereport.go.

// TortureOptions are what a torture is made with.
type TortureOptions struct {
	Site
	Lasts  time.Duration // no episode begins after it
	Seed   uint64
	Guests int
	Groups int      // of NBD clients
	Faults []string // only these kinds; none: all
}

const (
	wholeWithin  = 10 * time.Minute // for the cluster to be whole after the faults of an episode
	shortTorture = 6 * time.Minute  // below it what takes long is left out
	goOnWithin   = 5 * time.Minute
	rotateEvery  = 8 * time.Minute // a history is judged, and another begun
)

// torture is one run. It uses a drill for its clock and its way to the cluster.
type torture struct {
	*drill
	o      TortureOptions
	plan   *planner
	diary  *diary.Diary
	vms    []v1.VM // as they were at first
	watch  []*watched
	fio    *fioLoad
	wiring sync.Mutex // the lab's network is being changed
	judges sync.WaitGroup
	report TortureReport // what is below mu of the drill
}

// Torture runs it. The report says what happened as far as it got, also if there
// is an error.
func Torture(ctx context.Context, o TortureOptions) (TortureReport, error) {
	t := &torture{o: o, drill: newDrill(Options{Site: o.Site})}
	t.report = TortureReport{What: "torture", Seed: o.Seed, Guests: o.Guests, Faults: map[string]int{}, Wrong: []string{}}
	defer t.cloud.close()
	racks := map[string][]string{}
	for _, h := range o.Lab.Hosts {
		racks[h.Rack] = append(racks[h.Rack], h.Name)
	}
	t.report.Racks, t.report.Hosts = len(racks), len(o.Lab.Hosts)
	t.report.Volatile = !slices.ContainsFunc(o.Lab.Hosts, func(h lab.Host) bool { return !h.Volatile })
	var err error
	if t.plan, err = newPlanner(o.Seed, racks, o.Faults, o.Lasts < shortTorture); err == nil {
		err = t.run(ctx)
	}
	t.end()
	t.conclude(err)
	return t.report, err
}

func (t *torture) run(ctx context.Context) error {
	if err := t.mayBreak(ctx); err != nil {
		return err
	}
	if err := t.ready(ctx); err != nil {
		return err
	}
	self, err := ask(ctx, t.cloud, askTimeout, func(ctx context.Context, k *client.Client) (v1.Self, error) { return k.Self(ctx) })
	if err != nil {
		return err
	}
	t.report.Version = self.Version
	if err := t.prepare(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	t.zero = time.Now()
	t.report.Begun = t.zero.UTC()
	t.mu.Unlock()
	t.say("everything works; it is broken now and then for %v (seed %d)", t.o.Lasts, t.o.Seed)
	rotated := time.Now()
	for time.Since(t.zero) < t.o.Lasts {
		if err := t.episode(ctx); err != nil {
			return err
		}
		if time.Since(rotated) > rotateEvery {
			if err := t.rotate(ctx); err != nil {
				return err
			}
			rotated = time.Now()
		}
	}
	t.report.Minutes = time.Since(t.zero).Minutes()
	return t.verify(ctx)
}

// mayBreak refuses a lab that is not the torture's own, or that cannot be broken in
// all ways.
func (t *torture) mayBreak(ctx context.Context) error {
	if t.o.Lab.Network == nil {
		return holdfast.Errorf(holdfast.Invalid, "the lab in %s has no network of its own, so that nothing of it can be cut off; make one with 'holdfast lab up --netns', as root", t.o.Lab.Dir)
	}
	left, err := t.cloud.left(ctx)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return holdfast.Errorf(holdfast.Conflict, "there is something in the lab in %s that the torture did not make (%s); give it a lab of its own with --dir, as 'make torture' does", t.o.Lab.Dir, left[0])
	}
	return nil
}

// episode breaks some things, puts them right and waits until everything is whole
// and everybody goes on.
func (t *torture) episode(ctx context.Context) error {
	faults := t.plan.episode()
	t.wreck(ctx, faults)
	if err := ctx.Err(); err != nil {
		return err
	}
	begin := time.Now()
	if err := t.right(ctx); err != nil {
		return err
	}
	if err := t.whole(ctx); err != nil {
		return err
	}
	took := time.Since(begin)
	t.mu.Lock()
	t.report.Episodes++
	t.report.whole = append(t.report.whole, took.Seconds())
	t.mu.Unlock()
	if err := t.everybodyGoesOn(ctx); err != nil {
		return err
	}
	t.note("whole", "%.1f s after the last fault was taken back", took.Seconds())
	return t.good()
}

// whole waits until every host is there, every volume has all its copies and every
// VM runs.
func (t *torture) whole(ctx context.Context) error {
	return t.cloud.until(ctx, wholeWithin, "everything to be whole again", func(ctx context.Context) (bool, string, error) {
		if err := t.good(); err != nil {
			return false, "", stop{err}
		}
		said, err := t.cloud.whole(ctx, len(t.o.Lab.Hosts))
		return said == "" && err == nil, said, err
	})
}

// whole says what is not whole: of so many hosts one is away, a volume has not all
// its copies, or a VM does not run; "" if all is.
func (c *cloud) whole(ctx context.Context, hosts int) (said string, err error) {
	st, err := c.status(ctx)
	if err != nil || st.Counts.HostsAlive != hosts || st.CanLose.Unknown != "" {
		return cmp.Or(st.Sentence, "no status"), err
	}
	volumes, err := c.volumes(ctx)
	if err != nil {
		return "", err
	}
	for _, v := range volumes {
		if v.State != "ok" || !mended(v, "") {
			return "volume " + v.Name + " is " + v.State, nil
		}
	}
	vms, err := c.vms(ctx)
	for _, vm := range vms {
		if vm.State != "running" || vm.Machine == nil || vm.Machine.State != "running" {
			return "VM " + vm.Name + " is " + vm.State + " " + vm.Reason, err
		}
	}
	return "", err
}

// everybodyGoesOn waits until every guest has flushed, and every group has been
// answered, more than before.
func (t *torture) everybodyGoesOn(ctx context.Context) error {
	flushed, done := map[string]uint32{}, map[string]int64{}
	for _, vm := range t.vms {
		flushed[vm.Name] = t.diary.Flushed(vm.Name)
	}
	for _, w := range t.watch {
		done[w.name] = w.g.Done()
	}
	return t.cloud.until(ctx, goOnWithin, "every guest and client to go on", func(context.Context) (bool, string, error) {
		if err := t.good(); err != nil {
			return false, "", stop{err}
		}
		for _, vm := range t.vms {
			if n := t.diary.Flushed(vm.Name); n <= flushed[vm.Name]+1 {
				return false, fmt.Sprintf("guest %s has flushed %d", vm.Name, n), nil
			}
		}
		for _, w := range t.watch {
			if n := w.g.Done(); n <= done[w.name]+10 {
				return false, fmt.Sprintf("the clients of volume %s were answered %d times", w.name, n), nil
			}
		}
		return true, "", nil
	})
}

// good ends the torture at the first thing that must never be, while what led to it
// can still be looked at.
func (t *torture) good() error {
	t.mu.Lock()
	wrong := slices.Clone(t.report.Wrong)
	t.mu.Unlock()
	for _, w := range t.diary.Wrong() {
		wrong = append(wrong, "VM "+w)
	}
	if t.fio != nil {
		wrong = append(wrong, t.fio.wrong()...)
	}
	if len(wrong) == 0 {
		return nil
	}
	return holdfast.Errorf(holdfast.Corrupt, "%s", wrong[0])
}

// verify has everybody verify everything, and compares all copies.
func (t *torture) verify(ctx context.Context) error {
	t.say("no more faults; everything is verified")
	if err := t.stopWatching(ctx); err != nil {
		return err
	}
	if err := t.fio.finish(ctx); err != nil {
		return err
	}
	if err := t.verifyGuests(ctx); err != nil {
		return err
	}
	if err := t.whole(ctx); err != nil {
		return err
	}
	t.check(true, "redundancy whole", "%d hosts, every volume has its copies, %d VMs run", len(t.o.Lab.Hosts), len(t.vms))
	if err := t.scrubAll(ctx); err != nil {
		return err
	}
	if err := t.compare(ctx); err != nil {
		return err
	}
	return t.oneMachine(ctx)
}

// verifyGuests resets every VM: its guest verifies all of its disk.
func (t *torture) verifyGuests(ctx context.Context) error {
	for _, vm := range t.vms {
		boots := len(t.diary.Bouts(vm.Name))
		pressed := time.Time{}
		err := t.cloud.until(ctx, goOnWithin, "VM "+vm.Name+" to verify its disk", func(ctx context.Context) (bool, string, error) {
			if err := t.good(); err != nil {
				return false, "", stop{err}
			}
			if time.Since(pressed) > resetPatience { // again: what is judged here is the disk
				if err := t.cloud.resetVM(ctx, vm.ID); err != nil {
					return false, "", err
				}
				pressed = time.Now()
			}
			all := t.diary.Bouts(vm.Name)
			return len(all) > boots && all[len(all)-1].Verified != nil, fmt.Sprintf("%d boots", len(all)), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// scrubAll has every byte that anything refers to read and compared with its hash.
func (t *torture) scrubAll(ctx context.Context) error {
	for _, h := range t.o.Lab.Hosts {
		if err := t.scrub(ctx, h); err != nil {
			return err
		}
	}
	t.check(true, "every disk scrubbed", "%d disks, nothing bad was left", len(t.o.Lab.Hosts))
	return nil
}

// compare compares all copies of every volume, image and snapshot.
func (t *torture) compare(ctx context.Context) error {
	volumes, err := t.cloud.volumes(ctx)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		var r v1.VerifyResult
		err := t.cloud.until(ctx, goOnWithin, "the copies of volume "+v.Name+" to be compared", func(ctx context.Context) (ok bool, said string, err error) {
			r, err = ask(ctx, t.cloud, time.Minute, func(ctx context.Context, k *client.Client) (v1.VerifyResult, error) {
				return k.Verify(ctx, v.ID, func(float64) {})
			})
			return err == nil && len(r.Copies) >= v.Copies, fmt.Sprintf("%d copies were compared", len(r.Copies)), err
		})
		if err != nil {
			return err
		}
		t.report.Compared.Volumes++
		t.report.Compared.Copies += len(r.Copies)
		t.report.Compared.Blocks += r.Blocks
		if !r.Equal {
			t.accuse("the copies of volume %s differ in %d blocks: %+v", v.Name, r.Differ, r.Differences[0])
		}
	}
	return t.good()
}

// accuse notes what must never be.
func (t *torture) accuse(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.Wrong = append(t.report.Wrong, fmt.Sprintf(format, args...))
	t.say("WRONG: "+format, args...)
}

// note adds a line to the timeline.
func (t *torture) note(what, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := Mark{what, time.Since(t.zero).Seconds(), fmt.Sprintf(format, args...)}
	t.report.Timeline = append(t.report.Timeline, m)
	t.say("+%.1f s %s %s", m.After, m.What, m.Text)
}

func (t *torture) count(kind string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.Faults[kind]++
}
