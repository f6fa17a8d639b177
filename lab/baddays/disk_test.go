package baddays

import (
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/lab"
)

// TestBadDisks gives the host that runs a VM a disk that is slow, full, or
// fails in one way after the other. The guest goes on: there is another copy.
// Then the disk is well again. One that had failed to write comes back by itself.
// Then the host is restarted, and all is as it was.
func TestBadDisks(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	needs(t, "qemu-system-x86_64")
	needsFUSE(t)
	s := newLab(t, 3, lab.DefaultDiskSize)
	s.importProbe()
	w := s.startProbe("witness")
	w.goesOn()
	vm := s.running("witness", 0)
	s.inSync("witness")
	h := s.host(vm.Host)
	if err := lab.Stop(t.Context(), []lab.Host{h}); err != nil {
		t.Fatal(err)
	}
	disk := s.spoil(h.Disk())
	s.start(h.Rack)
	for _, part := range []struct {
		name  string
		fault fault
		fails bool // the disk must be reported
		anew  bool // and must be opened anew without a restart
	}{
		{"slow", slowDisk, false, false},
		{"its reads fail", readsFail, true, false},
		{"its writes fail", writesFail, true, true},
		{"its fdatasync fails", syncsFail, true, true},
		{"the file system below it is full", diskFull, false, false},
	} {
		ok := t.Run(part.name, func(t *testing.T) {
			s := s.as(t)
			w.s = s
			s.whole()
			s.inSync(w.vm)
			failed := disk.failed.Load()
			disk.does(part.fault)
			w.goesOn()
			if part.fault == readsFail { // what is in memory is not read
				disk.forget(s)
				w.reset()
			}
			if part.fault != slowDisk && disk.failed.Load() == failed {
				t.Error("nothing ever failed")
			}
			if part.fails {
				s.until("the disk to be reported", func() (bool, string) {
					out, _ := s.run(s.anyHost(), nil, "status")
					return strings.Contains(out, "disk") && (strings.Contains(out, "ERROR") || strings.Contains(out, "WARNING")), out
				})
			}
			out, _ := s.run(s.anyHost(), nil, "status")
			disk.does(healthy)
			if part.anew {
				s.until("the disk to come back", func() (bool, string) {
					out, _ := s.run(s.anyHost(), nil, "status")
					return strings.Contains(out, "could be opened anew and is in use"), out
				})
				s.inSync(w.vm)
				w.goesOn()
			}
			if err := s.l.Restart(t.Context(), program(t), []lab.Host{h}); err != nil {
				t.Fatal(err)
			}
			s.whole()
			w.goesOn()
			s.inSync(w.vm)
			s.oneMachine(1)
			w.reset()
			t.Logf("%d requests failed; status said:\n%s", disk.failed.Load()-failed, out)
		})
		w.s = s
		if !ok {
			t.Fatal("the lab is in no state to go on")
		}
	}
}
