package qcow2_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/image/qcow2"
)

// Where things are in the image of forged: the header, the L1 table, the table
// of refcounts and a block of them, one L2 table, two clusters of data.
const (
	cluster = 1 << 16
	l1At    = 1 * cluster
	l2At    = 4 * cluster
	dataAt  = 5 * cluster
)

// forged makes a good image of 1 MiB, with data in its clusters 1 and 3.
func forged(t testing.TB) []byte {
	disk := make([]byte, mib)
	copy(disk[cluster:], bytes.Repeat([]byte("one"), 9000))
	copy(disk[3*cluster:], bytes.Repeat([]byte("three"), 9000))
	var out bytes.Buffer
	if err := mapOf(t, disk).Write(&out, bytes.NewReader(disk)); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// readAll opens an image and reads all of it, at most 8 MiB.
func readAll(b []byte, opt qcow2.Options) error {
	f, err := qcow2.Open(bytes.NewReader(b), int64(len(b)), opt)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.NewSectionReader(f, 0, min(f.Size(), 8*mib)))
	if err != nil {
		return err
	}
	for off, steps := int64(0), 0; off < f.Size() && steps < 1000; steps++ {
		if _, off, err = f.NextData(off); err != nil {
			return err
		}
	}
	return nil
}

func TestHostileImagesAreRefused(t *testing.T) {
	u32 := func(at int, v uint32) func([]byte) {
		return func(b []byte) { binary.BigEndian.PutUint32(b[at:], v) }
	}
	u64 := func(at int, v uint64) func([]byte) {
		return func(b []byte) { binary.BigEndian.PutUint64(b[at:], v) }
	}
	both := func(fs ...func([]byte)) func([]byte) {
		return func(b []byte) {
			for _, f := range fs {
				f(b)
			}
		}
	}
	const once = 1 << 63
	for _, c := range []struct {
		name  string
		spoil func([]byte)
		says  string
	}{
		{"another format", u32(0, 7), "does not begin as one"},
		{"version 1", u32(4, 1), "version 1"},
		{"version 4", u32(4, 4), "version 4"},
		{"clusters of a byte", u32(20, 0), "clusters of 2^0"},
		{"clusters of 2^60 bytes", u32(20, 60), "clusters of 2^60"},
		{"no disk", u64(24, 0), "empty"},
		{"a disk of 16 EiB", u64(24, 1<<64-1), "a disk of"},
		{"a disk larger than its table", u64(24, 1<<50), "needs 2097152"},
		{"encrypted", u32(32, 2), "encrypted (LUKS)"},
		{"encrypted, nobody knows how", u32(32, 9), "encryption of kind 9"},
		{"an L1 table of 32 GiB", u32(36, 1<<32-1), "an L1 table of 4294967295 entries"},
		{"an L1 table beyond the end", u64(40, 1<<40), "not within its"},
		{"an L1 table before the start", u64(40, 1<<64-cluster), "its L1 table is at -65536"},
		{"an L1 table on the header", u64(40, 0), "its L1 table is at 0"},
		{"an L1 table between clusters", u64(40, l1At+8), "its L1 table is at"},
		{"corrupt", u64(72, 2), "marked as corrupt"},
		{"data elsewhere", u64(72, 4), "in another file"},
		{"an unknown feature", u64(72, 1<<40), "bit 40"},
		{"compression that is not said", u64(72, 8), "compression type"},
		{"an unknown compression", both(u64(72, 8), u32(104, 9<<24)), "type 9"},
		{"refcounts of 2^7 bits", u32(96, 7), "refcounts"},
		{"a header of 4 GiB", u32(100, 1<<32-8), "a header of"},
		{"a header extension of 4 GiB", both(u32(112, 5), u32(116, 1<<32-1)), "a header extension"},
		{"a backing file", both(u64(8, 512), u32(16, 11), func(b []byte) { copy(b[512:], "/etc/shadow") }), `"/etc/shadow"`},
		{"a backing file's name beyond the end", both(u64(8, 1<<63), u32(16, 11)), "backing file's name"},
		{"an L2 table beyond the end", u64(l1At, once|1<<40), "an L2 table at"},
		{"an L2 table on the header", u64(l1At, once|0x200), "an L2 table at"},
		{"an L2 table that is the L1 table", u64(l1At, once|l1At), "lies on the header or the L1 table"},
		{"an L1 entry with reserved bits", u64(l1At, once|l2At|1), "means nothing"},
		{"two parts with one L2 table", both(u64(24, 1<<30), u32(36, 2), u64(l1At, once|l2At), u64(l1At+8, once|l2At)), "more than once"},
		{"data beyond the end", u64(l2At+8, once|1<<40), "only 458752 bytes"},
		{"data that is the L2 table", u64(l2At+8, once|l2At), "where a table is"},
		{"data that is the header", u64(l2At+8, once|flag), "means nothing"},
		{"data between clusters", u64(l2At+8, once|dataAt|512), "where no cluster begins"},
		{"compressed data beyond the end", u64(l2At+8, 1<<62|1<<40), "not within its"},
		{"compressed data that is the L2 table", u64(l2At+8, 1<<62|l2At), "where a table is"},
		{"compressed data that is none", u64(l2At+8, 1<<62|1<<54|dataAt), "cannot be decompressed"},
		{"a zero cluster in version 2", both(u32(4, 2), u64(l2At+8, 1)), "marked as zero"},
		{"subclusters that are both", both(u64(72, 16), u64(l2At, once|dataAt), u64(l2At+8, 1<<32|1)), "both stored and zero"},
		{"subclusters that are nowhere", both(u64(72, 16), u64(l2At, 0), u64(l2At+8, 1)), "but not where"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := forged(t)
			c.spoil(b)
			err := readAll(b, qcow2.Options{})
			if !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v (%v), want %q", err, holdfast.KindOf(err), c.says)
			}
		})
	}
	if err := readAll(forged(t), qcow2.Options{}); err != nil {
		t.Errorf("unspoilt: %v", err)
	}
}

