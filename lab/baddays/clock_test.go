package baddays

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/lab"
)

// TestWrongClocks lets hosts believe that it is 1970, or 2099: members that
// come back so, a whole site that does, and a host that joins. Who is a member
// is told by the records, and certificates hold at any time, etcd's included.
func TestWrongClocks(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	needs(t, "qemu-system-x86_64", "unshare")
	clocks := newClocks(t)
	s := newLab(t, 3, lab.DefaultDiskSize)
	s.importProbe()
	w := s.startProbe("witness")
	w.goesOn()
	s.inSync("witness")

	s.comesBack("b", clocks.at(1970))
	s.comesBack("c", clocks.at(2099))
	s.wholeBut("b1", "c1")
	s.believes("b1", 1970)
	s.believes("c1", 2099)
	w.goesOn()
	s.inSync("witness")

	// Everybody, by way of a power cut: nobody remembers a connection.
	if err := lab.Kill(s.l.Hosts); err != nil {
		t.Fatal(err)
	}
	acked := w.acknowledged()
	for _, c := range []struct {
		rack string
		year int
	}{{"c", 2099}, {"a", 1970}, {"b", 2099}} {
		if err := s.l.Start(t.Context(), clocks.at(c.year), c.rack); err != nil {
			t.Fatal(err)
		}
	}
	w.verified(acked)
	s.wholeBut("a1") // two of three live in 2099
	s.believes("a1", 1970)
	s.believes("b1", 2099)
	s.inSync("witness")

	// A host of another century joins: the one that certifies it lives in 1970.
	code := s.done(s.host("a1"), nil, "host", "code", "--rack", "n")
	n := s.strangerBy(1, clocks.at(2099))
	s.done(n, strings.NewReader(code), "host", "join", "-")
	s.until("the new host to be counted", func() (bool, string) {
		st, err := s.status()
		return err == nil && st.Counts.HostsAlive == 4, fmt.Sprint(st.Sentence, err)
	})
	s.believes("n1", 2099)
	w.goesOn()
}

// wholeBut waits until nothing is wrong but the clocks of some hosts, each of which
// says so.
func (s *scene) wholeBut(hosts ...string) {
	s.t.Helper()
	s.until("the cluster to be whole, but for clocks", func() (bool, string) {
		st, err := s.status()
		var off []string
		for _, c := range st.Conditions {
			switch name, isClock := strings.CutPrefix(c.ID, "clock-skew@"); {
			case isClock && strings.Contains(c.Text, " years "):
				off = append(off, name)
			case c.Severity != "info":
				return false, c.Text
			}
		}
		slices.Sort(off)
		return err == nil && slices.Equal(off, hosts) && st.Counts.HostsAlive == len(s.l.Hosts) && st.Counts.VMsOn == st.Counts.VMsRunning, fmt.Sprint(st.Sentence, off, err)
	})
}

// comesBack kills a rack and starts it by another program.
func (s *scene) comesBack(rack, program string) {
	s.t.Helper()
	s.kill(rack)
	if err := s.l.Start(s.t.Context(), program, rack); err != nil {
		s.t.Fatal(err)
	}
}

// believes checks that a host's clock says a year: otherwise nothing was
// tested.
func (s *scene) believes(host string, year int) {
	s.t.Helper()
	s.until(fmt.Sprintf("host %s to say that it is %d", host, year), func() (bool, string) {
		var hosts []v1.Host
		hosts, err := s.hosts()
		for _, h := range hosts {
			if h.Name == host && h.Wall != nil {
				return h.Wall.UTC().Year() == year, h.Wall.String()
			}
		}
		return false, fmt.Sprint(err)
	})
}

// clocks makes programs that are Holdfast but for the time.
type clocks struct {
	t       *testing.T
	dir     string
	program string // in which time.Now asks the clock that counts from boot
	asks    int64  // where a running program keeps the number of the clock that time.Now asks
}

// Clocks of Linux (linux/time.h) that time.Now may be had to ask.
const (
	clockReal, clockMonotonic, clockBoot = 0, 1, 7
)

// whichClock finds the number of the clock that time.Now asks, in a program's file
// and in its memory.
func whichClock(t *testing.T, b []byte) (at int, inMemory int64) {
	t.Helper()
	at, addr, code := textOf(t, b, "time.now")
	ask := []byte{0xbf, clockReal, 0, 0, 0} // MOVL $clock, DI
	if bytes.Count(code, ask) != 1 {
		t.Fatalf("time.Now of %s asks for the time in another way than this test knows: look at runtime/time_linux_amd64.s", runtime.Version())
	}
	i := bytes.Index(code, ask) + 1
	return at + i, int64(addr) + int64(i)
}

// newClocks copies the program and changes one instruction of time.Now: the
// number of the clock that it asks, from CLOCK_REALTIME to CLOCK_BOOTTIME,
// which a time namespace may set at will (time_namespaces(7)); the real one
// belongs to the whole machine. Nothing else differs.
func newClocks(t *testing.T) clocks {
	t.Helper()
	if os.Getuid() != 0 || runtime.GOARCH != "amd64" {
		t.Skip("not tested: a time namespace needs root, and the program is changed for amd64 only")
	}
	if out, err := exec.Command("unshare", "--time", "--boottime", "100", "true").CombinedOutput(); err != nil {
		t.Skipf("not tested: this kernel makes no time namespaces: %v %s", err, out)
	}
	b, err := os.ReadFile(program(t))
	if err != nil {
		t.Fatal(err)
	}
	at, asks := whichClock(t, b)
	b[at] = clockBoot
	c := clocks{t: t, dir: t.TempDir(), asks: asks}
	c.program = filepath.Join(c.dir, "holdfast")
	if err := os.WriteFile(c.program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return c
}

// textOf finds a function in a program.
func textOf(t *testing.T, b []byte, name string) (at int, addr uint64, code []byte) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	text := f.Section(".text")
	for _, sym := range symbols {
		if sym.Name == name && text != nil {
			at = int(sym.Value - text.Addr + text.Offset)
			return at, sym.Value, b[at : at+int(sym.Size)]
		}
	}
	t.Fatalf("the program has no function %s", name)
	return 0, 0, nil
}

// at returns a program whose hosts believe in a year. The host's own process
// is put into a time namespace; the keeper that stands for the computer is
// not, so that the lab finds it.
func (c clocks) at(year int) string {
	c.t.Helper()
	return c.by(time.Date(year, 2, 1, 0, 0, 0, 0, time.UTC), fmt.Sprint("in-", year))
}

// behind is one whose hosts' clocks are behind by so much.
func (c clocks) behind(by string) string {
	c.t.Helper()
	d, err := time.ParseDuration(by)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.by(time.Now().Add(-d), "behind-"+by)
}

// by is one whose hosts' clocks say now what time it is.
func (c clocks) by(now time.Time, name string) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	text := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = serve ] && exec unshare --time --boottime %d %s \"$@\"\nexec %s \"$@\"\n", now.Unix()-c.uptime(), c.program, program(c.t))
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// uptime is for how many seconds this computer has run.
func (c clocks) uptime() int64 {
	c.t.Helper()
	var up float64
	b, err := os.ReadFile("/proc/uptime")
	if err == nil {
		_, err = fmt.Sscan(string(b), &up)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return int64(up)
}
