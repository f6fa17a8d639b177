package node_test

import (
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/provision"
)

// TestAVMsDiskIsClaimedByItsHostOnly, whoever else has the newest records (invariant 4).
func TestAVMsDiskIsClaimedByItsHostOnly(t *testing.T) {
	s := newScene(t, 6, 3)
	a := s.boxes[0]
	vm := s.db(a)
	for _, b := range s.boxes {
		s.on(b, func(*provision.Provisioner) {
			st, err := b.node.Cluster.Refresh()
			s.ok(err)
			if st.VMs[vm.ID].Val.Host == b.node.Self {
				return
			}
			if _, err := b.node.Volumes.Open(vm.Volume); !holdfast.IsKind(err, holdfast.Unavailable) {
				t.Errorf("another host opens a VM's disk: %v", err)
			}
		})
	}
	s.until("the VM still runs", func(st *cluster.State) bool { return runs(st, "db") })
	s.whole()
}
