package baddays

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/lab"
)

// TestForcedOpen: of two copies one was left behind, the guest wrote on, and the
// rack of the other burns. The way out is named, told and taken; and when the
// burnt rack comes back after all, nothing that was flushed there is thrown away.
func TestForcedOpen(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	needs(t, "qemu-system-x86_64")
	s := newLab(t, 3, lab.DefaultDiskSize)
	s.importProbe()
	w := s.startProbe("witness")
	w.goesOn()
	stale, ahead := s.leaveBehind(w)
	acked, starts := w.acknowledged(), w.started()
	s.start(stale)
	h := s.host(s.other(stale, ahead) + "1")

	const way = "'holdfast volume force-open witness --plan'"
	s.until("status to name the way", func() (bool, string) {
		out, _ := s.run(h, nil, "status")
		return strings.Contains(out, "VM witness does not run") && strings.Contains(out, way), out
	})
	s.told(h, 0, "MAY BE MISSING", "volume", "force-open", "witness", "--plan")
	s.told(h, 4, "may come back", "volume", "force-open", "witness", "--confirm", "witness")
	s.told(h, 0, "is opened from the copy on host "+stale+"1", "volume", "force-open", "witness", "--lost", "--confirm", "witness")

	// The VM runs, with what the stale copy has.
	var found uint32
	s.until("the guest to boot from the stale copy", func() (bool, string) {
		last, _, bad := w.look()
		if len(bad) > 0 {
			t.Fatal(bad[0])
		}
		if w.started() == starts || last.verified == nil {
			return false, "it has not booted"
		}
		found = last.verified.Counter
		return true, ""
	})
	if found >= acked {
		t.Fatalf("the guest found block %d, and %d was the last that it had flushed: the copy was not stale, and nothing was tested", found, acked)
	}
	s.told(h, 0, "was forced open from a stale copy", "status")

	// The rack was only away.
	s.start(ahead)
	var forced v1.Volume
	s.until("the lost copy to be set aside", func() (bool, string) {
		v, err := s.volume("witness")
		forced = v
		return err == nil && v.Forced != nil && len(v.Forced.Copies) == 1 && v.Forced.Copies[0].Volume != "", fmt.Sprintf("%+v %v", v.Forced, err)
	})
	c := forced.Forced.Copies[0]
	if c.Blocks == 0 || len(c.Extents) == 0 || forced.Forced.Snapshot == "" {
		t.Errorf("what came back is told as %+v, and what was opened was kept as %q", c, forced.Forced.Snapshot)
	}
	file := filepath.Join(t.TempDir(), "lost.raw")
	if out, code := s.run(h, nil, "volume", "export", c.Volume, file); code != 0 {
		t.Errorf("exit status %d: %s", code, out)
	}
	if st, err := os.Stat(file); err != nil || st.Size() != probeSize {
		t.Errorf("%v %v", st, err)
	}
	s.bootsWith(c.Volume, acked)
	w.goesOn()
	s.inSync("witness")
	s.told(h, 0, "", "volume", "force-open", "witness", "--acknowledge")
	s.whole()
}

// leaveBehind has one copy of the witness's disk miss what the guest goes on to
// flush, and then kills the rack of the other.
func (s *scene) leaveBehind(w *witness) (stale, ahead string) {
	s.t.Helper()
	v := s.inSync(w.vm)
	vm := s.running(w.vm, 0)
	for _, r := range v.Replicas {
		if r.Host != vm.Host {
			stale = r.Rack
		}
	}
	s.kill(stale)
	s.until("the silent copy to be ejected", func() (bool, string) {
		v, err := s.volume(w.vm)
		for _, r := range v.Replicas {
			if r.Rack == stale && r.InSync {
				return false, "it is in sync"
			}
		}
		return err == nil, fmt.Sprint(err)
	})
	w.goesOn()
	s.kill(vm.Rack)
	return stale, vm.Rack
}

// told runs a command on a host and looks for a part of what it prints.
func (s *scene) told(h lab.Host, code int, want string, args ...string) {
	s.t.Helper()
	if out, got := s.run(h, nil, args...); got != code || !strings.Contains(out, want) {
		s.t.Fatalf("%v: exit status %d, want %d and %q:\n%s", args, got, code, want, out)
	}
}

// started is how often the guest has been seen to boot.
func (w *witness) started() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.starts
}

// bootsWith has a VM boot a disk, whose guest verifies it: it must hold everything
// up to a block.
func (s *scene) bootsWith(volume string, acked uint32) {
	s.t.Helper()
	if _, err := ask(s, func(ctx context.Context, c *client.Client) (v1.VM, error) {
		return c.CreateVM(ctx, v1.VMSpec{Name: "salvage", Volume: volume, MemoryMiB: 32})
	}); err != nil {
		s.t.Fatal(err)
	}
	s.running("salvage", 0)
	w := &witness{s: s, vm: "salvage"}
	w.follow()
	w.verified(acked)
	s.t.Logf("volume %s holds everything that was flushed, up to block %d", volume, acked)
}
