package baddays

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/lab"
)

// TestClocksJump: while a guest writes, the calendar of the host that runs it jumps
// three years ahead, and that of another one back to 1970; and back again. Nothing
// moves, nobody loses a lease, certificates hold, a schedule is not run over and over,
// and who is wrong is named. Then the host of the future is lost like any other.
func TestClocksJump(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	atLength(t)
	needs(t, "qemu-system-x86_64", "unshare")
	clocks := newClocks(t)
	next := time.Now().AddDate(3, 0, 0)
	jumpy := clocks.jumpy(next, time.Date(1970, 2, 1, 0, 0, 0, 0, time.UTC))
	s := newLab(t, 3, lab.DefaultDiskSize)
	for _, rack := range []string{"a", "b", "c"} {
		s.comesBack(rack, jumpy)
		s.whole()
	}
	s.importProbe()
	w := s.startProbe("witness")
	w.goesOn()
	s.inSync("witness")
	vm := s.running("witness", 0)
	ahead := s.host(vm.Host)
	behind := s.host(s.other(vm.Rack) + "1")
	dir := filepath.Join(s.home(), "backups")
	s.done(ahead, nil, "backup", "schedule", "create", "often", "--volumes", "witness", "--on", ahead.Name, "--to", dir, "--every", "1h")
	backups := func() int {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	s.until("the first backup", func() (bool, string) { return backups() > 0, "there is none" })

	s.jump(clocks, ahead, clockBoot)
	s.jump(clocks, behind, clockMonotonic)
	s.believes(ahead.Name, next.Year())
	s.believes(behind.Name, 1970)
	first, second := min(ahead.Name, behind.Name), max(ahead.Name, behind.Name)
	s.wholeBut(first, second)
	w.goesOn()
	for _, h := range s.l.Hosts { // who calls now shows and sees certificates anew
		if out, code := command(t, nil, "--host", h.API(), "--credential", s.l.Credential(), "status"); code != 0 {
			t.Errorf("host %s: %s", h.Name, out)
		}
		s.done(h, nil, "volume", "create", "made-at-"+h.Name, "--size", "8MiB")
	}
	stays := func(when string) {
		t.Helper()
		now := s.running("witness", 0)
		if now.Assigned != vm.Assigned || now.Machine.PID != vm.Machine.PID {
			t.Errorf("%s the VM was moved or started anew: process %d of assignment %d, then %d of %d", when, vm.Machine.PID, vm.Assigned, now.Machine.PID, now.Assigned)
		}
	}
	stays("when clocks jumped")

	s.jump(clocks, ahead, clockReal)
	s.jump(clocks, behind, clockReal)
	s.whole()
	w.goesOn()
	stays("when clocks jumped back")
	if n := backups(); n > 2 {
		t.Errorf("a schedule of every hour has made %d backups", n)
	}

	s.jump(clocks, ahead, clockBoot)
	s.believes(ahead.Name, next.Year())
	acked := w.acknowledged()
	s.kill(ahead.Rack)
	w.verified(acked)
	if err := s.l.Start(t.Context(), jumpy, ahead.Rack); err != nil {
		t.Fatal(err)
	}
	s.whole()
	s.oneMachine(1)
}

// jumpy is a program whose hosts have three calendars: the right one, which they ask
// at first, and two others, which jump has them ask.
func (c clocks) jumpy(boot, monotonic time.Time) string {
	c.t.Helper()
	path := filepath.Join(c.dir, "jumpy")
	up := c.uptime()
	text := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = serve ] && exec unshare --time --boottime %d --monotonic %d %s \"$@\"\nexec %s \"$@\"\n",
		boot.Unix()-up, monotonic.Unix()-up, program(c.t), program(c.t))
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// jump has the running process of a host ask another clock from now on: one byte of
// its program is changed where it runs.
func (s *scene) jump(c clocks, h lab.Host, clock byte) {
	s.t.Helper()
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", s.servePID(h)), os.O_WRONLY, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{clock}, c.asks); err != nil {
		s.t.Fatal(err)
	}
}
