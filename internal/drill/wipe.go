package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/lab"
)

// WipeOptions are what the loss of a rack's disks is drilled with.
type WipeOptions struct {
	Site
	Guests  int
	Rack    string // "": that of the first guest
	Replace bool   // the hosts themselves are gone, too: they are struck, and new ones join
}

// WipeReport is what became of it.
type WipeReport struct {
	Rack     string    `json:"rack"`
	Hosts    []string  `json:"hosts"`
	Replaced bool      `json:"replaced"` // by new hosts; otherwise by new disks in the same
	Guests   int       `json:"guests"`
	Moved    int       `json:"moved"` // guests that ran there
	KilledAt time.Time `json:"killed_at"`
	Timeline []Mark    `json:"timeline"`
	Acked    int64     `json:"acknowledged"` // flushed blocks of the guests that ran there
	Lost     int64     `json:"lost"`
	Compared int64     `json:"compared"` // blocks of which all copies hold the same, in the end
	Checks   []Check   `json:"checks"`
	OK       bool      `json:"ok"`
}

// wipe is one run.
type wipe struct {
	o      WipeOptions
	d      *drill
	guests *probes
	moved  *probes // of these, the ones that ran in the rack
	hosts  []lab.Host
	old    []v1.Disk
	report WipeReport
}

// Wipe kills a rack, destroys its disks, puts empty ones in their place and waits
// until every copy has been built anew. The guests are removed in the end, unless
// something failed.
func Wipe(ctx context.Context, o WipeOptions) (WipeReport, error) {
	d := newDrill(Options{Site: o.Site})
	defer d.cloud.close()
	w := &wipe{o: o, d: d, guests: newProbes(d, "wipe", o.Guests), moved: &probes{d: d}}
	w.report = WipeReport{Guests: o.Guests, Replaced: o.Replace, Hosts: []string{}, Checks: []Check{}}
	defer w.guests.close()
	err := w.run(ctx)
	d.mu.Lock()
	w.report.Timeline, w.report.Checks = sortedMarks(d.report.Timeline), append(w.report.Checks, d.report.Checks...)
	d.mu.Unlock()
	w.report.OK = err == nil && len(w.report.Checks) > 0 && !slices.ContainsFunc(w.report.Checks, func(c Check) bool { return !c.OK })
	if w.report.OK {
		err = w.guests.remove(ctx)
	}
	return w.report, err
}

func (w *wipe) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{w.prepare, w.lose, w.recover, w.wholeAgain, w.compare, w.witness, w.d.oneMachine} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// prepare lets the guests work and chooses the rack.
func (w *wipe) prepare(ctx context.Context) error {
	if err := w.d.whole(ctx); err != nil {
		return err
	}
	if st, err := w.d.cloud.status(ctx); err != nil || st.Counts.Racks < 3 {
		return holdfast.Errorf(holdfast.Invalid, "the drill needs 3 racks: with fewer the control plane has no majority without one; make a lab with 'holdfast lab up --racks 3' (%w)", err)
	}
	if err := w.guests.work(ctx); err != nil {
		return err
	}
	if err := w.guests.whole(ctx, time.Minute); err != nil {
		return err
	}
	vms, err := w.guests.machines(ctx)
	if err != nil {
		return err
	}
	if w.o.Rack == "" {
		w.o.Rack = vms[0].Rack
	}
	if w.hosts, err = w.o.Lab.Rack(w.o.Rack); err != nil {
		return err
	}
	w.report.Rack = w.o.Rack
	for _, h := range w.hosts {
		w.report.Hosts = append(w.report.Hosts, h.Name)
	}
	for i, vm := range vms {
		if vm.Rack == w.o.Rack {
			w.moved.list = append(w.moved.list, w.guests.list[i])
		}
	}
	w.report.Moved = len(w.moved.list)
	disks, err := w.d.cloud.disks(ctx)
	for _, d := range disks {
		if slices.Contains(w.report.Hosts, d.Host) {
			w.old = append(w.old, d)
		}
	}
	return err
}

func (c *cloud) disks(ctx context.Context) ([]v1.Disk, error) {
	return ask(ctx, c, askTimeout, func(ctx context.Context, k *client.Client) ([]v1.Disk, error) { return k.Disks(ctx) })
}

// lose kills the rack, destroys what stood there, and waits until its guests run
// elsewhere with all that they had flushed.
func (w *wipe) lose(ctx context.Context) error {
	d := w.d
	d.cloud.without(w.o.Rack)
	d.mu.Lock()
	d.zero = time.Now()
	d.mu.Unlock()
	w.report.KilledAt = d.zero
	if err := lab.Kill(w.hosts); err != nil {
		return err
	}
	if err := lab.Destroy(w.hosts, w.o.Replace); err != nil {
		return err
	}
	d.mark("rack killed, its disks destroyed", time.Now(), w.o.Rack)
	if err := w.moved.cut(ctx); err != nil {
		return err
	}
	err := w.moved.verified(ctx)
	w.report.Acked, w.report.Lost = w.moved.flushed()
	d.check(w.report.Lost == 0, "nothing acknowledged lost", "%d flushed blocks were reported by the %d guests that ran there, %d of them are not there", w.report.Acked, len(w.moved.list), w.report.Lost)
	return err
}

