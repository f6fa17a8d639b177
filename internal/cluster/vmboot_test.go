package cluster

import (
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

func TestWhatAVMIsStartedFrom(t *testing.T) {
	if got := strings.Join((&VM{}).BootOrder(), ","); got != "disk,cdrom" {
		t.Errorf("by default: %s", got)
	}
	for order, good := range map[string]bool{"": true, "cdrom": true, "cdrom,disk": true, "disk,disk": false, "network": false, "floppy": false} {
		var list []string
		if order != "" {
			list = strings.Split(order, ",")
		}
		if err := CheckBoot(list); (err == nil) != good || err != nil && !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%q: %v", order, err)
		}
	}
}

func TestAChangeOfTheDriveNeedsNoNewMachine(t *testing.T) {
	image, order := holdfast.VolumeID{UUID: holdfast.UUID{4}}, []string{BootCD}
	vm := VM{}
	VMChange{CDROM: &image}.Apply(&vm)
	if vm.CDROM != image || vm.Edition != 0 {
		t.Errorf("%+v", vm)
	}
	VMChange{Boot: &order}.Apply(&vm)
	VMChange{Boot: &order}.Apply(&vm)
	if vm.Edition != 1 || len(vm.Boot) != 1 {
		t.Errorf("%+v", vm)
	}
}
