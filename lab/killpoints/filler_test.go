package killpoints

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
)

// filler is a volume that is overwritten until disks have to make room, and that
// tells what was flushed.
type filler struct {
	name    string
	rng     *rand.Rand
	flushed []uint32 // by pieces: the round that was flushed last
	asked   []uint32 // the one that was written last, maybe in vain
}

const (
	fillPieces = 24
	fillPiece  = 4 << 20
	fillOnce   = 4 // pieces between flushes
	fillRounds = 8 // for a process to be struck by
)

// piece is what a piece holds after a round.
func piece(i int, round uint32) []byte {
	b := make([]byte, fillPiece)
	if round > 0 {
		r := rand.NewChaCha8([32]byte{byte(i), byte(round), byte(round >> 8), 1})
		_, _ = r.Read(b) // it never fails
	}
	return b
}

// more overwrites some pieces and flushes, again and again; what fails is left.
func (f *filler) more(s *scene) {
	s.t.Helper()
	if f.name == "" {
		f.name, f.rng = s.name("filler"), rand.New(rand.NewPCG(2, 2))
		f.flushed, f.asked = make([]uint32, fillPieces), make([]uint32, fillPieces)
		s.volume(f.name, s.copies, fillPieces*fillPiece)
	}
	c, err := s.open(f.name)
	if err != nil {
		return
	}
	defer c.Sever()
	for range fillRounds {
		if s.struck() {
			return
		}
		errs := make([]error, fillOnce+1)
		var all sync.WaitGroup // side by side: more than a connection's buffers hold
		for k, i := range f.rng.Perm(fillPieces)[:fillOnce] {
			f.asked[i]++
			b := piece(i, f.asked[i])
			all.Go(func() { _, errs[k] = c.WriteAt(b, int64(i)*fillPiece) })
		}
		all.Wait()
		if errs[fillOnce] = c.Flush(); errors.Join(errs...) != nil {
			return
		}
		copy(f.flushed, f.asked)
	}
}

// verify reads everything: each block is of the round that was flushed last, or of
// one that was written since.
func (f *filler) verify(s *scene) {
	s.t.Helper()
	if f.name == "" {
		return
	}
	s.whole(f.name)
	got := make([]byte, fillPieces*fillPiece)
	s.until("volume "+f.name+" to be read", func() (bool, string) {
		err := s.read(f.name, got)
		return err == nil, fmt.Sprint(err)
	})
	for i := range fillPieces {
		f.check(s, i, got[i*fillPiece:(i+1)*fillPiece])
	}
	s.remove(f.name)
	f.name = ""
}

func (f *filler) check(s *scene, i int, got []byte) {
	const block = 4096
	var may [][]byte
	for r := f.flushed[i]; r <= f.asked[i]; r++ {
		may = append(may, piece(i, r))
	}
	for at := 0; at < len(got); at += block {
		ok := false
		for _, m := range may {
			ok = ok || bytes.Equal(got[at:at+block], m[at:at+block])
		}
		if !ok {
			s.t.Errorf("piece %d of the filler, at %d: it is of none of the rounds %d to %d", i, at, f.flushed[i], f.asked[i])
			return
		}
	}
}
