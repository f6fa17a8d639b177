package sim

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast"
)

// proofParts are the parts of docs/PROOF.md that nobody types, by their names.
func proofParts(dir string) (map[string]string, error) {
	e, err := gatherEvidence(dir)
	if err != nil {
		return nil, err
	}
	return map[string]string{"schedules": e.schedules(), "campaigns": e.list(), "kinds": e.kinds(), "bugs": e.planted(), "visits": e.visits(), "processes": e.processes()}, nil
}

// schedules is what the simulated clusters stood.
func (e *evidence) schedules() string {
	protocol, of := e.latest()
	if protocol == "" {
		return "No campaign has been played with a known protocol.\n"
	}
	now, all := total(of), total(e.campaigns)
	var t strings.Builder
	fmt.Fprintf(&t, "| | protocol %s, from version %s on | all campaigns |\n|---|---|---|\n", protocol, of[0].Version)
	row := func(what string, a, b float64, digits int) {
		fmt.Fprintf(&t, "| %s | %s | %s |\n", what, grouped(a, digits), grouped(b, digits))
	}
	row("fault schedules (seeds)", float64(now.Seeds), float64(all.Seeds), 0)
	row("of them broke a promise", float64(now.broken()), float64(all.broken()), 0)
	row("of them passed when a check that was wrong had been mended", float64(len(now.Failed)-now.broken()), float64(len(all.Failed)-all.broken()), 0)
	row("hours of clusters' time", now.Simulated, all.Simulated, 1)
	row("hours by the clock", now.Hours, all.Hours, 1)
	row("operations of clients", float64(now.Operations), float64(all.Operations), 0)
	row("a simulated second", rate(now.Operations, now.Busy), rate(all.Operations, all.Busy), 0)
	row("faults", float64(now.Faults), float64(all.Faults), 0)
	row("a simulated second", rate(now.Faults, now.Busy), rate(all.Faults, all.Busy), 2)
	row("take-overs", float64(now.TakeOvers), float64(all.TakeOvers), 0)
	row("crash recoveries of disks", float64(now.Recoveries), float64(all.Recoveries), 0)
	row("partitions", float64(now.Partitions), float64(all.Partitions), 0)
	row("losses of all memory", float64(now.CacheLosses), float64(all.CacheLosses), 0)
	row("reads by others than the client", float64(now.Reads), float64(all.Reads), 0)
	row("reads judged by Porcupine too", float64(now.Judged), float64(all.Judged), 0)
	return t.String()
}

func rate(n int, hours float64) float64 { return float64(n) / max(hours*3600, 1) }

// grouped writes a number with commas between its thousands.
func grouped(x float64, digits int) string {
	s := strconv.FormatFloat(x, 'f', digits, 64)
	whole, rest, _ := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if rest != "" {
		whole += "." + rest
	}
	return whole
}

// list is one row for every campaign.
func (e *evidence) list() string {
	var t strings.Builder
	t.WriteString("| seeds | version | protocol | begun | hours | broke a promise |\n|---|---|---|---|---|---|\n")
	for i := range e.campaigns {
		s := &e.campaigns[i]
		failed := "none"
		if len(s.Failed) > 0 {
			failed = ""
			for k, f := range s.Failed {
				if k > 0 {
					failed += "; "
				}
				failed += fmt.Sprintf("%d: %s", f.Seed, strings.ReplaceAll(f.Why, "|", "/"))
				if f.Again != "" {
					failed += " (the check was wrong; it passes in " + f.Again + ")"
				}
			}
		}
		protocol := s.Protocol
		if protocol == "" {
			protocol = "not known"
		}
		fmt.Fprintf(&t, "| %d to %d | %s | %s | %s | %.2f | %s |\n", s.First, s.First+s.Seeds-1, s.Version, protocol, s.Begun, s.Hours, failed)
	}
	return t.String()
}

// kinds are the faults by what they were.
func (e *evidence) kinds() string {
	_, of := e.latest()
	c := total(of)
	names := slices.Sorted(maps.Keys(c.Kinds))
	sort.SliceStable(names, func(i, j int) bool { return c.Kinds[names[i]] > c.Kinds[names[j]] })
	var t strings.Builder
	for i, name := range names {
		if i > 0 {
			t.WriteString(" · ")
		}
		fmt.Fprintf(&t, "%s %s", name, grouped(float64(c.Kinds[name]), 0))
	}
	if len(names) == 0 {
		t.WriteString("They were not counted by kinds yet.")
	}
	return t.String() + "\n"
}

// planted says which planted bugs were found.
func (e *evidence) planted() string {
	var took []int
	var missed []string
	judged, looked := 0, 0
	for i := range e.bugs {
		b := &e.bugs[i]
		if b.Seed != 0 || b.Tried > 0 {
			looked++
		}
		switch {
		case b.Seed != 0:
			took = append(took, int(b.Seed))
			if b.Judge {
				judged++
			}
		case b.Tried > 0:
			missed = append(missed, fmt.Sprintf("%s (%d seeds)", strings.ReplaceAll(b.Bug, "-", " "), b.Tried))
		default:
			missed = append(missed, strings.ReplaceAll(b.Bug, "-", " ")+" (not looked for yet)")
		}
	}
	if len(took) == 0 {
		return "None was looked for yet.\n"
	}
	slices.Sort(took)
	s := fmt.Sprintf("%d bugs are planted. %d of the %d that were looked for were found, half of them within %d seeds, the last within %d; in the seeds that found %d of them Porcupine saw it too.",
		len(e.bugs), len(took), looked, took[(len(took)-1)/2], took[len(took)-1], judged)
	if len(missed) > 0 {
		s += " Not found: " + strings.Join(missed, ", ") + "."
	}
	return s + "\n"
}

