package baddays

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/config"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcdtest"
	"github.com/holdfast-cloud/holdfast/lab"
)

// TestTheControlPlaneIsSomebodyElsesEtcd: a rack is lost over it like over one's
// own; the guest goes on while it is away, and what was wanted meanwhile happens
// when it is back.
func TestTheControlPlaneIsSomebodyElsesEtcd(t *testing.T) {
	t.Parallel()
	needs(t, "qemu-system-x86_64")
	e := etcdtest.Start(t)
	s := newLabOf(t, lab.Options{Racks: 3, PerRack: 1, DiskSize: lab.DefaultDiskSize,
		Etcd: config.KV{Endpoints: []string{e.URL}, CA: e.CA, Cert: e.Cert, Key: e.Key, Prefix: "lab/"}})
	if st, err := s.status(); err != nil || st.Cluster.Voters != 0 || !strings.Contains(st.Sentence, "Can lose any 1 rack. That is without the external etcd") {
		t.Errorf("%+v, %v", st, err)
	}
	s.importProbe()
	w := s.startProbe("db")
	w.goesOn()
	s.inSync("db")

	before := s.running("db", 0)
	acked := w.acknowledged()
	s.kill(before.Rack)
	w.verified(acked)
	after := s.running("db", before.Machine.Generation+1)
	if after.Rack == before.Rack {
		t.Errorf("the VM runs in rack %s, which is away", after.Rack)
	}
	s.start(before.Rack)
	s.whole()
	s.inSync("db")

	e.End()
	s.until("the hosts to say that the etcd is away", func() (bool, string) {
		st, err := s.status()
		return err == nil && len(st.Conditions) > 0 && st.Conditions[0].ID == "etcd-away" && strings.Contains(st.Sentence, "does not answer"), fmt.Sprint(st.Sentence, err)
	})
	w.goesOn()
	e.Begin()
	s.whole()
	w.goesOn()
	if now := s.running("db", 0); now.Machine.Generation != after.Machine.Generation {
		t.Errorf("the VM was started anew: generation %d, then %d", after.Machine.Generation, now.Machine.Generation)
	}
	s.oneMachine(1)
}
