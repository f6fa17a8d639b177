// Command bench measures Holdfast's volumes beside nbdkit and qemu-nbd, all
// through fio's nbd engine over unix sockets on this computer, beside the raw
// disk past the page cache, and a volume at its own interface. The candidates
// take turns in every cell, several times, and the medians and their ratios are
// printed as a table and, with -json, as JSON. See docs/BENCHMARKS.md.
//
//	go run ./bench -one SOCKET [-two SOCKET] ...
//
// SOCKET is the path that a host publishes for a volume of one copy, of two
// copies. -memory adds the NBD server over a volume in memory and nbdkit's
// memory plugin: what the protocol costs without a store.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

type settings struct {
	One                    string  `json:"-"` // socket of the volume with one copy
	Two                    string  `json:"-"` // of the one with two
	OneClients, TwoClients string  `json:"-"` // sockets of eight volumes each, separated by colons
	Always                 string  `json:"-"` // of one with two copies, every write of which is durable
	Sealed                 string  `json:"-"` // of one with one copy, compressed and encrypted
	Memory                 bool    `json:"memory"`
	Only                   string  `json:"only,omitempty"` // cells whose name contains this
	Dir                    string  `json:"dir"`
	Size                   int64   `json:"bytes"`   // range that is used
	Runs                   int     `json:"runs"`    // turns of each candidate
	Seconds                float64 `json:"seconds"` // length of a turn
}

func main() {
	var s settings
	flag.StringVar(&s.One, "one", "", "`socket` of a volume with one copy; its content is overwritten")
	flag.StringVar(&s.Two, "two", "", "`socket` of a volume with two copies; its content is overwritten")
	flag.StringVar(&s.Always, "always", "", "`socket` of a volume with two copies and durability always")
	flag.StringVar(&s.Sealed, "sealed", "", "`socket` of a volume with one copy, compressed and encrypted")
	flag.StringVar(&s.OneClients, "one-clients", "", "`sockets` of eight volumes with one copy, of 64 MiB or more, separated by colons")
	flag.StringVar(&s.TwoClients, "two-clients", "", "`sockets` of eight with two copies")
	flag.StringVar(&s.Only, "only", "", "measure only the cells whose name contains this `text`")
	flag.BoolVar(&s.Memory, "memory", false, "also measure volumes in memory")
	flag.StringVar(&s.Dir, "dir", ".cache/bench", "`directory` for the files of nbdkit and qemu-nbd; use the disk that Holdfast uses")
	flag.Int64Var(&s.Size, "size", 512<<20, "`bytes` that are read and written; the volumes must be as large")
	flag.IntVar(&s.Runs, "runs", 3, "`turns` of each candidate and workload")
	flag.Float64Var(&s.Seconds, "seconds", 3, "`length` of a turn")
	asJSON := flag.String("json", "", "also write the results to this `file`")
	serve := flag.String("serve-memory", "", "do nothing but serve a volume in memory from this `directory`")
	profile := flag.String("profile", "", "with -serve-memory: write a CPU profile to this `file`")
	flag.Parse()
	var err error
	switch {
	case flag.NArg() > 0:
		err = fmt.Errorf("unknown argument %q; see bench -h", flag.Arg(0))
	case *serve != "":
		err = serveMemory(*serve, s.Size, *profile)
	default:
		err = run(s, *asJSON)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(s settings, asJSON string) error {
	if err := s.check(); err != nil {
		return err
	}
	if err := needTools(); err != nil {
		return err
	}
	rep, err := measure(s)
	if err != nil {
		return err
	}
	rep.print(os.Stdout)
	if asJSON != "" {
		return rep.save(asJSON)
	}
	return nil
}

func (s settings) check() error {
	switch {
	case s.Runs < 1 || s.Runs > 100:
		return fmt.Errorf("-runs %d: use 1 to 100", s.Runs)
	case !(s.Seconds >= 0.1 && s.Seconds <= 600):
		return fmt.Errorf("-seconds %v: use 0.1 to 600", s.Seconds)
	case s.Size < 1<<20 || s.Size%4096 != 0:
		return fmt.Errorf("-size %d: use a multiple of 4096 of at least 1 MiB", s.Size)
	}
	return nil
}

// needTools says what to install.
func needTools() error {
	for tool, pkg := range map[string]string{"fio": "fio", "nbdkit": "nbdkit", "qemu-nbd": "qemu-utils"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is not installed (Debian, Ubuntu: apt install %s)", tool, pkg)
		}
	}
	out, err := exec.Command("fio", "--enghelp").Output()
	if err != nil || !strings.Contains(string(out), "nbd") {
		return fmt.Errorf("this fio has no nbd engine; Debian's and Ubuntu's packages have one")
	}
	return nil
}

// measure runs every workload on every candidate in turns.
func measure(s settings) (*report, error) {
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, err
	}
	files, err := os.MkdirTemp(s.Dir, "files")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(files)
	sockets, err := os.MkdirTemp("", "bench") // paths of sockets must be short
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(sockets)
	if err := checkVolumes(s); err != nil {
		return nil, err
	}
	cs, err := candidates(s, sockets, files)
	defer func() {
		for _, c := range cs {
			c.stop()
		}
	}()
	if err != nil {
		return nil, err
	}
	for _, c := range cs {
		if err := c.prepare(s.Size); err != nil {
			return nil, err
		}
	}
	rep := &report{Settings: s, Started: time.Now().UTC()}
	for _, w := range cells {
		if strings.Contains(w.name, s.Only) {
			if err := rep.measure(w, cs, s); err != nil {
				return nil, err
			}
		}
	}
	return rep, nil
}

// measure lets the candidates of one cell take turns.
func (r *report) measure(w cell, all []*candidate, s settings) error {
	var cs []*candidate
	for _, c := range all {
		if c.can(w) {
			cs = append(cs, c)
		}
	}
	rows := make([]result, len(cs))
	for turn := range s.Runs {
		for i := range cs {
			at := (i + turn) % len(cs) // no one always follows the same
			ops, err := cs[at].run(w, s)
			if err != nil {
				return err
			}
			rows[at].Runs = append(rows[at].Runs, ops)
			fmt.Fprintf(os.Stderr, "%-22s %-30s %9.0f /s\n", w.name, cs[at].name, ops)
		}
	}
	r.add(w, cs, rows)
	return nil
}

// checkVolumes sees that every volume answers and is large enough.
func checkVolumes(s settings) error {
	for _, socket := range []string{s.One, s.Two, s.Always, s.Sealed} {
		if socket != "" {
			if err := check(socket, s.Size); err != nil {
				return err
			}
		}
	}
	for _, list := range []string{s.OneClients, s.TwoClients} {
		for _, socket := range filepath.SplitList(list) {
			if err := check(socket, clientBytes); err != nil {
				return err
			}
		}
	}
	return nil
}