// visits says how much of the protocol's machines was visited.
func (e *evidence) visits() string {
	_, of := e.latest()
	c := total(of)
	if len(c.Visits) == 0 {
		return "They were not counted yet.\n"
	}
	aimed := make(map[string][]string) // at pairs, by names of runs
	for _, d := range e.directed {
		for _, p := range d.Reaches {
			aimed[p] = append(aimed[p], d.Name)
		}
	}
	var t, reached, left, never strings.Builder
	t.WriteString("| machine | pairs | impossible | visited by the campaign | rarest | by directed runs alone |\n|---|---|---|---|---|---|\n")
	for _, x := range newVisited().all() {
		m := &x.Machine
		can, seen, alone, rarest, least := 0, 0, 0, "", uint64(0)
		for i := range m.Pairs {
			p, name := &m.Pairs[i], visitName(m, i)
			n := c.Visits[name]
			switch {
			case p.Never != "":
				fmt.Fprintf(&never, "- %s: %s\n", name, p.Never)
				continue
			case n == 0 && len(aimed[name]) > 0:
				alone++
				fmt.Fprintf(&reached, "- %s: %s\n", name, strings.Join(aimed[name], "; "))
			case n == 0:
				fmt.Fprintf(&left, "- %s\n", name)
			default:
				if seen++; rarest == "" || n < least {
					rarest, least = p.String(), n
				}
			}
			can++
		}
		fmt.Fprintf(&t, "| %s | %d | %d | %d of %d | %s (%s times) | %d |\n", m.Name, len(m.Pairs), len(m.Pairs)-can, seen, can, rarest, grouped(float64(least), 0), alone)
	}
	if reached.Len() > 0 {
		t.WriteString("\nVisited by directed runs alone, which every test run plays (`go test ./internal/sim -run TestDirected`):\n\n" + reached.String())
	}
	if left.Len() > 0 {
		t.WriteString("\nNot visited:\n\n" + left.String())
	}
	if never.Len() > 0 {
		t.WriteString("\nImpossible, and a seed that visits one fails:\n\n" + never.String())
	}
	return t.String()
}

// processes is a row for everything that was done to real processes and disks.
func (e *evidence) processes() string {
	if len(e.others) == 0 {
		return "None was kept yet.\n"
	}
	var t strings.Builder
	t.WriteString("| what | version | begun | figures |\n|---|---|---|---|\n")
	for _, x := range e.others {
		var figures []string
		for _, name := range slices.Sorted(maps.Keys(x)) {
			if name == "what" || name == "version" || name == "commit" || name == "begun" {
				continue
			}
			switch v := x[name].(type) {
			case float64:
				digits := 0
				if v != float64(int64(v)) {
					digits = 2
				}
				figures = append(figures, strings.ReplaceAll(name, "_", " ")+" "+grouped(v, digits))
			case bool:
				figures = append(figures, fmt.Sprintf("%s %v", strings.ReplaceAll(name, "_", " "), v))
			}
		}
		text := func(name string) string { s, _ := x[name].(string); return strings.ReplaceAll(s, "|", "/") }
		version := text("version")
		if version == "" {
			version = text("commit")
		}
		fmt.Fprintf(&t, "| %s | %s | %s | %s |\n", text("what"), version, text("begun"), strings.Join(figures, " · "))
	}
	return t.String()
}

// WriteProof writes those parts of a page that are made from a directory of
// campaigns.
func WriteProof(page, dir string) error {
	parts, err := proofParts(dir)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(page)
	if err != nil {
		return holdfast.Errorf(holdfast.NotFound, "the page of the proof: %w", err)
	}
	text := string(b)
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if text, err = Replace(text, name, parts[name]); err != nil {
			return fmt.Errorf("%s: %w", page, err)
		}
	}
	if text == string(b) {
		return nil
	}
	if err := os.WriteFile(page, []byte(text), 0o666); err != nil {
		return holdfast.Errorf(holdfast.IO, "the page of the proof: %w", err)
	}
	return nil
}

// proofCommand is `holdfast sim proof`.
func proofCommand() *cobra.Command {
	var dir, page, sources string
	c := &cobra.Command{
		Use:   "proof",
		Short: "Write the figures of docs/PROOF.md from what campaigns have left behind",
		Long: `Write the parts of docs/PROOF.md that nobody types: what campaigns of the
simulator stood, which planted bugs they found, which states and events of the
protocol met, and what was done to real processes. All of it is made of the
files in docs/campaigns; a test compares.

It also says how many of the seeds were played with the protocol as it is in the
sources here: only they count as evidence for it.`,
		Example: `  holdfast sim proof`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := WriteProof(page, dir); err != nil {
				return err
			}
			e, err := gatherEvidence(dir)
			if err != nil {
				return err
			}
			now, err := HashSources(os.DirFS(sources), ProtocolPackages())
			if err != nil {
				return err
			}
			var of []Summary
			for _, s := range e.campaigns {
				if s.Protocol == now {
					of = append(of, s)
				}
			}
			sum := total(of)
			fmt.Fprintf(cmd.OutOrStdout(), "the sources here have protocol %s, which was played for: %s\n%s", now, &sum, e.planted())
			return nil
		},
	}
	c.Flags().StringVar(&dir, "summaries", "docs/campaigns", "`directory` of the summaries")
	c.Flags().StringVar(&page, "page", "docs/PROOF.md", "the `file` to write")
	c.Flags().StringVar(&sources, "sources", ".", "root of the sources")
	return c
}
