package placement_test

import (
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/placement/sketch"
)

func TestAVMWithUEFIGoesWhereThatFirmwareIs(t *testing.T) {
	s := draw(t, "host a1 rack=a mem=8192\nhost b1 rack=b mem=4096\nvm x\nvm y")
	vm := s.VMs[sketch.VM("x")].Val
	vm.Vars = holdfast.VolumeID{UUID: holdfast.UUID{7}}
	if h, why := placement.PlaceVM(s, vm, placement.VMOptions{}); !h.IsZero() || !strings.Contains(why.String(), "apt install ovmf") {
		t.Errorf("without firmware: on %s, %s", h.Short(), why)
	}
	b1 := s.Alive[sketch.Host("b1")]
	b1.Val.UEFI = true
	s.Alive[sketch.Host("b1")] = b1
	if h, why := placement.PlaceVM(s, vm, placement.VMOptions{}); h != sketch.Host("b1") || !strings.Contains(why.String(), "not a1: has no UEFI firmware") {
		t.Errorf("with firmware on b1: on %s, %s", h.Short(), why)
	}
	if h, why := placement.PlaceVM(s, s.VMs[sketch.VM("y")].Val, placement.VMOptions{}); h != sketch.Host("a1") {
		t.Errorf("one with a BIOS: on %s, %s", h.Short(), why)
	}
}
