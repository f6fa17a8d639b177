// Judges lets programs that others wrote judge the product: clients of NBD,
// verifiers, file systems and their checkers use replicated volumes of a real
// lab of three racks, whose racks are killed and started meanwhile, and whose
// disks are damaged. It prints one line for each judge. `make judges` runs it;
// docs/JUDGES.md says what each proves.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "judges:", err)
	}
	if !ok {
		os.Exit(1)
	}
}

// options are what the judges are run with.
type options struct {
	binary  string
	libnbd  string // the client on libnbd
	dir     string // of the lab and of scratch files
	quick   bool
	cycles  int // how often a rack is killed, per judge
	damages int // blocks that are damaged, in simulation
	seed    uint64
	keep    bool
	only    *regexp.Regexp
}

// result is what became of one judge.
type result struct {
	Judge   string  `json:"judge"`
	Verdict string  `json:"verdict"` // passed, failed or skipped
	Said    string  `json:"said"`
	Seconds float64 `json:"seconds"`
}

// run runs the judges; false if one failed or could not be run.
func run(ctx context.Context, args []string, out io.Writer) (bool, error) {
	var o options
	f := flag.NewFlagSet("judges", flag.ContinueOnError)
	f.StringVar(&o.binary, "binary", "bin/holdfast", "`path` of the program")
	f.StringVar(&o.libnbd, "libnbd", "bin/judge-libnbd", "`path` of the client on libnbd")
	f.StringVar(&o.dir, "dir", "", "empty `directory` for the lab, on a short path (default: a temporary one)")
	f.BoolVar(&o.quick, "quick", false, "less of everything, in about two minutes")
	f.IntVar(&o.cycles, "cycles", 0, "how often a rack is killed, per judge (default 100, quick 3)")
	f.IntVar(&o.damages, "damages", 10000, "how many blocks are damaged in simulation")
	f.Uint64Var(&o.seed, "seed", 1, "of everything that is random")
	f.BoolVar(&o.keep, "keep", false, "leave the lab and the files if a judge failed")
	only := f.String("run", "", "only judges whose name matches this `regexp`")
	format := f.String("o", "text", "`format`: text or json")
	summary := f.String("summary", "", "also write the results to this `file`, as JSON")
	if err := f.Parse(args); err != nil {
		return false, nil // it has been said
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return false, err
	}
	if *format != "text" && *format != "json" {
		return false, fmt.Errorf("-o %q: give text or json", *format)
	}
	if o.cycles == 0 {
		if o.cycles = 100; o.quick {
			o.cycles = 3
		}
	}
	tell := func(result) {}
	if *format == "text" {
		tell = func(r result) { fmt.Fprintln(out, r.line()) }
	}
	begin := time.Now()
	results, err := judgeAll(ctx, o, tell)
	if err != nil {
		return false, err
	}
	if err := keepSummary(results, *format, *summary, out); err != nil {
		return false, err
	}
	n := map[string]int{}
	for _, r := range results {
		n[r.Verdict]++
	}
	if *format == "text" {
		fmt.Fprintf(out, "after %.0f s:\n%d passed, %d failed, %d skipped\n", time.Since(begin).Seconds(), n[passed], n[failed], n[skipped])
	}
	return n[failed] == 0 && len(results) > 0, nil
}

func keepSummary(results []result, format, file string, out io.Writer) error {
	b, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	if format == "json" {
		fmt.Fprintf(out, "%s\n", b)
	}
	if file == "" {
		return nil
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// line is a result for people; what follows a failure's first line is indented.
func (r result) line() string {
	said := strings.ReplaceAll(strings.TrimSpace(r.Said), "\n", "\n        ")
	return fmt.Sprintf("%-8s %-22s %6.1f s  %s", r.Verdict, r.Judge, r.Seconds, said)
}
