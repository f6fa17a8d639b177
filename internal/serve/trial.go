package serve

import (
	"context"
	"errors"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
)

// Trial adds to Deeds what volumes' writers or hosts do after the records were
// changed, or before: of that it does what the records say, and no more. It is for a
// draft of the records, which nobody goes by.
type Trial struct {
	Deeds
	agenda
}

// NewTrial returns what tries changes on a draft.
func NewTrial(d Deeds) Trial { return Trial{d, agenda{d.Records}} }

// unasked is nil if all went well as far as the writer of a volume.
func unasked(err error) error {
	if errors.Is(err, errWriter) {
		return nil
	}
	return err
}

// DeleteSnapshot implements httpapi.Changer.
func (t *Trial) DeleteSnapshot(_ context.Context, id holdfast.VolumeID, snap holdfast.SnapshotID) error {
	return unasked(t.Make.DeleteSnapshot(id, snap))
}

// DeleteSnapshotGroup implements httpapi.Changer.
func (t *Trial) DeleteSnapshotGroup(ctx context.Context, g cluster.SnapshotGroup) error {
	return dropGroup(ctx, g, t.DeleteSnapshot)
}

// Revert implements httpapi.Changer.
func (t *Trial) Revert(_ context.Context, id holdfast.VolumeID, snap holdfast.SnapshotID) error {
	return unasked(t.Make.Revert(id, snap))
}

// DeleteVMSnapshot implements httpapi.Changer.
func (t *Trial) DeleteVMSnapshot(ctx context.Context, id holdfast.VMID, of cluster.VMSnapshot) error {
	if err := t.Make.ForgetVMSnapshot(id, of.ID); err != nil {
		return err
	}
	return dropKept(ctx, of.Name, of.Disks, t.DeleteSnapshot)
}

// RevertVM implements httpapi.Changer. Nobody but a VM's machine uses its disks, so
// that the writers of those of one that is off have nothing against it.
func (t *Trial) RevertVM(ctx context.Context, id holdfast.VMID, of cluster.VMSnapshot, how httpapi.Revert) (safety string, err error) {
	return reverting{t.Records, t.Make, t.stopped, t.Revert}.run(ctx, id, of, how)
}

// stopped has a VM be off, with a host that ends its machine at once.
func (t *Trial) stopped(id holdfast.VMID) error {
	if err := t.Make.StopVM(id, true); err != nil {
		return err
	}
	st, err := t.Records.Refresh()
	if err != nil {
		return err
	}
	m, ok := st.Machines[id]
	if !ok {
		return nil
	}
	m.Val.State = "off"
	tx := t.Records.Begin()
	tx.PutMachine(m.Val, m.Mod)
	return settled(t.Records, tx)
}
