package provision_test

import (
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

func TestAnImageInADriveIsNotDeleted(t *testing.T) {
	d := newDesk(t)
	d.put([]cluster.Volume{
		{ID: volID(1), Name: "iso", Blocks: 64, Image: true, Sealed: true},
		{ID: volID(2), Name: "coming", Blocks: 64, Image: true},
		{ID: volID(3), Name: "data", Blocks: 64, VM: vmID(1)},
	}, []cluster.VM{{ID: vmID(1), Name: "db", Power: cluster.On, Volume: volID(3)}})
	insert := func(id holdfast.VolumeID) (err error) {
		d.do(func() { _, err = d.p.ChangeVM(vmID(1), cluster.VMChange{CDROM: &id}) })
		return err
	}
	d.kind("an image that is still coming", insert(volID(2)), holdfast.Unavailable)
	d.kind("a volume that changes", insert(volID(3)), holdfast.NotFound)
	if err := insert(volID(1)); err != nil {
		t.Fatal(err)
	}
	d.do(func() { d.kind("its deletion", d.p.DeleteVolume(volID(1), false), holdfast.Conflict) })
	if err := insert(holdfast.VolumeID{}); err != nil {
		t.Fatal(err)
	}
	d.do(func() {
		if err := d.p.DeleteVolume(volID(1), false); err != nil {
			t.Errorf("once it is out: %v", err)
		}
	})
}
