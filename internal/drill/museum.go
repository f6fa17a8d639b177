package drill

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/lab"
)

// museumImage is the image of guests with a copy in each of three racks.
const museumImage = "probe-3"

// MuseumOptions are what the loss of most of the cluster is drilled with.
type MuseumOptions struct {
	Site     // of its program 'cluster recover' is run, too
	Guests   int
	Survivor string // rack that is left; "": one by chance
	Keep     bool   // do not put new hosts in the place of the destroyed ones
}

// MuseumReport is what became of it.
type MuseumReport struct {
	Guests   int       `json:"guests"`
	Survivor string    `json:"survivor"` // host on which the control plane was rebuilt
	Lost     []string  `json:"lost"`     // hosts that were destroyed
	KilledAt time.Time `json:"killed_at"`
	Timeline []Mark    `json:"timeline"`
	Said     string    `json:"said"`                        // by the command
	Verified float64   `json:"command_to_verified_seconds"` // from the command's start to the last guest's word
	Acked    int64     `json:"acknowledged"`                // flushed blocks that guests had reported
	Missing  int64     `json:"missing"`                     // of these
	Checks   []Check   `json:"checks"`
	OK       bool      `json:"ok"`
}

// museum is one run.
type museum struct {
	o       MuseumOptions
	d       *drill
	guests  *probes
	left    []lab.Host
	gone    []lab.Host
	before  map[string]int64 // generation of each VM's machine
	command time.Time
	report  MuseumReport
}

// Museum destroys all racks but one while guests write, rebuilds the control plane
// on what is left, and sees whether everything that was acknowledged is there.
func Museum(ctx context.Context, o MuseumOptions) (MuseumReport, error) {
	d := newDrill(Options{Site: o.Site})
	defer d.cloud.close()
	m := &museum{o: o, d: d, guests: newProbes(d, "museum", o.Guests), before: map[string]int64{}}
	defer m.guests.close()
	m.report = MuseumReport{Guests: o.Guests, Lost: []string{}, Checks: []Check{}}
	for _, g := range m.guests.list {
		g.from, g.copies = museumImage, 3
	}
	err := m.run(ctx)
	m.conclude(err)
	return m.report, err
}

func (m *museum) run(ctx context.Context) error {
	if err := m.choose(); err != nil {
		return err
	}
	if err := m.d.ready(ctx); err != nil {
		return err
	}
	if err := m.spare(ctx); err != nil {
		return err
	}
	if err := m.guests.work(ctx); err != nil {
		return err
	}
	if err := m.guests.whole(ctx, backTimeout); err != nil {
		return err
	}
	if err := m.d.ready(ctx); err != nil {
		return err
	}
	if err := m.destroy(ctx); err != nil {
		return err
	}
	if err := m.recover(ctx); err != nil {
		return err
	}
	if err := m.verified(ctx); err != nil {
		return err
	}
	if err := m.afterwards(ctx); err != nil || m.o.Keep {
		return err
	}
	return m.rebuild(ctx)
}

// choose parts the lab into what is left and what is destroyed.
func (m *museum) choose() error {
	var racks []string
	for _, h := range m.o.Lab.Hosts {
		if !slices.Contains(racks, h.Rack) {
			racks = append(racks, h.Rack)
		}
	}
	if len(racks) != 3 {
		return holdfast.Errorf(holdfast.Invalid, "the drill needs 3 racks, the lab has %d; make one with 'holdfast lab up --racks 3'", len(racks))
	}
	keep := m.o.Survivor
	if keep == "" {
		keep = racks[rand.IntN(len(racks))]
	}
	var err error
	if m.left, err = m.o.Lab.Rack(keep); err != nil {
		return err
	}
	for _, h := range m.o.Lab.Hosts {
		if h.Rack != keep {
			m.gone = append(m.gone, h)
			m.report.Lost = append(m.report.Lost, h.Name)
		}
	}
	m.report.Survivor = m.left[0].Name
	return nil
}