// recover puts empty disks in: into the same hosts, or with new hosts.
func (w *wipe) recover(ctx context.Context) error {
	if w.o.Replace {
		if err := w.strike(ctx); err != nil {
			return err
		}
	}
	if err := w.d.o.Lab.StartHosts(ctx, w.o.Binary, w.hosts); err != nil {
		return err
	}
	w.d.mark("rack has power again", time.Now(), w.o.Rack)
	var err error
	if w.o.Replace {
		err = w.o.Lab.Admit(ctx, w.d.cloud.outside(w.o.Rack), w.hosts, w.old[0].Size)
	} else {
		err = w.newDisks(ctx)
	}
	w.d.cloud.all()
	if err == nil {
		w.d.mark("empty disks are in", time.Now(), strings.Join(w.report.Hosts, ", "))
	}
	return err
}

// strike has the dead hosts struck off the membership, as soon as they count as
// lost.
func (w *wipe) strike(ctx context.Context) error {
	err := w.d.cloud.until(ctx, time.Minute, "the dead hosts to be struck", func(ctx context.Context) (bool, string, error) {
		_, err := ask(ctx, w.d.cloud, 10*time.Second, func(ctx context.Context, k *client.Client) (v1.Removal, error) {
			return k.RemoveRack(ctx, w.o.Rack, v1.RemovalSpec{Lost: true})
		})
		if holdfast.IsKind(err, holdfast.NotFound) {
			return true, "", nil // a try whose answer was lost did it
		}
		return err == nil, "", err
	})
	if err == nil {
		w.d.mark("rack struck: it will not come back", time.Now(), w.o.Rack)
	}
	return err
}

// newDisks replaces every disk of the rack by an empty one in the same place.
func (w *wipe) newDisks(ctx context.Context) error {
	for _, old := range w.old {
		tried := ""
		err := w.d.cloud.until(ctx, time.Minute, "disk "+old.Path+" of host "+old.Host+" to be replaced", func(ctx context.Context) (bool, string, error) {
			disks, err := w.d.cloud.disks(ctx)
			if err != nil {
				return false, "", err
			}
			there := slices.ContainsFunc(disks, func(d v1.Disk) bool { return d.Host == old.Host && d.ID != old.ID && d.Path == old.Path })
			if tried != "" && there {
				return true, "", nil // a try whose answer was lost did it
			}
			tried = old.ID
			_, err = ask(ctx, w.d.cloud, time.Minute, func(ctx context.Context, k *client.Client) (v1.Disk, error) {
				return k.ReplaceDisk(ctx, old.ID, v1.DiskSpec{Path: old.Path, Size: old.Size})
			})
			return err == nil, "", err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// wholeAgain waits until every copy is built, what was destroyed is forgotten,
// and nothing is wrong.
func (w *wipe) wholeAgain(ctx context.Context) error {
	if err := w.guests.whole(ctx, backTimeout); err != nil {
		return err
	}
	w.d.mark("every guest's disk has its copies", time.Now(), "")
	err := w.d.cloud.until(ctx, backTimeout, "the cluster to be whole, without the old disks", func(ctx context.Context) (bool, string, error) {
		st, err := w.d.cloud.status(ctx)
		if err != nil || !w.d.isWhole(st) {
			return false, st.Sentence, err
		}
		disks, err := w.d.cloud.disks(ctx)
		left := slices.IndexFunc(disks, func(d v1.Disk) bool {
			return slices.ContainsFunc(w.old, func(o v1.Disk) bool { return o.ID == d.ID })
		})
		return err == nil && left < 0, "a destroyed disk is still known", err
	})
	if err == nil {
		w.d.mark("everything whole again", time.Now(), "")
	}
	return err
}

// compare has all copies of every guest's disk compared.
func (w *wipe) compare(ctx context.Context) error {
	differ := ""
	for _, g := range w.guests.list {
		v, err := ask(ctx, w.d.cloud, time.Minute, func(ctx context.Context, k *client.Client) (v1.VerifyResult, error) {
			return k.Verify(ctx, g.vm.Volume, func(float64) {})
		})
		if err != nil {
			return err
		}
		w.report.Compared += v.Blocks
		if !v.Equal || len(v.Copies) < 2 {
			differ += fmt.Sprintf("; volume %s: %d differences between %s", g.name, v.Differ, strings.Join(v.Copies, " and "))
		}
	}
	w.d.check(differ == "", "all copies are equal", "%d blocks compared%s", w.report.Compared, differ)
	return nil
}

// witness has every guest verify its disk once more.
func (w *wipe) witness(ctx context.Context) error {
	for _, g := range w.guests.list {
		g.mu.Lock()
		if g.boot.verified == nil { // it was never away
			g.boot = g.seen
		}
		booted := g.boot.verified != nil
		g.mu.Unlock()
		if !booted {
			return holdfast.Errorf(holdfast.Unavailable, "guest %s has never told what it found at its start", g.name)
		}
		checks, err := g.witness(ctx)
		if err != nil {
			return err
		}
		for _, c := range checks {
			if !c.OK {
				w.d.check(false, g.name+": "+c.What, "%s", c.Text)
			}
		}
	}
	w.d.check(true, "guests verified", "all %d guests were started anew in the end and verified their disks", len(w.guests.list))
	return nil
}
