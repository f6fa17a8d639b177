package drill

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/lab/observer"
)

// TortureReport is what a torture found.
type TortureReport struct {
	What     string    `json:"what"`    // "torture"
	Version  string    `json:"version"` // of the binary, which names its commit
	Begun    time.Time `json:"begun"`
	Seed     uint64    `json:"seed"`
	Minutes  float64   `json:"minutes"` // with faults
	Racks    int       `json:"racks"`
	Hosts    int       `json:"hosts"`
	Guests   int       `json:"guests"`
	Volatile bool      `json:"volatile"` // what was not synced went with the power

	Episodes  int            `json:"episodes"`
	Faults    map[string]int `json:"faults"` // by their kinds
	All       int            `json:"faults_in_all"`
	Incidents int            `json:"incidents"`   // losses of hosts, as the cluster counts them
	FailOvers int            `json:"fail_overs"`  // VMs that were started on another host
	Boots     int            `json:"guest_boots"` // each verified all of the guest's disk
	TakeOvers int            `json:"take_overs"`  // openings of volumes
	Rotten    int            `json:"blocks_damaged"`

	Flushed  int64             `json:"guest_flushed_writes"` // that were acknowledged
	Observed []observer.Result `json:"observed"`
	Ops      int64             `json:"observed_operations"`
	Fio      FioResult         `json:"fio"`
	Compared struct {
		Volumes int   `json:"volumes"`
		Copies  int   `json:"copies"`
		Blocks  int64 `json:"blocks"`
	} `json:"compared"`

	Lost     int      `json:"flushed_writes_lost"`
	Misread  int      `json:"wrong_reads"`
	Wrong    []string `json:"wrong"`
	Figures  []Figure `json:"figures"`
	Timeline []Mark   `json:"timeline"`
	Checks   []Check  `json:"checks"`
	OK       bool     `json:"ok"`

	whole    []float64 // seconds from the end of an episode's faults until everything was whole
	restarts []float64 // seconds from a rack being told to stop to all its hosts at work again
}

func (r TortureReport) passed() bool { return r.OK }

// conclude adds everything up and judges.
func (t *torture) conclude(err error) {
	r := &t.report
	for _, n := range r.Faults {
		r.All += n
	}
	t.tellGuests()
	if t.fio != nil {
		r.Fio = t.fio.result // it has ended
		r.Wrong = append(r.Wrong, r.Fio.Wrong...)
	}
	for _, o := range r.Observed {
		r.Ops += o.Ops
	}
	t.tellCluster()
	r.Misread = len(r.Wrong) - r.Lost
	if len(r.whole) > 0 {
		r.Figures = append(r.Figures, Figure{"faults taken back → everything whole", "s", len(r.whole), Median(r.whole), slices.Max(r.whole)})
	}
	if len(r.restarts) > 0 {
		r.Figures = append(r.Figures, Figure{"rack told to stop → all its hosts work again", "s", len(r.restarts), Median(r.restarts), slices.Max(r.restarts)})
	}
	if r.Begun.IsZero() {
		return // nothing was broken
	}
	refused := 0
	for _, o := range r.Observed {
		refused += o.Errors[holdfast.Corrupt.String()] + o.Errors[holdfast.Damaged.String()]
	}
	t.check(r.Lost == 0, "nothing acknowledged and flushed lost", "%d flushed writes of guests, %d verified boots, %d of them lost", r.Flushed, r.Boots, r.Lost)
	t.check(r.Misread == 0 && refused == 0, "nothing read wrong", "%d operations of %d volumes judged, %d reads verified by fio in %d rounds, %d wrong, %d refused as damaged", r.Ops, len(r.Observed), r.Fio.Verified, r.Fio.Rounds, r.Misread, refused)
	text := "everything came back by itself after every fault"
	if err != nil {
		text = err.Error()
	}
	t.check(err == nil, "to its end", "%s", text)
	for _, w := range r.Wrong {
		t.check(false, "wrong", "%s", w)
	}
	r.Checks = t.drill.report.Checks
	r.Timeline = sortedMarks(r.Timeline)
	r.OK = err == nil && !slices.ContainsFunc(r.Checks, func(c Check) bool { return !c.OK })
}

// tellGuests counts what the guests did, by what they said.
func (t *torture) tellGuests() {
	if t.diary == nil {
		return
	}
	r := &t.report
	for _, vm := range t.vms {
		r.Flushed += int64(t.diary.Flushed(vm.Name))
		host := ""
		for _, b := range t.diary.Bouts(vm.Name) {
			if b.Verified != nil {
				r.Boots++
			}
			if host != "" && b.Host != host {
				r.FailOvers++
			}
			host = b.Host
		}
	}
	lost := t.diary.Wrong()
	r.Lost += len(lost)
	for _, w := range lost {
		r.Wrong = append(r.Wrong, "VM "+w)
	}
}

// tellCluster counts what the cluster itself counts, if it still answers.
func (t *torture) tellCluster() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if all, err := t.cloud.incidents(ctx); err == nil {
		t.report.Incidents = len(all)
	}
	volumes, err := t.cloud.volumes(ctx)
	if err != nil {
		return
	}
	for _, v := range volumes {
		if !slices.ContainsFunc(t.watch, func(w *watched) bool { return w.id == v.ID }) { // those have been counted
			t.report.TakeOvers += int(v.Epoch)
		}
	}
}

// print prints the report for people.
func (r TortureReport) print(out io.Writer) error {
	if r.Begun.IsZero() {
		return nil // nothing was broken
	}
	fmt.Fprintf(out, "%d hosts in %d racks were tortured for %.1f minutes (seed %d): %d faults in %d episodes.\n\n", r.Hosts, r.Racks, r.Minutes, r.Seed, r.All, r.Episodes)
	if err := printMarks(out, r.Timeline); err != nil {
		return err
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FAULT\tTIMES")
	for _, k := range slices.Sorted(maps.Keys(r.Faults)) {
		fmt.Fprintf(w, "%s\t%d\n", k, r.Faults[k])
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	if err := PrintFigures(out, r.Figures); err != nil {
		return err
	}
	unknown := 0
	for _, o := range r.Observed {
		unknown += o.Unknown
	}
	fmt.Fprintf(out, "\nIncidents: %d. VMs failed over: %d. Boots of guests: %d. Openings of volumes: %d. Blocks damaged on disks: %d.\n", r.Incidents, r.FailOvers, r.Boots, r.TakeOvers, r.Rotten)
	fmt.Fprintf(out, "Flushed by guests: %d. Operations of NBD clients: %d, of %d writes nobody knows. fio: %d writes, %d trims, %d reads verified. Compared: %d copies of %d volumes, %d blocks.\n",
		r.Flushed, r.Ops, unknown, r.Fio.Writes, r.Fio.Trims, r.Fio.Verified, r.Compared.Copies, r.Compared.Volumes, r.Compared.Blocks)
	for _, f := range r.Fio.Refused {
		fmt.Fprintf(out, "note  fio, %s\n", f)
	}
	fmt.Fprintln(out)
	printChecks(out, r.Checks)
	if r.OK {
		fmt.Fprintln(out, "\nThe torture is passed: 0 acknowledged and flushed writes lost, 0 wrong reads, everything whole again.")
	}
	return nil
}
