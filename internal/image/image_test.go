package image_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/image"
)

const mib = 1 << 20

// volume is a sink that checks how it is called.
type volume struct {
	t        testing.TB
	content  map[int64][]byte // block → content
	reserved int64
	written  int64
	writes   int
	end      int64
	flushed  int
	fail     error // of the next write
}

func newVolume(t testing.TB) *volume { return &volume{t: t, content: map[int64][]byte{}} }

func (v *volume) Reserve(size int64) error {
	if size < v.reserved || size%4096 != 0 {
		v.t.Errorf("room for %d bytes after %d", size, v.reserved)
	}
	v.reserved = size
	return nil
}

func (v *volume) WriteAt(p []byte, off int64) (int, error) {
	if off < v.end || off%4096 != 0 || len(p)%4096 != 0 || len(p) == 0 || off+int64(len(p)) > v.reserved {
		v.t.Errorf("%d bytes written at %d, after %d, with room for %d", len(p), off, v.end, v.reserved)
	}
	if v.fail != nil {
		return 0, v.fail
	}
	v.writes++
	v.end = off + int64(len(p))
	v.written += int64(len(p))
	for i := 0; i < len(p); i += 4096 {
		b := bytes.Clone(p[i : i+4096])
		if len(bytes.Trim(b, "\x00")) == 0 {
			v.t.Errorf("a block of zeroes is written at %d", off+int64(i))
		}
		v.content[off+int64(i)] = b
	}
	return len(p), nil
}

func (v *volume) Flush() error { v.flushed++; return nil }

// holds compares the volume with an image.
func (v *volume) holds(img []byte) {
	v.t.Helper()
	padded := append(bytes.Clone(img), make([]byte, -len(img)&4095)...)
	if v.reserved != int64(len(padded)) || v.flushed != 1 {
		v.t.Errorf("the volume has %d bytes and was flushed %d times, want %d bytes, flushed once", v.reserved, v.flushed, len(padded))
	}
	for off := 0; off < len(padded); off += 4096 {
		got := v.content[int64(off)]
		if got == nil {
			got = make([]byte, 4096)
		}
		if !bytes.Equal(got, padded[off:off+4096]) {
			v.t.Fatalf("the block at %d differs from the image's", off)
		}
	}
}

// disk makes an image of n bytes: noise with holes.
func disk(n int) []byte {
	rnd := rand.New(rand.NewPCG(5, 6))
	b := make([]byte, n)
	for at := 0; at < n; {
		end := min(n, at+1+rnd.IntN(300_000))
		if rnd.IntN(2) == 0 {
			for ; at < end; at++ {
				b[at] = byte(rnd.Uint32())
			}
		}
		at = end
	}
	return b
}

func TestImportOfKnownAndUnknownSize(t *testing.T) {
	for _, n := range []int{1, 511, 4096, 4097, 4<<20 - 1, 4 << 20, 4<<20 + 512, 13*mib + 777} {
		for _, known := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d bytes, known %v", n, known), func(t *testing.T) {
				img := disk(n)
				img[0] = 1
				size := int64(image.UnknownSize)
				if known {
					size = int64(n)
				}
				v := newVolume(t)
				res, err := image.Import(bytes.NewReader(img), v, image.Options{Size: size, Clock: clock.System{}})
				if err != nil {
					t.Fatal(err)
				}
				v.holds(img)
				if res.Size != v.reserved || res.Stored != v.written {
					t.Errorf("result %+v, want %d and %d", res, v.reserved, v.written)
				}
			})
		}
	}
}

