package qemu

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor"
	"github.com/holdfast-cloud/holdfast/internal/hypervisor/hypervisortest"
)

// lab runs the suite with real processes: QEMU, and nbdkit for each disk.
type lab struct {
	t       *testing.T
	dir     string
	h       *Hypervisor
	servers map[int]*nbdServer
	seconds map[int]*nbdServer
}

func (l *lab) Run(body func()) { body() }

func (l *lab) Hypervisor() hypervisor.Hypervisor { return l.h }

func (l *lab) RestartAgent() {
	l.h.Close()
	l.h = newHypervisor(l.t, l.dir)
}

func (l *lab) Spec(i int) hypervisor.Spec {
	if l.servers[i] == nil {
		l.servers[i] = newProbeServer(l.t)
	}
	s := probeSpec(l.servers[i])
	s.VM.UUID[0] = byte(i + 1)
	return s
}

func (l *lab) Second(i int) hypervisor.Disk {
	if l.seconds[i] == nil {
		l.seconds[i] = newEmptyServer(l.t)
	}
	return hypervisor.Disk{Slot: 1, Volume: holdfast.VolumeID{UUID: holdfast.UUID{byte(i + 1)}}, Socket: l.seconds[i].socket()}
}

func (l *lab) DiskAway() {
	for _, list := range []map[int]*nbdServer{l.servers, l.seconds} {
		for _, s := range list {
			s.stop()
		}
	}
}

func (l *lab) DiskBack() {
	for _, list := range []map[int]*nbdServer{l.servers, l.seconds} {
		for _, s := range list {
			s.start()
		}
	}
}

func (l *lab) Crash(m hypervisor.Machine) {
	hd, err := m.(*Machine).rec.QEMU.open()
	if err != nil {
		l.t.Fatal(err)
	}
	defer hd.close()
	hd.signal(unix.SIGKILL)
}

func (l *lab) Await(cond func() bool) bool {
	for limit := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			return false
		}
	}
	return true
}

func TestConformance(t *testing.T) {
	hypervisortest.Run(t, func(t *testing.T) hypervisortest.Lab {
		l := &lab{t: t, dir: shortDir(t), servers: map[int]*nbdServer{}, seconds: map[int]*nbdServer{}}
		l.h = newHypervisor(t, l.dir)
		t.Cleanup(func() { // whatever a failed case left running
			list, _ := Processes(l.dir)
			for _, p := range list {
				p.Signal(unix.SIGKILL)
			}
		})
		return l
	})
}

func TestTwoAgentsDirectoriesGiveOneVMTwoUsers(t *testing.T) {
	a, b := newHypervisor(t, shortDir(t)), newHypervisor(t, shortDir(t))
	vm := holdfast.VMID{UUID: holdfast.UUID{1}}
	if a.uid(vm) == b.uid(vm) || a.uid(vm) < defaultUIDBase {
		t.Fatalf("users %d and %d", a.uid(vm), b.uid(vm))
	}
}