const flag = 4 // a reserved bit

func TestATruncatedImageIsRefused(t *testing.T) {
	b := forged(t)
	for _, n := range []int{0, 71, 100, cluster, l1At + 7, l2At + 1, dataAt, dataAt + 1, dataAt + cluster, len(b) - 1} {
		if err := readAll(b[:n], qcow2.Options{}); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%d bytes: %v", n, err)
		}
		s, err := qcow2.NewStream(bytes.NewReader(b[:n]))
		if err == nil {
			_, err = io.Copy(io.Discard, s)
		}
		if !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("a stream of %d bytes: %v", n, err)
		}
	}
	s, err := qcow2.NewStream(bytes.NewReader(append(b, 0)))
	if err == nil {
		_, err = io.Copy(io.Discard, s)
	}
	if err == nil || !strings.Contains(err.Error(), "goes on after its end") {
		t.Errorf("a stream that is too long: %v", err)
	}
}

func TestAFeatureIsCalledByItsName(t *testing.T) {
	b := forged(t)
	binary.BigEndian.PutUint64(b[72:], 1<<5)
	binary.BigEndian.PutUint32(b[112:], 0x6803f857)
	binary.BigEndian.PutUint32(b[116:], 48)
	copy(b[120:], "\x00\x05time travel")
	if err := readAll(b, qcow2.Options{}); err == nil || !strings.Contains(err.Error(), `bit 5, which it calls "time travel"`) {
		t.Error(err)
	}
}

func TestWhatDoesNotComeInOrderIsNoStream(t *testing.T) {
	b := forged(t)
	one, three := b[l2At+8:l2At+16], b[l2At+24:l2At+32]
	for i := range one { // still a good image
		one[i], three[i] = three[i], one[i]
	}
	if err := readAll(b, qcow2.Options{}); err != nil {
		t.Error(err)
	}
	if _, err := qcow2.NewStream(bytes.NewReader(b)); err == nil || !strings.Contains(err.Error(), "front to back") {
		t.Errorf("%v", err)
	}
}