func TestReaderThatComesInPieces(t *testing.T) {
	img := disk(5*mib + 100)
	for name, r := range map[string]io.Reader{
		"one byte at a time": iotest.OneByteReader(bytes.NewReader(img)),
		"data with the end":  iotest.DataErrReader(bytes.NewReader(img)),
	} {
		v := newVolume(t)
		if _, err := image.Import(r, v, image.Options{Size: int64(len(img))}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		v.holds(img)
	}
}

func TestACompressedInitrdIsKeptAsItIs(t *testing.T) {
	img := append([]byte("\x1f\x8b\x08\x00"), disk(9000)...)
	v := newVolume(t)
	if _, err := image.Import(bytes.NewReader(img), v, image.Options{Size: int64(len(img)), AsIs: true}); err != nil {
		t.Fatal(err)
	}
	v.holds(img)
}

func TestZeroesTakeNoSpace(t *testing.T) {
	v := newVolume(t)
	res, err := image.Import(io.LimitReader(zeroes{}, 1<<30), v, image.Options{Size: 1 << 30})
	if err != nil || res.Size != 1<<30 || res.Stored != 0 || v.writes != 0 {
		t.Errorf("a GiB of zeroes: %+v, %d writes, %v", res, v.writes, err)
	}
}

type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestImagesThatAreRefused(t *testing.T) {
	broken := errors.New("connection reset by peer")
	for _, c := range []struct {
		name string
		r    io.Reader
		opt  image.Options
		kind holdfast.Kind
		says string
	}{
		{"empty, said so", strings.NewReader(""), image.Options{Size: 0}, holdfast.Invalid, "empty"},
		{"empty", strings.NewReader(""), image.Options{Size: -1}, holdfast.Invalid, "empty"},
		{"truncated to nothing", strings.NewReader(""), image.Options{Size: mib}, holdfast.Invalid, "empty"},
		{"truncated", bytes.NewReader(disk(mib)), image.Options{Size: 3 * mib}, holdfast.Invalid, "truncated: 1048576 bytes of 3145728 came (2 MiB are missing)"},
		{"truncated at a buffer's end", bytes.NewReader(disk(4 * mib)), image.Options{Size: 5 * mib}, holdfast.Invalid, "truncated"},
		{"longer than announced", bytes.NewReader(disk(2 * mib)), image.Options{Size: mib}, holdfast.Invalid, "goes on after the 1048576 bytes"},
		{"longer than announced, by the buffer", bytes.NewReader(disk(4*mib + 1)), image.Options{Size: 4 * mib}, holdfast.Invalid, "goes on"},
		{"larger than the space, said so", strings.NewReader("x"), image.Options{Size: 5 << 30, Max: 1 << 30}, holdfast.NoSpace, "5 GiB or more, and there is room for 1 GiB"},
		{"larger than the space", zeroes{}, image.Options{Size: -1, Max: 64 * mib}, holdfast.NoSpace, "room for 64 MiB"},
		{"a connection that breaks", io.MultiReader(bytes.NewReader(disk(5*mib)), iotest.ErrReader(broken)), image.Options{Size: -1}, holdfast.IO, "broke off after 5 MiB: connection reset"},
		{"a fixed VHD", io.MultiReader(bytes.NewReader(disk(6*mib)), strings.NewReader("conectix"+strings.Repeat("\x00", 504))), image.Options{Size: -1}, holdfast.Invalid, "VHD image"},
		{"gzip", strings.NewReader("\x1f\x8b\x08\x00" + strings.Repeat("x", 600)), image.Options{Size: -1}, holdfast.Invalid, "gzip-compressed file, not a raw disk: decompress it on the way"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := image.Import(c.r, newVolume(t), c.opt)
			if !holdfast.IsKind(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v (%v), want %v and %q", err, holdfast.KindOf(err), c.kind, c.says)
			}
		})
	}
}

func TestVolumeThatFailsKeepsTheKind(t *testing.T) {
	v := newVolume(t)
	v.fail = holdfast.Errorf(holdfast.NoSpace, "the pool is full")
	_, err := image.Import(bytes.NewReader(disk(mib)), v, image.Options{Size: mib})
	if !holdfast.IsKind(err, holdfast.NoSpace) || !strings.Contains(err.Error(), "the pool is full") {
		t.Errorf("%v", err)
	}
}

// ticking is a clock that moves a second with every look.
type ticking struct {
	clock.System
	now time.Duration
}

func (c *ticking) Now() time.Duration { c.now += time.Second; return c.now }

func TestProgressTellsRateAndRest(t *testing.T) {
	var seen []image.Progress
	img := bytes.Repeat([]byte{1}, 16*mib)
	_, err := image.Import(bytes.NewReader(img), newVolume(t), image.Options{
		Size: 16 * mib, Clock: &ticking{}, Progress: func(p image.Progress) { seen = append(seen, p) }})
	if err != nil || len(seen) != 5 {
		t.Fatalf("%d reports, %v", len(seen), err)
	}
	// 4 MiB a second, by the clock that was given.
	want := image.Progress{Done: 8 * mib, Stored: 8 * mib, Total: 16 * mib, Rate: 4 * mib, ETA: 2 * time.Second}
	if seen[1] != want {
		t.Errorf("the second report is %+v, want %+v", seen[1], want)
	}
	if last := seen[4]; last.Done != 16*mib || last.Total != 16*mib || last.ETA != 0 {
		t.Errorf("the last report is %+v", last)
	}
}

