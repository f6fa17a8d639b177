package nbd

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/export/buffer"
)

// structured enters the transmission phase with structured replies.
func structured(t testing.TB, path string) *wire {
	w := rawDial(t, path)
	w.greet()
	w.option(optStructuredReply, nil)
	w.option(optSetMetaContext, appendMeta(nil, "vol", contextAlloc))
	if typ := w.option(optGo, appendGo(nil, "vol")); typ != repAck {
		t.Fatalf("GO is answered with %#x", typ)
	}
	return w
}

// piece is a chunk of a structured reply.
type piece struct {
	typ  uint16
	off  uint64
	size int
	data []byte
}

func (w *wire) pieces(cmd request) []piece {
	w.t.Helper()
	w.send(appendRequest(nil, cmd))
	var out []piece
	for {
		h := w.recv(chunkSize)
		if be.Uint32(h) != magicStructured || be.Uint64(h[8:]) != cmd.cookie {
			w.t.Fatalf("chunk % x", h)
		}
		p := piece{typ: be.Uint16(h[6:]), data: w.recv(int(be.Uint32(h[16:])))}
		switch p.typ {
		case chunkData:
			p.off, p.data = be.Uint64(p.data), p.data[8:]
			p.size = len(p.data)
		case chunkHole:
			p.off, p.size = be.Uint64(p.data), int(be.Uint32(p.data[8:]))
		}
		out = append(out, p)
		if be.Uint16(h[4:])&chunkDone != 0 {
			return out
		}
	}
}

func TestReadsSendHolesInsteadOfZeroes(t *testing.T) {
	o := offer1(t, 4*mib, Limits{})
	w := structured(t, o.path)
	w.send(append(appendRequest(nil, request{cmd: cmdWrite, off: mib, length: 4096}), bytes.Repeat([]byte{1}, 4096)...))
	w.answer(0)
	for _, c := range []struct {
		what string
		cmd  request
		want []piece
	}{
		{"a block of zeroes", request{length: 4096}, []piece{{chunkHole, 0, 4096, nil}}},
		{"a block of data", request{off: mib, length: 4096}, []piece{{chunkData, mib, 4096, nil}}},
		{"zeroes, not fragmented", request{flags: cfDF, length: 4096}, []piece{{chunkData, 0, 4096, nil}}},
		{"data between zeroes", request{off: mib - 65536 - 100, length: 3 * 65536}, []piece{
			{chunkHole, mib - 65536 - 100, 65536 + 100, nil}, {chunkData, mib, 65536, nil}, {chunkHole, mib + 65536, 65536 - 100, nil}}},
		{"the same, not fragmented", request{flags: cfDF, off: mib - 65536, length: 3 * 65536}, []piece{{chunkData, mib - 65536, 3 * 65536, nil}}},
		{"nothing", request{}, []piece{{chunkNone, 0, 0, nil}}},
		{"beyond the end", request{off: 4 * mib, length: 1}, []piece{{chunkError, 0, 0, nil}}},
	} {
		got := w.pieces(c.cmd)
		if len(got) != len(c.want) {
			t.Errorf("%s: %d chunks, want %d", c.what, len(got), len(c.want))
			continue
		}
		for i, g := range got {
			if x := c.want[i]; g.typ != x.typ || g.off != x.off || g.size != x.size {
				t.Errorf("%s: chunk %d is type %d, %d bytes at %d; want type %d, %d at %d", c.what, i, g.typ, g.size, g.off, x.typ, x.size, x.off)
			}
		}
	}
}

func TestBlockStatus(t *testing.T) {
	o := offer1(t, 4*mib, Limits{})
	w := structured(t, o.path)
	w.send(append(appendRequest(nil, request{cmd: cmdWrite, off: mib, length: 8192}), bytes.Repeat([]byte{1}, 8192)...))
	w.answer(0)
	type ext struct{ n, state uint32 }
	for _, c := range []struct {
		cmd  request
		want []ext
	}{
		{request{cmd: cmdBlockStatus, length: 4 * mib}, []ext{{mib, 3}, {8192, 0}, {3*mib - 8192, 3}}},
		{request{cmd: cmdBlockStatus, flags: cfReqOne, off: mib - 512, length: 2 * mib}, []ext{{512, 3}}},
		{request{cmd: cmdBlockStatus, off: mib + 1, length: 1}, []ext{{1, 0}}},
	} {
		got := w.pieces(c.cmd)
		if len(got) != 1 || got[0].typ != chunkBlockStatus || len(got[0].data) != 4+8*len(c.want) {
			t.Fatalf("%+v is answered with %+v", c.cmd, got)
		}
		for i, x := range c.want {
			d := got[0].data[4+8*i:]
			if g := (ext{be.Uint32(d), be.Uint32(d[4:])}); g != x {
				t.Errorf("%+v: extent %d is %+v, want %+v", c.cmd, i, g, x)
			}
		}
	}
	if got := w.pieces(request{cmd: cmdBlockStatus, off: 4 * mib, length: 1}); got[0].typ != chunkError {
		t.Errorf("beyond the end: %+v", got)
	}
}

// The steady state of reads and writes allocates nothing on the server.
func TestRequestsAllocateNothing(t *testing.T) {
	if raced {
		t.Skip("the race detector makes sync.Pool forget buffers at random")
	}
	s, d := loopSession(t)
	block := make([]byte, 4096)
	for i := range block {
		block[i] = byte(i + 1)
	}
	one := func() {
		d.in.Write(appendRequest(d.head[:0], request{cmd: cmdWrite, length: 4096}))
		d.in.Write(block)
		d.in.Write(appendRequest(d.head[:0], request{cmd: cmdRead, length: 4096}))
		for range 2 {
			if err := s.readOne(); err != nil {
				t.Fatal(err)
			}
		}
		s.flush()
	}
	one()
	if n := testing.AllocsPerRun(200, one); n > 0.1 {
		t.Errorf("a write and a read allocate %.1f times", n)
	}
}

func TestCutRunCoversTheData(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		data := make([]byte, 1+rnd.IntN(8*holeUnit))
		for range rnd.IntN(4) {
			data[rnd.IntN(len(data))] = 1
		}
		off := rnd.Uint64N(1 << 40)
		rest, before := data, false
		for i := 0; len(rest) > 0; i++ {
			n, zero := cutRun(off, rest)
			if n <= 0 || n > len(rest) || zero != buffer.Zero(rest[:n]) || i > 0 && zero == before {
				t.Fatalf("run %d of %d bytes, zero %v after %v", i, n, zero, before)
			}
			off, rest, before = off+uint64(n), rest[n:], zero
		}
	}
}
