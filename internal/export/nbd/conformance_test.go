package nbd

import (
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/exporttest"
	"github.com/holdfast-cloud/holdfast/internal/export/memexport"
)

// A volume seen through the server and the client does what the volume does.

func inline(f func()) { f() }

func publish(t *testing.T, s *Server, target export.Target) (rw, ro string) {
	t.Helper()
	rw, err := s.Publish(newID(), "vol", target)
	if err != nil {
		t.Fatal(err)
	}
	if ro, err = s.Publish(newID(), "vol-ro", readOnlyView{target}); err != nil {
		t.Fatal(err)
	}
	return rw, ro
}

func TestVolumeOverUnixSocket(t *testing.T) {
	exporttest.Run(t, func(t *testing.T, size int64) export.Target {
		rw, ro := publish(t, newServer(t, Limits{}), newTarget(t, size, false))
		return &dialled{network: "unix", addr: rw, ro: ro, name: "vol", size: size}
	}, clock.System{}, inline)
}

func TestVolumeThatCompletesOnOtherGoroutines(t *testing.T) {
	exporttest.Run(t, func(t *testing.T, size int64) export.Target {
		var faults memexport.Faults
		faults.Later(clock.System{}.Go)
		rw, ro := publish(t, newServer(t, Limits{}), memexport.Faulty(newTarget(t, size, false), &faults, clock.System{}))
		return &dialled{network: "unix", addr: rw, ro: ro, name: "vol", size: size}
	}, clock.System{}, inline)
}

func TestVolumeThroughTheSmallestWindow(t *testing.T) {
	exporttest.Run(t, func(t *testing.T, size int64) export.Target {
		var faults memexport.Faults
		faults.Later(clock.System{}.Go)
		s := newServer(t, Limits{Requests: 2, Bytes: 8192})
		rw, ro := publish(t, s, memexport.Faulty(newTarget(t, size, false), &faults, clock.System{}))
		return &dialled{network: "unix", addr: rw, ro: ro, name: "vol", size: size}
	}, clock.System{}, inline)
}

func TestVolumeOverTLS(t *testing.T) {
	exporttest.Run(t, func(t *testing.T, size int64) export.Target {
		s, ca := newServer(t, Limits{}), newAuthority(t)
		publish(t, s, newTarget(t, size, false))
		addr, err := s.ListenTLS("127.0.0.1:0", ca.server(t))
		if err != nil {
			t.Fatal(err)
		}
		return &dialled{network: "tcp", addr: addr.String(), name: "vol", cfg: ca.client(t), size: size}
	}, clock.System{}, inline)
}
