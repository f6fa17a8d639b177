package iscsi_test

import (
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/exporttest"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/initiator"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/pdu"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
	"github.com/holdfast-cloud/holdfast/internal/export/memexport"
)

// A volume seen through the server and an initiator does what the volume does.

func inline(f func()) { f() }

// through returns fresh volumes behind a server, seen by an initiator that
// negotiates cfg over conns connections.
func through(cfg initiator.Config, conns int, lim iscsi.Limits, opt scsi.Options, later bool) exporttest.New {
	return func(t *testing.T, size int64) export.Target {
		var target export.Target = newMemory(t, size)
		if later {
			var faults memexport.Faults
			faults.Later(clock.System{}.Go)
			target = memexport.Faulty(target, &faults, clock.System{})
		}
		o := offer(t, newDevice(t, newUnit(t, target, opt)), anybody, lim)
		block := int64(512)
		if opt.BlockSize > 0 {
			block = int64(opt.BlockSize)
		}
		return &seen{size: size, block: block, conns: conns, login: func() *initiator.Session {
			s := o.login(cfg)
			for range conns - 1 {
				if err := s.Add(o.dial()); err != nil {
					t.Fatal(err)
				}
			}
			return s
		}}
	}
}

func keys(kv ...string) (list []pdu.Pair) {
	for i := 0; i < len(kv); i += 2 {
		list = append(list, pdu.Pair{Key: kv[i], Value: kv[i+1]})
	}
	return list
}

func TestVolumeOverISCSI(t *testing.T) {
	exporttest.Run(t, through(initiator.Config{}, 1, iscsi.Limits{}, scsi.Options{}, false), clock.System{}, inline)
}

func TestVolumeThatCompletesOnOtherGoroutines(t *testing.T) {
	exporttest.Run(t, through(initiator.Config{}, 1, iscsi.Limits{}, scsi.Options{}, true), clock.System{}, inline)
}

func TestVolumeWithDigests(t *testing.T) {
	exporttest.Run(t, through(initiator.Config{Digests: true}, 1, iscsi.Limits{}, scsi.Options{BlockSize: 4096}, false), clock.System{}, inline)
}

func TestVolumeOverThreeConnections(t *testing.T) {
	exporttest.Run(t, through(initiator.Config{}, 3, iscsi.Limits{}, scsi.Options{}, true), clock.System{}, inline)
}

func TestVolumeWithoutUnsolicitedData(t *testing.T) {
	cfg := initiator.Config{Keys: keys("InitialR2T", "Yes", "ImmediateData", "No", "MaxBurstLength", "8192", "FirstBurstLength", "4096",
		"MaxOutstandingR2T", "2", "MaxRecvDataSegmentLength", "512")}
	exporttest.Run(t, through(cfg, 1, iscsi.Limits{}, scsi.Options{}, true), clock.System{}, inline)
}

func TestVolumeThroughTheSmallestWindow(t *testing.T) {
	exporttest.Run(t, through(initiator.Config{}, 1, iscsi.Limits{Commands: 2, Bytes: 8192}, scsi.Options{}, true), clock.System{}, inline)
}