func TestFormatsAreNamed(t *testing.T) {
	at := func(off int, s string) []byte { return append(make([]byte, off), s+strings.Repeat("\x00", 64)...) }
	mbr := make([]byte, 512)
	copy(mbr, "\xeb\x63\x90")
	binary.LittleEndian.PutUint16(mbr[510:], 0xaa55)
	for _, c := range []struct {
		head []byte
		want image.Format
	}{
		{mbr, image.Raw}, {nil, image.Raw}, {make([]byte, 512), image.Raw}, {at(0, "BZh and so on"), image.Raw},
		{at(0, "QFI\xfb\x00\x00\x00\x03"), image.QCOW2}, {at(0, "QFI\xfb\x00\x00\x00\x01"), image.QCOW1},
		{at(0, "KDMV\x01"), image.VMDK}, {at(0, "# Disk DescriptorFile\nversion=1"), image.VMDKText},
		{at(0, "conectix"), image.VHD}, {at(0, "vhdxfile"), image.VHDX}, {at(64, "\x7f\x10\xda\xbe"), image.VDI},
		{at(0, "QED\x00"), image.QED}, {at(0, "WithoutFreeSpace"), image.Parallels}, {at(257, "ustar\x00"), image.OVA},
		{at(0, "PK\x03\x04"), image.Zip}, {at(0, "7z\xbc\xaf\x27\x1c"), image.SevenZip},
		{at(0, "\x1f\x8b\x08\x00"), image.Gzip}, {at(0, "\xfd7zXZ\x00"), image.XZ}, {at(0, "\x28\xb5\x2f\xfd"), image.Zstd},
		{at(0, "BZh9\x31\x41\x59\x26\x53\x59"), image.Bzip2}, {at(0, "\x04\x22\x4d\x18"), image.LZ4},
		{at(0, "\r\n<!DOCTYPE HTML>"), image.HTML}, {at(0, "<html><body>404"), image.HTML},
	} {
		if got := image.Sniff(c.head); got != c.want {
			t.Errorf("%.20q is taken for a %v, want %v", c.head, got, c.want)
		} else if err := image.NotRaw(got); got != image.Raw && (!strings.Contains(err.Error(), got.String()) || strings.HasSuffix(err.Error(), ": ")) {
			t.Errorf("%v is refused with %q", got, err)
		}
	}
}

func FuzzSniff(f *testing.F) {
	f.Add([]byte("QFI\xfb\x00\x00\x00\x03"))
	f.Add([]byte("\xef\xbb\xbf <html"))
	f.Add(make([]byte, 512))
	f.Fuzz(func(t *testing.T, head []byte) {
		got := image.Sniff(head)
		if strings.Contains(got.String(), "unknown") {
			t.Fatalf("format %d has no name", got)
		}
		if long := append(bytes.Clone(head), make([]byte, image.SniffLen)...); len(head) >= image.SniffLen && image.Sniff(long) != got {
			t.Fatal("what comes later changes the format")
		}
	})
}

func FuzzImport(f *testing.F) {
	f.Add([]byte("some bytes"), int64(10), uint16(0))
	f.Add([]byte("more"), int64(-1), uint16(3))
	f.Add([]byte{}, int64(0), uint16(1))
	f.Fuzz(func(t *testing.T, in []byte, size int64, gaps uint16) {
		img := bytes.Clone(in)
		for range gaps % 4 {
			img = append(append(img, make([]byte, 3*4096+7)...), in...)
		}
		v := newVolume(t)
		res, err := image.Import(bytes.NewReader(img), v, image.Options{Size: max(size, -1), Max: 16 * mib})
		if err != nil {
			if holdfast.KindOf(err) == holdfast.Other {
				t.Fatalf("an error without a kind: %v", err)
			}
			return
		}
		if size >= 0 && size != int64(len(img)) {
			t.Fatalf("%d bytes announced, %d imported", size, len(img))
		}
		if res.Stored != v.written {
			t.Fatalf("%d bytes reported, %d written", res.Stored, v.written)
		}
		v.holds(img)
	})
}
