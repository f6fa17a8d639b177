package nbd

import (
	"strings"

	"github.com/holdfast-cloud/holdfast/internal/export"
)

// viewSuffix after a volume's name asks for it as it is now, only to be read:
// that is let in beside whoever writes. The protocol has no flag by which a
// client could ask for that.
const viewSuffix = "@head"

// view offers a volume for reading.
type view struct{ export.Target }

// ReadOnly implements export.Target.
func (view) ReadOnly() bool { return true }

// Snapshots implements export.Keeper.
func (v view) Snapshots() ([]export.Snapshot, error) {
	if k, can := v.Target.(export.Keeper); can {
		return k.Snapshots()
	}
	return nil, nil
}

// seenAs returns what a name with or without viewSuffix stands for, of an offer.
func (o *offer) seenAs(name string) (string, export.Target) {
	if strings.HasSuffix(name, viewSuffix) {
		return o.name + viewSuffix, view{o.target}
	}
	return o.name, o.target
}
