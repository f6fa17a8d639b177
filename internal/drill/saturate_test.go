package drill

import (
	"bytes"
	"strings"
	"testing"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

func TestWhatWasMovedIsNoticed(t *testing.T) {
	vm := func(id, host string, assigned int64, pid int) v1.VM {
		return v1.VM{ID: id, Name: id, Host: host, Assigned: assigned, Machine: &v1.Machine{PID: pid}}
	}
	before := []v1.VM{vm("stays", "a1", 1, 10), vm("goes", "a1", 1, 11), vm("dies", "b1", 1, 12), vm("vanishes", "b1", 1, 13)}
	after := []v1.VM{vm("stays", "a1", 1, 10), vm("goes", "b1", 2, 20), vm("dies", "b1", 1, 22), vm("new", "b1", 1, 23)}
	got := strings.Join(moved(before, after), "; ")
	if want := "goes from a1 to b1; dies was started anew; vanishes is gone"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestSaturationIsOnlyPassedUnderLoad(t *testing.T) {
	good := Saturation{Seconds: 60, Spinners: 2, Busy: 0.99, Flushed: 10, Looks: 60}
	good.judge(nil)
	if !good.OK {
		t.Errorf("%+v", good.Checks)
	}
	for name, spoil := range map[string]func(*Saturation){
		"idle cores":     func(s *Saturation) { s.Busy = 0.5 },
		"an incident":    func(s *Saturation) { s.Incidents = []string{"host a1"} },
		"a moved VM":     func(s *Saturation) { s.Moved = []string{"x"} },
		"a silent guest": func(s *Saturation) { s.Flushed = 0 },
	} {
		s := good
		spoil(&s)
		if s.judge(nil); s.OK {
			t.Errorf("%s: passed", name)
		}
	}
	var b bytes.Buffer
	if err := good.print(&b); err != nil || !strings.HasPrefix(b.String(), "2 guests kept 99 % of all cores busy for 1.0 minutes.") {
		t.Errorf("%q, %v", b.String(), err)
	}
}

func TestTheBusyGuestIsABootSector(t *testing.T) {
	b := spinSector()
	if len(b) != spinSize || b[0] != 0xeb || b[1] != 0xfe || b[510] != 0x55 || b[511] != 0xaa {
		t.Error("no firmware would start it")
	}
}

func TestTheComputersTimeGoesOn(t *testing.T) {
	busy, total := cpuTime()
	if busy <= 0 || total < busy {
		t.Errorf("%v of %v", busy, total)
	}
}
