package buffer

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/transport/socket"
)

// What a socket does not take at once is sent later, wherever in the batch that
// begins.
func TestABatchThatASocketTakesInParts(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	out, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	in, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	conn, _ := socket.New(out)
	defer conn.Close()
	var p Pool
	var b Batch
	for round := range 8 {
		var want []byte
		for i := range 150 { // more pieces than one system call takes
			n := (i*7919 + round*104729) % (3 * copyMax)
			x := p.Get(n + 1)
			mem := x.Mem[:n]
			for k := range mem {
				mem[k] = byte(k*3 + i + round)
			}
			b.Buf = append(b.Buf, byte(i))
			want = append(append(want, byte(i)), mem...)
			if b.Payload(mem) {
				b.Hold(x)
			}
		}
		got := make(chan []byte)
		if whole := b.SendNow(conn); whole {
			t.Fatal("a socket took all of a batch that is longer than what it holds")
		}
		go func() {
			all := make([]byte, len(want))
			n, _ := io.ReadFull(in, all)
			got <- all[:n]
		}()
		if whole := round%2 == 0 && b.SendNow(conn); !whole { // some more, or not
			if err := b.Send(conn); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(<-got, want) {
			t.Fatalf("round %d: what arrives is not what was appended", round)
		}
		b.Reset(&p)
	}
}
