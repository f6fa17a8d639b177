package drill

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

// Saturation is what happened while guests kept every core busy: nothing, if
// all is well. Loss of hosts is detected by their silence, and a computer that
// is out of breath must not be taken for a dead one.
type Saturation struct {
	Seconds   float64  `json:"seconds"`
	Spinners  int      `json:"spinning_guests"`
	Busy      float64  `json:"cpu_busy"` // share of all cores that was in use, 0 to 1
	Incidents []string `json:"incidents"`
	Moved     []string `json:"moved"`   // VMs that were started anew or elsewhere
	Flushed   uint32   `json:"flushed"` // blocks that the probe guest flushed meanwhile
	Looks     int      `json:"looks"`
	Wrong     int      `json:"wrong"` // looks at which the cluster said that something was wrong
	FirstSaid string   `json:"first_wrong,omitempty"`
	Checks    []Check  `json:"checks"`
	OK        bool     `json:"ok"`
}

const (
	spinImage  = "drill-spin"
	spinSize   = 1 << 20
	lookEvery  = time.Second
	maxFor     = 48 * time.Hour
	spinMemory = 32 // MiB
)

// spinSector is a boot sector that jumps to itself for ever.
func spinSector() []byte {
	b := make([]byte, spinSize)
	copy(b, []byte{0xeb, 0xfe}) // jmp $
	b[510], b[511] = 0x55, 0xaa
	return b
}

// Saturate runs one busy guest per core and a probe guest for a while, and
// reports what the cluster made of it. It removes them in the end.
func Saturate(ctx context.Context, o Options, length time.Duration) (s Saturation, err error) {
	d := newDrill(o)
	defer d.cloud.close()
	g := &probeGuest{d: d}
	d.guest = g
	defer g.close()
	if err := d.ready(ctx); err != nil {
		return s, err
	}
	if err := g.image(ctx); err != nil {
		return s, err
	}
	defer func() {
		if cerr := d.clear(g.spec().Name); err == nil {
			err = cerr
		}
	}()
	vm, err := d.makeVM(ctx)
	if err != nil {
		return s, err
	}
	if s.Spinners, err = d.spin(ctx); err != nil {
		return s, err
	}
	if _, err := d.healthy(ctx, vm); err != nil {
		return s, err
	}
	d.say("%d guests spin; nothing must happen for %v", s.Spinners, length)
	if err := d.watchLoad(ctx, length, g, &s); err != nil {
		return s, err
	}
	s.judge(g.look().bad)
	return s, nil
}

