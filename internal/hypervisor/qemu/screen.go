package qemu

import (
	"errors"
	"io"
	"io/fs"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

var _ hypervisor.Screened = (*Machine)(nil)

// Screen implements hypervisor.Screened: QEMU's own VNC server, on a socket that only
// its agent can reach.
func (m *Machine) Screen() (io.ReadWriteCloser, error) {
	if m.State() == hypervisor.Off {
		return nil, m.offError()
	}
	c, err := dial(m.dir.screen())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, holdfast.Errorf(holdfast.Unavailable, "the machine of VM %s was started by an earlier program, without a screen; shut it down and start it", m.rec.Spec.VM)
	}
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Unavailable, "connect to the machine's screen: %w", err)
	}
	return c, nil
}