// spare refuses to destroy what is somebody else's: a volume without a copy in
// sync on what is left.
func (m *museum) spare(ctx context.Context) error {
	all, err := m.d.cloud.volumes(ctx)
	if err != nil {
		return err
	}
	if lost := onlyOutside(all, m.left[0].Rack); len(lost) > 0 {
		return holdfast.Errorf(holdfast.Conflict, "rack %s, which is to be left, has no copy of %s: the drill would destroy that for good; delete it, or use a lab of its own ('holdfast lab up --dir DIR', then --dir DIR here)",
			m.left[0].Rack, strings.Join(lost, ", "))
	}
	return nil
}

// onlyOutside are the names of volumes that have no copy in sync in a rack.
func onlyOutside(all []v1.Volume, rack string) (names []string) {
	for _, v := range all {
		if !slices.ContainsFunc(v.Replicas, func(r v1.Replica) bool { return r.InSync && r.Rack == rack }) {
			names = append(names, v.Name)
		}
	}
	return names
}

// destroy ends everything on two racks at once and wipes their disks.
func (m *museum) destroy(ctx context.Context) error {
	vms, err := m.guests.machines(ctx)
	if err != nil {
		return err
	}
	for _, vm := range vms {
		if vm.Machine != nil {
			m.before[vm.ID] = vm.Machine.Generation
		}
	}
	time.Sleep(rand.N(time.Second)) // no moment is better than another
	d := m.d
	d.mu.Lock()
	d.zero = time.Now()
	d.mu.Unlock()
	m.report.KilledAt = d.zero
	if err := lab.Kill(m.gone); err != nil {
		return err
	}
	if err := lab.Destroy(m.gone, true); err != nil {
		return err
	}
	d.mark("racks destroyed", d.zero, strings.Join(m.report.Lost, ", "))
	return nil
}

// acknowledged keeps what each guest had reported as flushed. Nothing was
// acknowledged after the loss, for no replica could be done without.
func (m *museum) acknowledged() {
	for _, g := range m.guests.list {
		g.mu.Lock()
		g.acks = max(g.seen.flushed, g.former.flushed, g.acks)
		g.boot = sight{}
		g.mu.Unlock()
	}
}

// recover runs the command as a person does, as soon as it may be run.
func (m *museum) recover(ctx context.Context) error {
	c := client.Socket(m.left[0].Socket())
	defer c.Close()
	var plan v1.Recovery
	err := m.d.cloud.until(ctx, backTimeout, "the loss of the majority to be noticed", func(ctx context.Context) (bool, string, error) {
		ask, cancel := context.WithTimeout(ctx, 2*askTimeout)
		defer cancel()
		var err error
		plan, err = c.RecoveryPlan(ask, v1.RecoverySpec{})
		return err == nil, "", err
	})
	if err != nil {
		return err
	}
	m.acknowledged()
	served := 0
	for _, v := range plan.Volumes {
		if v.State == "served" {
			served++
		}
	}
	m.d.mark("plan", time.Now(), fmt.Sprintf("incarnation %d from revision %d: %d of %d volumes served, %d hosts shut out", plan.Incarnation, plan.Revision, served, len(plan.Volumes), len(plan.Shut)))
	m.command = time.Now()
	m.d.mark("command given", m.command, "holdfast cluster recover --yes, on host "+m.left[0].Name)
	out, err := exec.CommandContext(ctx, m.o.Binary, "--socket", m.left[0].Socket(), "cluster", "recover", "--yes").CombinedOutput()
	m.report.Said = string(out)
	if err != nil {
		return holdfast.Errorf(holdfast.Unavailable, "holdfast cluster recover: %w:\n%s", err, out)
	}
	m.d.mark("control plane rebuilt", time.Now(), "")
	return nil
}