func TestADiskThatFailsKeepsItsError(t *testing.T) {
	b := forged(t)
	broken := holdfast.Errorf(holdfast.IO, "the disk is on fire")
	f, err := qcow2.Open(failing{bytes.NewReader(b), broken}, int64(len(b)), qcow2.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(make([]byte, mib), 0); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// failing cannot read data.
type failing struct {
	io.ReaderAt
	err error
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off >= dataAt {
		return 0, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

func FuzzOpen(f *testing.F) {
	good := forged(f)
	small := make([]byte, 4096) // clusters of 512 bytes
	copy(small, good[:112])
	binary.BigEndian.PutUint32(small[20:], 9)
	binary.BigEndian.PutUint64(small[24:], 8192)
	binary.BigEndian.PutUint64(small[40:], 512)
	binary.BigEndian.PutUint64(small[512:], 1<<63|1024)
	binary.BigEndian.PutUint64(small[1024:], 1<<63|2048)
	binary.BigEndian.PutUint64(small[1032:], 1<<62|2560)
	f.Add(small)
	backed := bytes.Clone(small)
	binary.BigEndian.PutUint64(backed[8:], 200)
	binary.BigEndian.PutUint32(backed[16:], 4)
	f.Add(backed)
	extended := make([]byte, 4<<14) // clusters of 16 KiB
	copy(extended, small[:112])
	extended[79] = 16
	binary.BigEndian.PutUint32(extended[20:], 14)
	binary.BigEndian.PutUint64(extended[40:], 1<<14)
	binary.BigEndian.PutUint64(extended[1<<14:], 1<<63|2<<14)
	binary.BigEndian.PutUint64(extended[2<<14:], 1<<63|3<<14)
	binary.BigEndian.PutUint64(extended[2<<14+8:], 2<<32|1)
	f.Add(extended)
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = readAll(b, qcow2.Options{})
		_ = readAll(b, qcow2.Options{Backing: func(string, string) (qcow2.Disk, error) { return rawDisk{bytes.NewReader(b)}, nil }})
	})
}

func FuzzStream(f *testing.F) {
	f.Add(forged(f))
	f.Add(forged(f)[:dataAt])
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := qcow2.NewStream(bytes.NewReader(b))
		if err != nil {
			return
		}
		got, err := io.ReadAll(io.LimitReader(s, 4*mib))
		if err != nil || s.Map().Size() > 4*mib {
			return
		}
		// What can be read front to back can be read in any order.
		file, err := qcow2.Open(bytes.NewReader(b), int64(len(b)), qcow2.Options{})
		if err != nil {
			t.Fatalf("a good stream is no good image: %v", err)
		}
		want := make([]byte, file.Size())
		if _, err := file.ReadAt(want, 0); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("front to back it is another disk: %v", err)
		}
	})
}

func FuzzPack(f *testing.F) {
	f.Add([]byte("some"), uint16(3), uint32(70000), false)
	f.Add(bytes.Repeat([]byte("holdfast"), 9000), uint16(0), uint32(1), true)
	f.Fuzz(func(t *testing.T, b []byte, at uint16, n uint32, zstd bool) {
		how := qcow2.Deflate
		if zstd {
			how = qcow2.Zstd
		}
		disk := make([]byte, (int(at)*512+len(b)+int(n%(2*mib)))/512*512+512)
		copy(disk[int(at)*512:], b)
		var out buffer
		p, err := qcow2.NewPacker(&out, int64(len(disk)), how)
		for off := 0; off < len(disk) && err == nil; off += cluster {
			err = p.Put(int64(off), disk[off:min(len(disk), off+cluster)])
		}
		if err == nil {
			err = p.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		file, err := qcow2.Open(bytes.NewReader(out), int64(len(out)), qcow2.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(disk))
		if _, err := file.ReadAt(got, 0); err != nil || !bytes.Equal(got, disk) {
			t.Fatalf("another disk was packed: %v", err)
		}
	})
}

// buffer is a file in memory.
type buffer []byte

func (b *buffer) WriteAt(p []byte, off int64) (int, error) {
	if more := int(off) + len(p) - len(*b); more > 0 {
		*b = append(*b, make([]byte, more)...)
	}
	return copy((*b)[off:], p), nil
}
