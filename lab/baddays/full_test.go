package baddays

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export/nbd"
	"github.com/holdfast-cloud/holdfast/lab"
)

const (
	piece  = 1 << 20
	pieces = 120
)

// aDiskFillsUp overwrites a volume and keeps every state of it as a snapshot
// until the disk is full; then lets the snapshots go and writes on.
func aDiskFillsUp(s *scene, h lab.Host) {
	s.done(h, nil, "volume", "create", "filler", "--size", fmt.Sprint(pieces*piece))
	disk := s.attach(h, "filler")
	defer func() { disk.Close() }()
	var wrote [pieces]uint32 // the round whose bytes were acknowledged
	round, full := uint32(1), false
	for i := 0; !full; {
		_, err := disk.WriteAt(pattern(i, round), int64(i)*piece)
		switch {
		case err == nil:
			wrote[i] = round
			i++
		case !holdfast.IsKind(err, holdfast.NoSpace):
			s.t.Fatalf("writing to a full disk: %v; want an error of kind NoSpace", err)
		default: // the cleaner may still find some
			out, _ := s.run(h, nil, "status")
			full = strings.Contains(out, "is full")
		}
		if i == pieces {
			s.done(h, nil, "volume", "snapshot", "filler", fmt.Sprintf("round-%d", round))
			if i, round = 0, round+1; round > 20 {
				s.t.Fatal("the disk never fills up")
			}
		}
	}
	s.t.Logf("the disk was full in round %d", round)
	s.refused(h, nil, noSpace, "room", "volume", "create", "more", "--size", "100MiB")
	s.intact(disk, wrote)
	if err := disk.Flush(); err != nil {
		s.t.Errorf("flush on a full disk: %v", err)
	}

	for r := range round - 1 {
		s.done(h, nil, "volume", "unsnapshot", "filler", fmt.Sprintf("round-%d", r+1))
	}
	s.until("there to be room again", func() (bool, string) {
		_, err := disk.WriteAt(pattern(0, round+1), 0)
		return err == nil, fmt.Sprint(err)
	})
	wrote[0] = round + 1
	for i := 1; i < pieces; i++ {
		if _, err := disk.WriteAt(pattern(i, round+1), int64(i)*piece); err != nil {
			s.t.Fatalf("write after there was room again: %v", err)
		}
		wrote[i] = round + 1
	}
	if err := disk.Flush(); err != nil {
		s.t.Fatal(err)
	}
	s.intact(disk, wrote)
	disk.Close()
	s.done(h, nil, "volume", "delete", "filler")
	s.empty()
}

// attach opens a volume at a host's own socket.
func (s *scene) attach(h lab.Host, volume string) *nbd.Client {
	s.t.Helper()
	var c *nbd.Client
	s.until("volume "+volume+" to be exported", func() (bool, string) {
		v, err := s.volume(volume)
		if err != nil {
			return false, err.Error()
		}
		c, err = nbd.Dial("unix", h.Export(v.ID), "", nil)
		return err == nil, fmt.Sprint(err)
	})
	return c
}

// pattern is what piece i holds after a round.
func pattern(i int, round uint32) []byte {
	b := make([]byte, piece)
	r := rand.NewPCG(uint64(i), uint64(round))
	for o := 0; o < len(b); o += 8 {
		binary.LittleEndian.PutUint64(b[o:], r.Uint64())
	}
	return b
}

// intact checks that every piece holds what was acknowledged last, or where a
// later write failed, that or parts of the later one.
func (s *scene) intact(disk *nbd.Client, wrote [pieces]uint32) {
	s.t.Helper()
	got := make([]byte, piece)
	for i, round := range wrote {
		if _, err := disk.ReadAt(got, int64(i)*piece); err != nil {
			s.t.Fatalf("read of piece %d: %v", i, err)
		}
		want, next := pattern(i, round), pattern(i, round+1)
		if round == 0 {
			clear(want)
		}
		for o := 0; o < piece; o += holdfast.BlockSize {
			block := string(got[o : o+holdfast.BlockSize])
			if block != string(want[o:o+holdfast.BlockSize]) && block != string(next[o:o+holdfast.BlockSize]) {
				s.t.Fatalf("piece %d of round %d: the block at %d is lost", i, round, o)
			}
		}
	}
}