// verified waits until each guest runs in a new machine and has verified its whole
// disk there.
func (m *museum) verified(ctx context.Context) error {
	err := m.guests.each(func(g *probeGuest) error {
		err := m.d.cloud.until(ctx, backTimeout, "VM "+g.name+" to run", func(ctx context.Context) (bool, string, error) {
			vm, err := m.d.cloud.vm(ctx, g.vm.ID)
			if err != nil || vm.Machine == nil || vm.State != "running" || vm.Machine.Generation <= m.before[vm.ID] {
				return false, "it is " + vm.State + " " + vm.Reason, err
			}
			m.d.mark("VM process running", vm.Machine.Since, vm.Name+" on host "+vm.Machine.Host)
			return true, "", nil
		})
		if err != nil {
			return err
		}
		now := time.Now()
		g.attach(ctx) // what was heard before was of the machine before
		s, err := g.wait(ctx, "guest "+g.name+" to verify its disk", backTimeout, func(s sight) bool { return s.attached.After(now) && s.verified != nil })
		g.mu.Lock()
		g.boot = s
		g.mu.Unlock()
		if err == nil {
			m.d.mark("guest verified", time.Now(), g.name+": "+s.verified.Text)
		}
		return err
	})
	m.report.Verified = time.Since(m.command).Seconds()
	return err
}

// afterwards sees that guests write, that each runs once, and that the cluster
// does not call itself well.
func (m *museum) afterwards(ctx context.Context) error {
	err := m.guests.each(func(g *probeGuest) error {
		_, err := g.wait(ctx, "guest "+g.name+" to write again", backTimeout, func(s sight) bool { return s.verified != nil && s.flushed > s.verified.Counter })
		return err
	})
	if err != nil {
		return err
	}
	st, err := m.d.cloud.status(ctx)
	if err != nil {
		return err
	}
	m.d.check(st.Level != "ok", "the status says that nothing is redundant", "%s", st.Sentence)
	c := client.Socket(m.left[0].Socket())
	defer c.Close()
	r, err := c.Recovery(ctx)
	if err == nil {
		_, err = os.Stat(r.Log)
	}
	m.d.check(err == nil && r.State == "done", "what was done is written down", "%s", r.Log)
	return m.d.oneMachine(ctx)
}

// rebuild puts new hosts where the destroyed ones stood, and waits until
// everything has its copies.
func (m *museum) rebuild(ctx context.Context) error {
	m.d.say("new hosts join in the place of the destroyed ones")
	if err := m.o.Lab.StartHosts(ctx, m.o.Binary, m.gone); err != nil {
		return err
	}
	if err := m.o.Lab.Admit(ctx, m.left[0], m.gone, lab.DefaultDiskSize); err != nil {
		return err
	}
	m.d.mark("new hosts joined", time.Now(), strings.Join(m.report.Lost, ", "))
	if err := m.guests.whole(ctx, backTimeout); err != nil {
		return err
	}
	if err := m.d.ready(ctx); err != nil {
		return err
	}
	m.d.mark("everything whole again", time.Now(), "")
	return m.d.oneMachine(ctx)
}

// conclude judges the run.
func (m *museum) conclude(err error) {
	d := m.d
	if !m.command.IsZero() {
		m.report.Acked, m.report.Missing = m.guests.flushed()
		d.check(m.report.Missing == 0, "nothing acknowledged lost", "%d flushed blocks were reported before the loss, %d of them are not there", m.report.Acked, m.report.Missing)
		text := "every guest found all blocks as they were written"
		if err != nil {
			text = err.Error()
		}
		d.check(err == nil, "every guest verified", "%s", text)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	m.report.Timeline, m.report.Checks = sortedMarks(d.report.Timeline), d.report.Checks
	m.report.OK = err == nil && len(m.report.Checks) > 0 && !slices.ContainsFunc(m.report.Checks, func(c Check) bool { return !c.OK })
}
