package iscsi_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/initiator"
	"github.com/holdfast-cloud/holdfast/internal/export/iscsi/scsi"
)

// An initiator that vanishes with a write under way and comes back at once, as
// another port, finds its old nexus gone: what that had forbidden is allowed,
// and the old write does not land on what is written now.
func TestAnInitiatorThatComesBackAtOnce(t *testing.T) {
	for range 20 {
		o, f := offerFaulty(t, mib, scsi.Options{Removable: true})
		old := o.login(initiator.Config{ISID: [6]byte{0x80, 1}})
		must(t, old, initiator.Command{CDB: []byte{0x1e, 0, 0, 0, 1, 0}}) // PREVENT MEDIUM REMOVAL
		f.Hold()
		start(old, writeCmd(0, bytes.Repeat([]byte{1}, 4096)))
		held(t, old, f, 1)
		old.Close()
		release := time.AfterFunc(20*time.Millisecond, f.Release)
		s := o.login(initiator.Config{ISID: [6]byte{0x80, 2}})
		release.Stop()
		if f.Held() != 0 {
			t.Fatal("the login was completed while the old session's write stood before the disk")
		}
		want := bytes.Repeat([]byte{2}, 4096)
		must(t, s, writeCmd(0, want))
		got := make([]byte, 4096)
		must(t, s, readCmd(0, got))
		if !bytes.Equal(got, want) {
			t.Fatal("a write of the old session landed after one of the new")
		}
		must(t, s, initiator.Command{CDB: []byte{0x1b, 0, 0, 0, 2, 0}}) // START STOP UNIT, eject
		f.Release()
		o.Close()
	}
}
