package baddays

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/lab"
)

// TestAnOlderEtcdIsPutBack: somebody restores the control plane's directories from
// yesterday under all hosts, while a guest writes. In between its volume was opened
// anew. No host believes the old records: they hold, and say what to do. After it the
// guest has all that it had flushed, and no epoch is used a second time.
func TestAnOlderEtcdIsPutBack(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	atLength(t)
	needs(t, "qemu-system-x86_64")
	s := newLab(t, 3, lab.DefaultDiskSize)
	s.importProbe()
	w := s.startProbe("witness")
	w.goesOn()
	s.inSync("witness")

	copyDir := func(to, from string) {
		t.Helper()
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	now, old := func(h lab.Host) string { return filepath.Join(h.Data(), "etcd") }, func(h lab.Host) string { return filepath.Join(h.Dir, "etcd.old") }
	allStop := func() {
		t.Helper()
		if err := lab.Stop(t.Context(), s.l.Hosts); err != nil {
			t.Fatal(err)
		}
	}
	allStart := func() {
		t.Helper()
		if err := s.l.StartHosts(t.Context(), program(t), s.l.Hosts); err != nil {
			t.Fatal(err)
		}
	}
	allStop()
	for _, h := range s.l.Hosts {
		copyDir(old(h), now(h))
	}
	allStart()
	s.whole()

	vm := s.running("witness", 0)
	acked := w.acknowledged()
	s.kill(vm.Rack)
	w.verified(acked)
	s.start(vm.Rack)
	s.whole()
	later := s.inSync("witness")
	s.done(s.anyHost(), nil, "volume", "create", "later", "--size", "8MiB", "--copies", "3")
	s.inSync("later")
	kept := func(h lab.Host) int { return max(revision(t, h.Data()+"/kept/0"), revision(t, h.Data()+"/kept/1")) }
	before := map[string]int{}
	for _, h := range s.l.Hosts {
		before[h.Name] = kept(h)
	}
	s.done(s.anyHost(), nil, "volume", "create", "latest", "--size", "8MiB")
	for _, h := range s.l.Hosts { // what is kept after this knows of the volume before
		s.until("host "+h.Name+" to keep what was made", func() (bool, string) { return kept(h) > before[h.Name], fmt.Sprint(before) })
	}
	w.goesOn()

	allStop() // machines go on, and their guest with what it has to write
	for _, h := range s.l.Hosts {
		copyDir(now(h), old(h))
	}
	acked = w.acknowledged()
	allStart()
	best, revision := lab.Host{}, int64(0)
	for _, h := range s.l.Hosts {
		s.until("host "+h.Name+" to hold, and to say what to do", func() (bool, string) {
			out, code := s.run(h, nil, "status")
			return code == 0 && strings.Contains(out, "cluster recover"), out
		})
		if out, code := s.run(h, nil, "volume", "create", "never", "--size", "8MiB"); code == 0 {
			t.Errorf("host %s changes something by old records: %s", h.Name, out)
		}
		var p v1.Recovery
		s.until("a plan of host "+h.Name, func() (bool, string) {
			out, code := s.run(h, nil, "cluster", "recover", "--plan", "-o", "json")
			return code == 0 && json.Unmarshal([]byte(out), &p) == nil, out
		})
		if p.Revision > revision {
			best, revision = h, p.Revision
		}
	}
	s.done(best, nil, "cluster", "recover", "--yes")
	w.verified(acked)
	s.whole()
	if v := s.inSync("witness"); v.Epoch <= later.Epoch {
		t.Errorf("its epoch was %d before the old records came back, and is %d", later.Epoch, v.Epoch)
	}
	if v, err := s.volume("later"); err != nil || v.Epoch <= later.Epoch {
		t.Errorf("what was made since: %+v, %v", v, err)
	}
	s.oneMachine(1)
	t.Logf("flushed before: %d; epoch %d before, %d after", acked, later.Epoch, s.inSync("witness").Epoch)
}
