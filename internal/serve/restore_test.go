package serve

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/backup"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/memexport"
)

// stacked are backups of a volume one behind the other, the first a full one: the
// n-th, of sizes[n] blocks, has all of the volume hold the byte n + 1.
func stacked(t *testing.T, sizes ...uint64) *backup.Reader {
	t.Helper()
	var out bytes.Buffer
	var base *backup.PointRef
	for i, blocks := range sizes {
		h := backup.Header{Kind: backup.Volume, ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), Created: time.Unix(int64(i), 0), Base: base, Expect: int64(blocks) * holdfast.BlockSize,
			Volume:   &backup.VolumeRef{ID: "00000000-0000-4000-8000-00000000abcd", Name: "data", Size: int64(blocks) * holdfast.BlockSize},
			Snapshot: &backup.PointRef{ID: fmt.Sprintf("00000000-0000-4000-9000-%012d", i), Name: fmt.Sprintf("s%d", i), LSN: fmt.Sprintf("1.%d", i+1)}}
		base = h.Snapshot
		w, err := backup.NewWriter(&out, h, nil)
		for at := uint64(0); err == nil && at < blocks; at += 4 {
			e := backup.Extent{Addr: at, Blocks: min(4, blocks-at)}
			var p backup.Part
			if p, err = backup.Pack([]backup.Extent{e}, bytes.Repeat([]byte{byte(i + 1)}, int(e.Blocks)*holdfast.BlockSize), nil); err == nil {
				err = w.Put(p)
			}
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r, err := backup.NewReader(&out, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestARestoreLosesNothingOfAVolumeThatGrew: neither is what does not fit left
// out in silence, nor is more told to be done than there is to do.
func TestARestoreLosesNothingOfAVolumeThatGrew(t *testing.T) {
	for _, c := range []struct {
		name  string
		has   uint64   // blocks of the new volume
		sizes []uint64 // of the backups
		good  bool
	}{
		{"it stayed as it was", 40, []uint64{40, 40, 40}, true},
		{"it grew, and there is room", 60, []uint64{40, 60}, true},
		{"it grew, and there is no room", 40, []uint64{40, 60}, false},
		{"it grew and was set back", 40, []uint64{40, 60, 40}, true},
	} {
		target, err := memexport.New(int64(c.has)*holdfast.BlockSize, false)
		if err != nil {
			t.Fatal(err)
		}
		disk, err := target.Open(false)
		if err != nil {
			t.Fatal(err)
		}
		re := &restoring{ctx: t.Context(), disk: disk, blocks: c.has, progress: func(done, total int64) {
			if done > total {
				t.Errorf("%s: %d of %d bytes are done", c.name, done, total)
			}
		}}
		if err := re.chain(stacked(t, c.sizes...)); holdfast.IsKind(err, holdfast.Invalid) == c.good {
			t.Errorf("%s: %v", c.name, err)
		}
		got := make([]byte, c.has*holdfast.BlockSize)
		if err := do(disk, export.Request{Op: export.Read, Length: int64(len(got)), Data: got}); err != nil {
			t.Fatal(err)
		}
		if c.good && !bytes.Equal(got, bytes.Repeat([]byte{byte(len(c.sizes))}, len(got))) {
			t.Errorf("%s: other bytes came back", c.name)
		}
	}
}
