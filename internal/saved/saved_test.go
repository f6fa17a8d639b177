package saved

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// ram is a device in memory that fails where it is told to.
type ram struct {
	b      []byte
	writes int
	fail   int // the write that fails, from 1
}

func (d *ram) Size() int64 { return int64(len(d.b)) }

func (d *ram) ReadAt(p []byte, off int64) error {
	if off < 0 || off+int64(len(p)) > int64(len(d.b)) || off%holdfast.BlockSize != 0 || len(p)%holdfast.BlockSize != 0 {
		return holdfast.Errorf(holdfast.Invalid, "read %d at %d", len(p), off)
	}
	copy(p, d.b[off:])
	return nil
}

func (d *ram) WriteAt(p []byte, off int64) error {
	if d.writes++; d.writes == d.fail {
		return holdfast.Errorf(holdfast.IO, "write %d", d.writes)
	}
	if off < 0 || off+int64(len(p)) > int64(len(d.b)) || off%holdfast.BlockSize != 0 || len(p)%holdfast.BlockSize != 0 {
		return holdfast.Errorf(holdfast.Invalid, "write %d at %d", len(p), off)
	}
	copy(d.b[off:], p)
	return nil
}

func (d *ram) Flush() error { return nil }

func content(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func about() About {
	return About{VM: holdfast.VMID{UUID: holdfast.UUID{1}}, Volume: holdfast.VolumeID{UUID: holdfast.UUID{2}}, Kind: "a kind", Parts: []string{"2 CPUs"}}
}

func write(d *ram, b []byte) error {
	w, err := NewWriter(d, about())
	if err == nil {
		_, err = io.Copy(struct{ io.Writer }{w}, bytes.NewReader(b))
	}
	if err == nil {
		_, err = w.Close()
	}
	return err
}

func read(d *ram) ([]byte, *Reader, error) {
	r, err := Open(d)
	if err != nil {
		return nil, nil, err
	}
	b, err := io.ReadAll(r)
	return b, r, err
}

func TestAMemoryIsGivenBackAsItWas(t *testing.T) {
	for _, n := range []int{0, 1, 4096, Piece, Piece + 1, 3*Piece - 5} {
		want := content(n)
		d := &ram{b: content(int(Room(int64(n))) + 9*Piece)} // what it held before does not matter
		if err := write(d, want); err != nil {
			t.Fatal(err)
		}
		d.b = append(d.b, make([]byte, Piece)...) // a volume may be made larger
		got, r, err := read(d)
		if err != nil || !bytes.Equal(got, want) || !reflect.DeepEqual(r.About, about()) || r.Length != int64(n) {
			t.Fatalf("%d bytes: got %d, %+v, %v", n, len(got), r, err)
		}
	}
}

func TestAMemoryThatWasNotWrittenWhollyIsNone(t *testing.T) {
	whole := &ram{b: make([]byte, Room(4*Piece)+Piece)}
	if err := write(whole, content(3*Piece)); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= whole.writes; n++ {
		d := &ram{b: bytes.Clone(whole.b), fail: n} // over an older one
		if n == 1 {
			d.b = make([]byte, len(whole.b))
		}
		if err := write(d, content(3*Piece-7)); !holdfast.IsKind(err, holdfast.IO) {
			t.Fatalf("write %d fails: %v", n, err)
		}
		if _, _, err := read(d); !holdfast.IsKind(err, holdfast.Corrupt) {
			t.Fatalf("write %d failed, and there is a memory: %v", n, err)
		}
	}
}

func TestAMemoryThatDoesNotFitIsRefused(t *testing.T) {
	if err := write(&ram{b: make([]byte, 2*Piece)}, content(4*Piece)); !holdfast.IsKind(err, holdfast.NoSpace) {
		t.Fatalf("4 MiB on 2: %v", err)
	}
}

// Whatever bit is another one, what is read is what was written or an error.
func TestNoByteThatFailsItsHashIsGivenBack(t *testing.T) {
	want := content(2*Piece + 100)
	d := &ram{b: make([]byte, Room(int64(len(want)))+Piece)}
	if err := write(d, want); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(2, 2))
	refused := 0
	for i := range 300 {
		at := r.IntN(len(d.b))
		if i < 200 {
			at = r.IntN(2 * holdfast.BlockSize)
		}
		d.b[at] ^= 1 << r.IntN(8)
		got, _, err := read(d)
		if err != nil {
			refused++
		} else if !bytes.Equal(got, want) {
			t.Fatalf("byte %d is another one, and %d other bytes are given back", at, len(got))
		}
		if err := write(d, want); err != nil {
			t.Fatal(err)
		}
	}
	if refused < 100 {
		t.Fatalf("only %d of 300 were noticed", refused)
	}
}

// The page is what people read a memory by.
func TestThePageSaysWhatIsWritten(t *testing.T) {
	b, err := os.ReadFile("../../docs/format/memory.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, says := range []string{"`" + magic + "`", "version, 1", "1048576", "at most 3964", "| 4064 | 32 |", "| 96 | 4 |", "| 100 | n |"} {
		if !strings.Contains(string(b), says) {
			t.Errorf("docs/format/memory.md does not say %q", says)
		}
	}
	if maxAbout != 3964 || sumAt != 4064 || Piece != 1048576 || sha256.Size != 32 {
		t.Error("the constants are others than the page's")
	}
}

// A header is refused or fits its device, whatever stands in it.
func FuzzHeader(f *testing.F) {
	d := &ram{b: make([]byte, Room(Piece)+Piece)}
	if err := write(d, content(100)); err != nil {
		f.Fatal(err)
	}
	f.Add(d.b[:headSize], int64(len(d.b)))
	f.Add(make([]byte, headSize), int64(headSize))
	f.Add([]byte(magic), int64(0))
	f.Fuzz(func(t *testing.T, head []byte, size int64) {
		if len(head) == headSize { // else the hash would keep everything out
			sum := sha256.Sum256(head[:sumAt])
			copy(head[sumAt:], sum[:])
		}
		r, err := parseHeader(head, size)
		if err == nil && (r.Length < 0 || r.start < headSize || r.start+r.Length > size) {
			t.Fatalf("%d bytes at %d of %d", r.Length, r.start, size)
		}
	})
}
