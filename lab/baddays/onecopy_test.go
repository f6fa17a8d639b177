package baddays

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/lab"
)

// oneCopyRots: where there is no other copy, a block that rots is an I/O
// error, told and counted, and every other block is what it was.
func oneCopyRots(s *scene, h lab.Host) {
	const bad = 37 // block of the first piece
	s.done(h, nil, "volume", "create", "alone", "--size", "8MiB", "--copies", "1")
	disk := s.attach(h, "alone")
	want := pattern(7, 1)
	if _, err := disk.WriteAt(want, 0); err != nil {
		s.t.Fatal(err)
	}
	if err := disk.Flush(); err != nil {
		s.t.Fatal(err)
	}
	if n := flip(s, h.Disk(), want[bad*holdfast.BlockSize:(bad+1)*holdfast.BlockSize]); n == 0 {
		s.t.Fatal("the block was not found on the disk")
	}
	block := make([]byte, holdfast.BlockSize)
	for b := range len(want) / holdfast.BlockSize {
		off := b * holdfast.BlockSize
		_, err := disk.ReadAt(block, int64(off))
		switch {
		case b == bad && err == nil:
			s.t.Error("the bad block was returned as data")
		case b != bad && (err != nil || !bytes.Equal(block, want[off:off+len(block)])):
			s.t.Errorf("block %d, which is good: %v", b, err)
		}
	}
	s.until("the bad block to be reported", func() (bool, string) {
		out, _ := s.run(h, nil, "status")
		return strings.Contains(out, "failed their hash"), out
	})
	// What is written anew is good again.
	if _, err := disk.WriteAt(want[:holdfast.BlockSize], bad*holdfast.BlockSize); err != nil {
		s.t.Errorf("write over the bad block: %v", err)
	}
	if _, err := disk.ReadAt(block, bad*holdfast.BlockSize); err != nil || !bytes.Equal(block, want[:holdfast.BlockSize]) {
		s.t.Errorf("the block that was written anew: %v", err)
	}
	disk.Close()
	s.done(h, nil, "volume", "delete", "alone")
	s.empty()
}

// flip changes one bit of every place in a file that holds a block, and
// returns how many there are.
func flip(s *scene, path string, block []byte) (n int) {
	s.t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 4<<20)
	for at := int64(0); ; at += int64(len(buf)) {
		k, err := io.ReadFull(io.NewSectionReader(f, at, int64(len(buf))), buf)
		for o := 0; o+len(block) <= k; o += holdfast.BlockSize {
			if !bytes.Equal(buf[o:o+len(block)], block) {
				continue
			}
			if _, err := f.WriteAt([]byte{block[100] ^ 1}, at+int64(o)+100); err != nil {
				s.t.Fatal(fmt.Errorf("damage: %w", err))
			}
			n++
		}
		if err != nil {
			return n
		}
	}
}
