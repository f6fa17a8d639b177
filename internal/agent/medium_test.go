package agent

import (
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
)

func (m *machine) Load(d *hypervisor.Disk) error {
	what := "eject"
	if d != nil {
		what = "load " + d.Export
	}
	if err := m.act(what, m.state); err != nil {
		return err
	}
	m.spec.CD = d
	return nil
}

// drive is a VM with an image in its CD-ROM drive, which lies on hosts that are
// alive or away.
func drive(alive bool) *scene {
	s := running()
	host, image := holdfast.HostID{UUID: holdfast.UUID{5}}, holdfast.VolumeID{UUID: holdfast.UUID{6}}
	s.vm.CDROM = image
	rec := cluster.Volume{ID: image, Name: "iso", Image: true, Sealed: true, InSync: []cluster.Replica{{Host: host}}}
	s.r.st.Volumes = map[holdfast.VolumeID]cluster.Versioned[cluster.Volume]{image: {Val: rec}}
	s.w.a.published[image] = "/run/iso"
	s.r.st.Hosts = map[holdfast.HostID]cluster.Versioned[cluster.Host]{host: {}}
	if alive {
		s.r.st.Alive = map[holdfast.HostID]cluster.Versioned[cluster.Alive]{host: {}}
	}
	return s
}

func TestWhatLiesInTheDriveFollowsTheVM(t *testing.T) {
	s := drive(true)
	s.w.fitDisks(s.m, s.vm)
	if cd := s.m.spec.CD; cd == nil || !cd.ReadOnly || cd.Slot != hypervisor.SlotCD || cd.Socket != "/run/iso" {
		t.Errorf("in its drive is %+v", cd)
	}
	s.vm.CDROM = holdfast.VolumeID{}
	s.w.fitDisks(s.m, s.vm)
	s.w.fitDisks(s.m, s.vm)
	s.expect(t, "load iso", "eject")
}

func TestAnImageThatNobodyHasIsToldAndTriedAgain(t *testing.T) {
	s := drive(false)
	s.w.fitDisks(s.m, s.vm)
	if !strings.Contains(s.w.said, "image iso cannot be read") {
		t.Errorf("it says %q", s.w.said)
	}
	s.expect(t)
	s.r.st.Alive = map[holdfast.HostID]cluster.Versioned[cluster.Alive]{{UUID: holdfast.UUID{5}}: {}}
	s.w.fitAt = 0
	s.w.fitDisks(s.m, s.vm)
	s.expect(t, "load iso")

	// Who has it in its drive waits for who serves it.
	s.r.st.Alive = nil
	s.w.fitAt = 0
	s.w.fitDisks(s.m, s.vm)
	s.expect(t, "load iso")
	if s.w.said != "" {
		t.Errorf("it says %q", s.w.said)
	}
}
