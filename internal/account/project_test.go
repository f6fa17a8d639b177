package account

import (
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

func yes(string) bool { return true }

func TestTwoHostsAdmitNoMoreThanTheQuota(t *testing.T) {
	sc := founded(t)
	sc.do(0, func(s *Store) { sc.ok(s.SetProject("red", Share{VMs: 5, CPUs: 100}, true)) })
	let, refused := 0, 0
	for i := range 12 {
		host := i % 2
		sc.clk[host].Go(func() {
			switch _, err := sc.s[host].Reserve("red", Share{VMs: 1, CPUs: 2}, yes); {
			case err == nil:
				let++
			case holdfast.IsKind(err, holdfast.NoSpace):
				refused++
			case !holdfast.IsKind(err, holdfast.Conflict):
				t.Error(err)
			}
		})
	}
	sc.pass(time.Minute)
	if let > 5 || refused == 0 {
		t.Fatalf("%d were let in, %d refused", let, refused)
	}
	sc.do(1, func(s *Store) {
		if u := s.Used("red"); u.VMs != int64(let) || u.CPUs != 2*int64(let) {
			t.Errorf("%+v", u)
		}
	})
	sc.pass(heldFor + time.Minute) // none was used
	sc.do(0, func(s *Store) {
		if u := s.Used("red"); u != (Share{}) {
			t.Errorf("%+v", u)
		}
	})
}

func TestWhatIsGoneIsForgotten(t *testing.T) {
	sc := founded(t)
	sc.do(0, func(s *Store) {
		sc.ok(s.SetProject("red", Share{VMs: 1}, true))
		held, err := s.Reserve("red", Share{VMs: 1}, yes)
		sc.ok(err)
		sc.ok(s.Keep(held, "vm-a"))
		if s.Owner("vm-a") != "red" || s.Owner("vm-b") != DefaultProject {
			t.Error("who owns what")
		}
		gone := func(id string) bool { return id != "vm-a" }
		_, err = s.Reserve("red", Share{VMs: 1}, gone)
		sc.kind(err, holdfast.NoSpace) // it may be too new to be seen
		sc.kind(s.DeleteProject("red", yes), holdfast.Conflict)
	})
	sc.pass(pruneAfter + time.Minute)
	sc.do(0, func(s *Store) {
		held, err := s.Reserve("red", Share{VMs: 1}, func(id string) bool { return id != "vm-a" })
		sc.ok(err)
		sc.ok(s.Release(held))
		sc.ok(s.DeleteProject("red", yes))
		sc.kind(s.AddUser("tom", TenantAdmin, "red", ""), holdfast.NotFound)
		_, err = s.Reserve("red", Share{}, yes)
		sc.kind(err, holdfast.NotFound)
	})
}
