package baddays

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/kv/etcdtest"
	"github.com/holdfast-cloud/holdfast/lab"
)

// TestTheControlPlaneMovesUnderAGuest: hosts learn of somebody else's etcd one after
// another and the control plane moves into it, while a guest writes on: the same
// machine, from before to after. Then a rack is lost over the new one.
func TestTheControlPlaneMovesUnderAGuest(t *testing.T) {
	t.Parallel() // labs live side by side, and mostly wait
	atLength(t)
	needs(t, "qemu-system-x86_64")
	e := etcdtest.StartOf(t, 3, 0)
	s := newLab(t, 3, lab.DefaultDiskSize)
	s.importProbe()
	w := s.startProbe("witness")
	w.goesOn()
	s.inSync("witness")
	for _, h := range s.l.Hosts {
		f, err := os.OpenFile(h.Config(), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(f, "kv: {endpoints: ['%s'], ca: '%s', cert: '%s', key: '%s', prefix: 'lab/'}\n", strings.Join(e.URLs, "', '"), e.CA, e.Cert, e.Key)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.l.Restart(t.Context(), program(t), []lab.Host{h}); err != nil {
			t.Fatal(err)
		}
		s.whole()
	}
	w.goesOn()
	before := s.running("witness", 0)
	h := s.host(s.other(before.Rack) + "1")
	s.done(h, nil, "cluster", "move-kv", "--plan")
	s.done(h, nil, "cluster", "move-kv", "--yes")
	w.goesOn()
	s.whole()
	st, err := s.status()
	if err != nil || !st.Cluster.External || st.Cluster.Voters != 0 {
		t.Errorf("%+v, %v", st.Cluster, err)
	}
	after := s.running("witness", 0)
	if after.Assigned != before.Assigned || after.Machine.PID != before.Machine.PID {
		t.Errorf("the VM was moved or started anew: process %d of assignment %d, then %d of %d", before.Machine.PID, before.Assigned, after.Machine.PID, after.Assigned)
	}
	s.inSync("witness")

	acked := w.acknowledged()
	s.kill(after.Rack)
	w.verified(acked)
	s.start(after.Rack)
	s.whole()
	s.oneMachine(1)
}
