package volume

import (
	"bytes"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// A snapshot is read on whichever host the writer is, with a replica or not, and
// past blocks that are bad there.
func TestASnapshotIsReadWhereverTheWriterIs(t *testing.T) {
	play(t, 45, 3, 2, func(sc *scene) {
		want := append(append(fill('a', 10), fill('b', 5)...), fill('a', 25)...)
		v := sc.hosts[0].open()
		sc.write(v, 0, fill('a', 40))
		sc.write(v, 10, fill('b', 5))
		sc.snapshot(v, 1)
		sc.write(v, 0, fill('c', 64))
		for _, h := range []*sceneHost{sc.hosts[0], sc.hosts[2]} {
			v := h.open()
			got := fill('x', 64)
			sc.at(v, func() error { return v.ReadSnapshot(snapID(1), got, 0) })
			if !bytes.Equal(got, append(bytes.Clone(want), make([]byte, 24*holdfast.BlockSize)...)) {
				t.Error("the snapshot is not what was written")
			}
			sc.at(v, func() error { return v.ReadSnapshot(snapID(1), got[:4*holdfast.BlockSize], 9) })
			if !bytes.Equal(got[:4*holdfast.BlockSize], want[9*holdfast.BlockSize:13*holdfast.BlockSize]) {
				t.Error("the middle of the snapshot is not what was written")
			}
			sc.at(v, func() error {
				if err := v.ReadSnapshot(snapID(9), got, 0); !holdfast.IsKind(err, holdfast.NotFound) {
					t.Errorf("a snapshot that is not there: %v", err)
				}
				return nil
			})
		}
	})
}

// A reading session keeps a volume from being closed like a writing one does.
func TestAVolumeThatIsReadIsUsed(t *testing.T) {
	play(t, 46, 1, 1, func(sc *scene) {
		h := sc.hosts[0]
		v := h.open()
		for _, readOnly := range []bool{true, false} {
			h.on(func() {
				before := v.Used()
				d, err := v.Session(readOnly)
				sc.must(err)
				during := v.Used()
				d.Close()
				if before || !during || v.Used() {
					t.Errorf("only to read %v: used %v before, %v during and %v after the session", readOnly, before, during, v.Used())
				}
			})
		}
	})
}
