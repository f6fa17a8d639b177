package drill

import (
	"context"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
)

// haveWithin is how long a change may take on a computer that has no time for it.
const haveWithin = 3 * time.Minute

// haveVM makes a VM, and asks again while nobody can: one that a try before has made
// without being able to say so is taken.
func (c *cloud) haveVM(ctx context.Context, s v1.VMSpec) (vm v1.VM, err error) {
	err = c.until(ctx, haveWithin, "VM "+s.Name+" to be made", func(ctx context.Context) (bool, string, error) {
		vm, err = c.createVM(ctx, s)
		if holdfast.IsKind(err, holdfast.Exists) {
			vm, err = c.vm(ctx, s.Name)
		}
		return err == nil, "", refused(err)
	})
	return vm, err
}

// haveVolume makes a volume likewise.
func (c *cloud) haveVolume(ctx context.Context, s v1.VolumeSpec) (v v1.Volume, err error) {
	err = c.until(ctx, haveWithin, "volume "+s.Name+" to be made", func(ctx context.Context) (bool, string, error) {
		v, err = ask(ctx, c, 10*time.Second, func(ctx context.Context, k *client.Client) (v1.Volume, error) { return k.CreateVolume(ctx, s) })
		if holdfast.IsKind(err, holdfast.Exists) {
			v, err = c.volume(ctx, s.Name)
		}
		return err == nil, "", refused(err)
	})
	return v, err
}

// setVolume changes a volume likewise.
func (c *cloud) setVolume(ctx context.Context, id string, s v1.VolumeSet) error {
	return c.until(ctx, haveWithin, "the volume to be changed", func(ctx context.Context) (bool, string, error) {
		_, err := ask(ctx, c, 10*time.Second, func(ctx context.Context, k *client.Client) (v1.VolumeChanged, error) { return k.SetVolume(ctx, id, s) })
		return err == nil, "", refused(err)
	})
}

// refused ends the asking at an answer that will not be another one later.
func refused(err error) error {
	switch holdfast.KindOf(err) {
	case holdfast.Invalid, holdfast.NotFound, holdfast.Denied:
		return stop{err}
	}
	return err
}
