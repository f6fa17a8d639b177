package qcow2_test

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/image/qcow2"
)

// uneven is a disk with runs of one cluster to many, which end within a cluster.
func uneven() []byte {
	disk := make([]byte, 6*mib+512)
	for i := range disk {
		if c := i / cluster; c%23 != 0 && c != 40 {
			disk[i] = byte(i>>9) ^ byte(c*i>>3) | 1
		}
	}
	return disk
}

// layOut is the disk's stream layout.
func layOut(t *testing.T, disk []byte, src io.ReaderAt) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := mapOf(t, disk).Write(&out, src); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestAStreamIsLaidOutAnewAsItIs(t *testing.T) {
	disk := uneven()
	file := layOut(t, disk, bytes.NewReader(disk))
	s, err := qcow2.NewStream(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if again := layOut(t, disk, s); !bytes.Equal(again, file) {
		t.Error("the file became another one")
	}
	if _, _, err := s.Next(); err != io.EOF {
		t.Errorf("there is more: %v", err)
	}
}

func TestAStreamGivesOnlyWhatIsNext(t *testing.T) {
	disk := uneven()
	file := layOut(t, disk, bytes.NewReader(disk))
	for _, c := range []struct {
		off int64
		n   int
	}{{0, cluster}, {2 * cluster, cluster}, {cluster, cluster / 2}, {cluster, 23 * cluster}, {cluster + 512, cluster}} {
		s, err := qcow2.NewStream(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.ReadAt(make([]byte, c.n), c.off); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%d bytes at %d: %v", c.n, c.off, err)
		}
	}
}

func TestAStreamThatBreaksOffIsNotWhole(t *testing.T) {
	disk := uneven()
	file := layOut(t, disk, bytes.NewReader(disk))
	s, err := qcow2.NewStream(bytes.NewReader(file[:len(file)-cluster-1]))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Map().Write(io.Discard, s); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Error(err)
	}
}

// stopsAt fails from a place on, for reading and for writing.
type stopsAt struct {
	disk []byte
	at   int64
	err  error
	n    int64 // bytes written
}

func (s *stopsAt) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > s.at {
		return 0, s.err
	}
	return copy(p, s.disk[off:]), nil
}

func (s *stopsAt) Write(p []byte) (int, error) {
	if s.n += int64(len(p)); s.n > s.at {
		return 0, s.err
	}
	return len(p), nil
}

func TestACopyEndsWithTheErrorOfEitherSide(t *testing.T) {
	disk, broken := uneven(), holdfast.Errorf(holdfast.IO, "the disk is on fire")
	m := mapOf(t, disk)
	if err := m.Write(io.Discard, &stopsAt{disk: disk, at: 3 * mib, err: broken}); !errors.Is(err, broken) {
		t.Errorf("reading: %v", err)
	}
	if err := m.Write(&stopsAt{at: 3 * mib, err: broken}, bytes.NewReader(disk)); !errors.Is(err, broken) {
		t.Errorf("writing: %v", err)
	}
}

// file is a file in memory that is written at any place.
type file struct {
	mu   sync.Mutex
	b    []byte
	fail int64 // the byte whose writing fails; 0: none
}

func (f *file) WriteAt(b []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail > 0 && off+int64(len(b)) > f.fail {
		return 0, errors.New("full")
	}
	if need := off + int64(len(b)); int64(len(f.b)) < need {
		f.b = append(f.b, make([]byte, need-int64(len(f.b)))...)
	}
	return copy(f.b[off:], b), nil
}

func TestAFileIsWrittenAsAStreamIs(t *testing.T) {
	disk := uneven()
	var out file
	if err := mapOf(t, disk).WriteAt(&out, bytes.NewReader(disk)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.b, layOut(t, disk, bytes.NewReader(disk))) {
		t.Error("it is another file")
	}
	for _, at := range []int64{1, 10 * cluster, int64(len(out.b)) - 1} {
		full := file{fail: at}
		if err := mapOf(t, disk).WriteAt(&full, bytes.NewReader(disk)); err == nil || err.Error() != "full" {
			t.Errorf("full at %d: %v", at, err)
		}
	}
	broken := holdfast.Errorf(holdfast.IO, "the disk is on fire")
	if err := mapOf(t, disk).WriteAt(&file{}, &stopsAt{disk: disk, at: 3 * mib, err: broken}); !errors.Is(err, broken) {
		t.Errorf("reading: %v", err)
	}
}
