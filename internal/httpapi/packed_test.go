package httpapi

import (
	"compress/gzip"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// Each piece is read whole before the next one is sent, whatever made it.
func TestPiecesOfAPackedStreamAreReadAtOnce(t *testing.T) {
	noise := make([]byte, 200_000)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	pieces := []string{"retry: 1000\n\n", strings.Repeat(`data: {"kind":"vm","vm":{"name":"db1"}}`+"\n\n", 4000), ":\n\n", "", string(noise), strings.Repeat("x", packedFrom-1),
		strings.Repeat("y", packedFrom), strings.Repeat("z", 70_000), ":\n\n"}
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	next := make(chan string)
	go func() {
		defer to.Close()
		var p packed
		send := func(b []byte) {
			if _, err := to.Write(b); err != nil {
				t.Error(err)
			}
		}
		send(p.head())
		for piece := range next {
			send(p.pack([]byte(piece)))
		}
		send(p.end())
	}()
	var in *gzip.Reader
	for i, piece := range pieces {
		next <- piece
		if in == nil {
			if in, err = gzip.NewReader(from); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, len(piece))
		if _, err := io.ReadFull(in, got); err != nil || string(got) != piece {
			t.Fatalf("piece %d of %d bytes: %v, or other bytes", i, len(piece), err)
		}
	}
	close(next)
	if _, err := in.Read(make([]byte, 1)); err != io.EOF { // the sum is right
		t.Errorf("the stream ends with %v", err)
	}
	all := pieces[1]
	if n := len(new(packed).pack([]byte(all))); n*10 > len(all) {
		t.Errorf("%d bytes of JSON are %d", len(all), n)
	}
}