// spin makes one busy guest per core.
func (d *drill) spin(ctx context.Context) (int, error) {
	err := d.cloud.have(ctx, spinImage, spinSize, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(spinSector())), nil })
	if err != nil {
		return 0, err
	}
	n := runtime.NumCPU()
	for i := range n {
		name := fmt.Sprintf("%s-%d", spinImage, i+1)
		if err := d.cloud.remove(ctx, name); err != nil {
			return 0, err
		}
		vm, err := d.cloud.createVM(ctx, v1.VMSpec{Name: name, Image: spinImage, MemoryMiB: spinMemory, Priority: "low"})
		if err == nil {
			_, err = d.running(ctx, vm)
		}
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// watchLoad looks every second for so long.
func (d *drill) watchLoad(ctx context.Context, length time.Duration, g *probeGuest, s *Saturation) error {
	before, err := d.cloud.vms(ctx)
	if err != nil {
		return err
	}
	known, err := d.cloud.incidents(ctx)
	if err != nil {
		return err
	}
	begin, flushed := time.Now(), g.look().flushed
	busy, total := cpuTime()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for time.Since(begin) < length {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		s.look(d, ctx)
	}
	busyNow, totalNow := cpuTime()
	s.Seconds = time.Since(begin).Seconds()
	s.Flushed = g.look().flushed - flushed
	if totalNow > total {
		s.Busy = (busyNow - busy) / (totalNow - total)
	}
	after, err := d.cloud.vms(ctx)
	if err != nil {
		return err
	}
	s.Moved = moved(before, after)
	all, err := d.cloud.incidents(ctx)
	for _, i := range all {
		if !slices.ContainsFunc(known, func(k v1.Incident) bool { return k.ID == i.ID }) {
			s.Incidents = append(s.Incidents, fmt.Sprintf("%s: hosts %s", i.Opened.Format(time.TimeOnly), strings.Join(i.Hosts, ", ")))
		}
	}
	return err
}

func (s *Saturation) look(d *drill, ctx context.Context) {
	s.Looks++
	st, err := d.cloud.status(ctx)
	said := st.Sentence
	if err != nil {
		said = err.Error()
	}
	if err == nil && d.isWhole(st) {
		return
	}
	s.Wrong++
	if s.FirstSaid == "" {
		s.FirstSaid = said
		d.say("%s", said)
	}
}

// moved names the VMs whose machine is not the one that it was.
func moved(before, after []v1.VM) []string {
	var names []string
	for _, b := range before {
		i := slices.IndexFunc(after, func(a v1.VM) bool { return a.ID == b.ID })
		switch {
		case i < 0:
			names = append(names, b.Name+" is gone")
		case after[i].Assigned != b.Assigned || after[i].Host != b.Host:
			names = append(names, fmt.Sprintf("%s from %s to %s", b.Name, b.Host, after[i].Host))
		case b.Machine != nil && (after[i].Machine == nil || after[i].Machine.PID != b.Machine.PID):
			names = append(names, b.Name+" was started anew")
		}
	}
	return names
}

func (s *Saturation) judge(bad []string) {
	s.Checks = []Check{
		{"no host was taken for lost", len(s.Incidents) == 0, fmt.Sprintf("%d incidents in %.1f minutes %s", len(s.Incidents), s.Seconds/60, strings.Join(s.Incidents, "; "))},
		{"no VM was moved or started anew", len(s.Moved) == 0, fmt.Sprintf("%d were %s", len(s.Moved), strings.Join(s.Moved, "; "))},
		{"the cores were busy", s.Busy > 0.95, fmt.Sprintf("%.0f %% of all cores, with %d spinning guests", 100*s.Busy, s.Spinners)},
		{"the guest worked on", s.Flushed > 0 && len(bad) == 0, fmt.Sprintf("%d blocks flushed, %d complaints", s.Flushed, len(bad))},
	}
	s.OK = !slices.ContainsFunc(s.Checks, func(c Check) bool { return !c.OK })
}

// clear removes the VMs and the image of this drill, whatever became of it.
func (d *drill) clear(names ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for i := range runtime.NumCPU() {
		names = append(names, fmt.Sprintf("%s-%d", spinImage, i+1))
	}
	for _, n := range names {
		if err := d.cloud.remove(ctx, n); err != nil {
			return err
		}
	}
	_, err := ask(ctx, d.cloud, time.Minute, func(ctx context.Context, k *client.Client) (struct{}, error) {
		return struct{}{}, k.DeleteImage(ctx, spinImage)
	})
	if holdfast.IsKind(err, holdfast.NotFound) {
		err = nil
	}
	return err
}

// cpuTime returns how long all cores of this computer have worked, and worked
// or idled, in ticks since boot (proc_stat(5)); zeros if it cannot be known.
func cpuTime() (busy, total float64) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, f := range strings.Fields(line) {
		if i == 0 || i > 8 { // guests' time is in the user's already
			continue
		}
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return 0, 0
		}
		total += n
		if i != 4 && i != 5 { // idle, waiting for I/O
			busy += n
		}
	}
	return busy, total
}

// print prints the report for people.
func (s Saturation) print(out io.Writer) error {
	if s.Seconds == 0 {
		return nil // it never began
	}
	fmt.Fprintf(out, "%d guests kept %.0f %% of all cores busy for %.1f minutes.\n\n", s.Spinners, 100*s.Busy, s.Seconds/60)
	printChecks(out, s.Checks)
	if s.Wrong > 0 {
		fmt.Fprintf(out, "note  at %d of %d looks the cluster said that something was wrong, the first time: %s\n", s.Wrong, s.Looks, s.FirstSaid)
	}
	return nil
}

func saturate(getenv func(string) string) *cobra.Command {
	var length time.Duration
	c := &cobra.Command{Use: "saturate", Short: "Keep every core busy with guests, and see that no host is taken for dead",
		Long: `Start one guest per core that does nothing but spin, and one that writes and
flushes, and watch the cluster for a while. A host that is out of breath must
not be taken for a lost one.

Exit status 0 only if no incident was opened and no VM was moved.`,
		Example: "  holdfast drill saturate --for 30m",
	}
	c.Flags().DurationVar(&length, "for", 30*time.Minute, "how long")
	return played(c, getenv, func() error {
		if length < time.Second || length > maxFor {
			return holdfast.Errorf(holdfast.Invalid, "--for %v: give 1s to %v", length, maxFor)
		}
		return nil
	}, func(ctx context.Context, at Site) (outcome, error) { return Saturate(ctx, Options{Site: at}, length) })
}
