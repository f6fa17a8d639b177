package buffer

import (
	"bytes"
	"testing"
	"unsafe"

	"github.com/holdfast-cloud/holdfast"
)

func TestBuffersAreLongEnoughAndAligned(t *testing.T) {
	var p Pool
	for _, n := range []int{1, 4096, 4097, 65536, 65537, holdfast.MaxIO - 1, holdfast.MaxIO} {
		b := p.Get(n)
		if len(b.Mem) < n || len(b.Mem) > max(4096, 2*n) {
			t.Errorf("a buffer for %d bytes has %d", n, len(b.Mem))
		}
		if at := uintptr(unsafe.Pointer(unsafe.SliceData(b.Mem))); at%holdfast.BlockSize != 0 {
			t.Errorf("a buffer for %d bytes starts at %#x", n, at)
		}
		p.Put(b)
	}
	p.Put(nil)
}

// Short and long payloads in any order arrive as they were appended, though
// the batch's own memory moves while it grows; and again when it is used anew.
func TestABatchIsSentInOrder(t *testing.T) {
	var p Pool
	var b Batch
	for round := range 3 {
		var want []byte
		for i, n := range []int{0, 5, copyMax + 1, copyMax, 3 * copyMax, 100, copyMax + 7} {
			header := bytes.Repeat([]byte{byte(i), byte(round)}, 24)
			x := p.Get(max(n, 1))
			data := x.Mem[:n]
			for k := range data {
				data[k] = byte(k*7 + i + round)
			}
			b.Buf = append(b.Buf, header...)
			want = append(append(want, header...), data...)
			if refers := b.Payload(data); refers != (n > copyMax) {
				t.Fatalf("%d bytes are referred to: %v", n, refers)
			} else if refers {
				b.Hold(x)
			}
			if b.Size() != len(want) || b.Empty() {
				t.Fatalf("the batch has %d bytes, want %d", b.Size(), len(want))
			}
		}
		var got bytes.Buffer
		if err := b.Send(&got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Fatal("what was sent is not what was appended")
		}
		if b.Reset(&p); !b.Empty() {
			t.Fatal("a batch that was reset is not empty")
		}
	}
}

func TestTheRestOfABatchIsSent(t *testing.T) {
	b := Batch{Buf: []byte("replies"), sent: 3}
	var got bytes.Buffer
	if err := b.Send(&got); err != nil || got.String() != "lies" {
		t.Fatalf("%q, %v", got.String(), err)
	}
}

func TestZero(t *testing.T) {
	for _, n := range []int{0, 1, 2, 4096} {
		b := make([]byte, n)
		if !Zero(b) {
			t.Errorf("%d zeroes are not zero", n)
		}
		for i := range b {
			b[i] = 1
			if Zero(b) {
				t.Errorf("%d bytes with a 1 at %d are zero", n, i)
			}
			b[i] = 0
		}
	}
}
