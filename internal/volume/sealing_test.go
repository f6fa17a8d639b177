package volume

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
)

// text is a block that compresses well and can be found on a disk.
func text(n int) []byte {
	b := bytes.Repeat(fmt.Appendf(nil, "patient record %06d; ", n), 200)
	return b[:holdfast.BlockSize]
}

// finds reports whether a disk has bytes anywhere.
func (h *sceneHost) finds(want []byte) bool {
	buf := make([]byte, 64<<20)
	h.disk.Peek(buf, 0)
	return bytes.Contains(buf, want)
}

func (sc *scene) writeText(v *Volume, addr, n int) {
	var data []byte
	for i := range n {
		data = append(data, text(addr+i)...)
	}
	sc.must(sc.do(v, export.Request{Op: export.Write, Off: int64(addr) * holdfast.BlockSize, Length: int64(len(data)), Data: data}))
}

func (sc *scene) wantText(v *Volume, addr, n int) {
	sc.t.Helper()
	got := make([]byte, n*holdfast.BlockSize)
	sc.must(sc.do(v, export.Request{Op: export.Read, Off: int64(addr) * holdfast.BlockSize, Length: int64(len(got)), Data: got}))
	for i := range n {
		if !bytes.Equal(got[i*holdfast.BlockSize:][:holdfast.BlockSize], text(addr+i)) {
			sc.t.Fatalf("block %d is not what was written", addr+i)
		}
	}
}

// seeds of scenes of each kind
const (
	seedPlain      = 1 // as it is
	seedCompressed = 0 // auto
	seedEncrypted  = 7
	seedBoth       = 2 // fast
)

func TestNothingReadableLeavesTheWriter(t *testing.T) {
	for _, c := range []struct {
		seed     uint64
		readable bool
	}{{seedPlain, true}, {seedEncrypted, false}, {seedBoth, false}} {
		play(t, c.seed, 2, 2, func(sc *scene) {
			a, b := sc.hosts[0], sc.hosts[1]
			v := a.open()
			sc.writeText(v, 0, 300) // over several records, compressed on tasks
			sc.writeText(v, 7, 1)
			sc.must(sc.do(v, export.Request{Op: export.Write, Off: 100, Length: 50, Data: text(0)[100:150]}))
			sc.must(sc.do(v, export.Request{Op: export.Flush}))
			sc.wantText(v, 0, 300)
			for _, h := range []*sceneHost{a, b} {
				if h.finds([]byte("patient record")) != c.readable {
					t.Errorf("seed %d: what was written is readable on the disk of host %d: %v", c.seed, h.id.UUID[0], !c.readable)
				}
			}
			a.powerCut()
			sc.wantText(b.open(), 0, 300)
		})
	}
}

func TestCompressionSavesSpaceOnEveryReplica(t *testing.T) {
	var live [2]int64
	for i, seed := range []uint64{seedPlain, seedCompressed} {
		play(t, seed, 2, 2, func(sc *scene) {
			v := sc.hosts[0].open()
			sc.writeText(v, 0, 512)
			sc.must(sc.do(v, export.Request{Op: export.Flush}))
			for _, h := range sc.hosts {
				live[i] += h.st.Usage().Live
			}
			if st := v.Stats(); seed == seedCompressed && st.StoredBytes*6 > st.WrittenBytes {
				t.Errorf("of %d bytes written %d were stored", st.WrittenBytes, st.StoredBytes)
			}
		})
	}
	if live[1]*6 > live[0] {
		t.Errorf("compressed it takes %d bytes of %d", live[1], live[0])
	}
}

func TestAVolumeOpensWithItsKeyOnly(t *testing.T) {
	play(t, seedBoth, 2, 2, func(sc *scene) {
		a := sc.hosts[0]
		v := a.open()
		sc.writeText(v, 0, 4)
		sc.must(sc.do(v, export.Request{Op: export.Flush}))
		for what, keys := range map[string]func(cluster.Volume) (map[holdfast.VolumeID]keyring.Key, error){
			"another key": func(rec cluster.Volume) (map[holdfast.VolumeID]keyring.Key, error) {
				return map[holdfast.VolumeID]keyring.Key{rec.ID: {1}}, nil
			},
			"no key": nil,
		} {
			x, err := (&Service{Config: Config{Rand: reader{sc.w.Rand(what)}, Keys: keys}}).newSealing(sc.vol)
			sc.must(err)
			got := make([]byte, holdfast.BlockSize)
			if err := a.replicaOf(sc.vol.ID).ReadOpened(got, 1, x); !holdfast.IsKind(err, holdfast.Denied) && !holdfast.IsKind(err, holdfast.Corrupt) || bytes.Equal(got, text(1)) {
				t.Errorf("with %s: %v", what, err)
			}
		}
		locked := holdfast.Errorf(holdfast.Unavailable, "the volume is locked")
		b := sc.hosts[1]
		b.s.Keys = func(cluster.Volume) (map[holdfast.VolumeID]keyring.Key, error) { return nil, locked }
		if _, err := b.s.open(sc.vol.ID, nil); !holdfast.IsKind(err, holdfast.Unavailable) {
			t.Errorf("a locked volume was opened: %v", err)
		}
		sc.wantText(v, 0, 4) // its writer was not disturbed
	})
}
