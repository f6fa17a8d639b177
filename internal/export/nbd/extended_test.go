package nbd

import (
	"bytes"
	"testing"
)

// appendWide is appendRequest with an extended header.
func appendWide(b []byte, r request) []byte {
	return be.AppendUint64(appendRequestHead(b, magicExtendedRequest, r), r.length)
}

// extendedClient enters the transmission phase with extended headers.
func extendedClient(t testing.TB, path string) *wire {
	w := rawDial(t, path)
	w.greet()
	for _, step := range []struct {
		opt  uint32
		data []byte
		want uint32
	}{
		{optStructuredReply, nil, repAck},
		{optExtendedHeaders, []byte{1}, repErrInvalid},
		{optExtendedHeaders, nil, repAck},
		{optExtendedHeaders, nil, repErrInvalid},
		{optStructuredReply, nil, repErrExtended},
	} {
		if typ := w.option(step.opt, step.data); typ != step.want {
			t.Fatalf("option %d with %d bytes is answered with %#x, want %#x", step.opt, len(step.data), typ, step.want)
		}
	}
	w.option(optSetMetaContext, appendMeta(nil, "vol", contextAlloc))
	if typ := w.option(optGo, appendGo(nil, "vol")); typ != repAck {
		t.Fatalf("GO is answered with %#x", typ)
	}
	return w
}

// wide sends a request and returns the types of the chunks of its answer, and
// the content of the last.
func (w *wire) wide(cmd request, payload ...byte) (types []uint16, last []byte) {
	w.t.Helper()
	w.send(append(appendWide(nil, cmd), payload...))
	for {
		h := w.recv(extendedSize)
		if be.Uint32(h) != magicExtendedReply || be.Uint64(h[8:]) != cmd.cookie || be.Uint64(h[16:]) != cmd.off {
			w.t.Fatalf("chunk % x", h)
		}
		types = append(types, be.Uint16(h[6:]))
		last = w.recv(int(be.Uint64(h[24:])))
		if be.Uint16(h[4:])&chunkDone != 0 {
			return types, last
		}
	}
}

// wideError is the error that a request is answered with.
func (w *wire) wideError(cmd request, payload ...byte) errno {
	w.t.Helper()
	types, last := w.wide(cmd, payload...)
	if types[0] == chunkNone {
		return ok
	}
	if types[0] != chunkError {
		w.t.Fatalf("%+v is answered with %v", cmd, types)
	}
	return errno(be.Uint32(last))
}

const gib = 1 << 30

// A volume of more than 4 GiB is zeroed, trimmed and described with one request.
func TestRequestsOfMoreThanFourGigabytes(t *testing.T) {
	const size = 12 * gib
	w := extendedClient(t, offer1(t, size, Limits{}).path)
	block := bytes.Repeat([]byte{7}, 4096)
	if e := w.wideError(request{cmd: cmdWrite, flags: cfPayload, cookie: 5, off: 5 * gib, length: 4096}, block...); e != ok {
		t.Fatalf("a write: error %d", e)
	}
	type ext struct{ n, state uint64 }
	status := func(cmd request, payload ...byte) []ext {
		types, b := w.wide(cmd, payload...)
		if len(types) != 1 || types[0] != chunkStatusExt || be.Uint32(b) != firstContext || len(b) != 8+16*int(be.Uint32(b[4:])) {
			t.Fatalf("%+v is answered with %v, % x", cmd, types, b)
		}
		var out []ext
		for b = b[8:]; len(b) > 0; b = b[16:] {
			out = append(out, ext{be.Uint64(b), be.Uint64(b[8:])})
		}
		return out
	}
	want := []ext{{5 * gib, 3}, {4096, 0}, {7*gib - 4096, 3}}
	about := be.AppendUint32(be.AppendUint64(nil, size), firstContext)
	for _, got := range [][]ext{
		status(request{cmd: cmdBlockStatus, length: size}),
		status(request{cmd: cmdBlockStatus, flags: cfPayload, length: uint64(len(about))}, about...),
	} {
		if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
			t.Fatalf("the volume is described as %v, want %v", got, want)
		}
	}
	if types, data := w.wide(request{cmd: cmdRead, cookie: 6, off: 5 * gib, length: 4096}); types[0] != chunkData || !bytes.Equal(data[8:], block) {
		t.Fatalf("a read is answered with %v", types)
	}
	for _, cmd := range []uint16{cmdWriteZeroes, cmdTrim, cmdCache} {
		if e := w.wideError(request{cmd: cmd, off: gib, length: 10 * gib}); e != ok {
			t.Fatalf("command %d over 10 GiB: error %d", cmd, e)
		}
	}
	if got := status(request{cmd: cmdBlockStatus, length: size}); len(got) != 1 || got[0] != (ext{size, 3}) {
		t.Fatalf("after zeroing, the volume is described as %v", got)
	}
}

// Whatever is wrong with an extended request, its payload is passed over and the
// next one is served.
func TestBadExtendedRequestsAreAnswered(t *testing.T) {
	w := extendedClient(t, offer1(t, 4*mib, Limits{}).path)
	ids := func(n uint64, ids ...uint32) []byte {
		b := be.AppendUint64(nil, n)
		for _, id := range ids {
			b = be.AppendUint32(b, id)
		}
		return b
	}
	for _, c := range []struct {
		what    string
		cmd     request
		payload []byte
		want    errno
	}{
		{"a read with a payload", request{cmd: cmdRead, flags: cfPayload, length: 8}, make([]byte, 8), eInval},
		{"a trim with a payload", request{cmd: cmdTrim, flags: cfPayload, length: 4096}, make([]byte, 4096), eInval},
		{"a flush with a payload", request{cmd: cmdFlush, flags: cfPayload, length: 4}, make([]byte, 4), eInval},
		{"an unknown command with a payload", request{cmd: 77, flags: cfPayload, length: 4}, make([]byte, 4), eInval},
		{"a write beyond the end", request{cmd: cmdWrite, flags: cfPayload, off: 4 * mib, length: 4}, make([]byte, 4), eNoSpace},
		{"a write that forgets the flag", request{cmd: cmdWrite, length: 4}, make([]byte, 4), ok},
		{"a trim of everything there can be", request{cmd: cmdTrim, length: 1<<64 - 1}, nil, eInval},
		{"a status of an unknown context", request{cmd: cmdBlockStatus, flags: cfPayload, length: 12}, ids(4096, 9), eInval},
		{"a status of a context twice", request{cmd: cmdBlockStatus, flags: cfPayload, length: 16}, ids(4096, 1, 1), eInval},
		{"a status of no context", request{cmd: cmdBlockStatus, flags: cfPayload, length: 8}, ids(4096), eInval},
		{"a status with half a payload", request{cmd: cmdBlockStatus, flags: cfPayload, length: 3}, make([]byte, 3), eInval},
		{"a status with a very long payload", request{cmd: cmdBlockStatus, flags: cfPayload, length: 1 << 20}, make([]byte, 1<<20), eInval},
		{"a status beyond the end", request{cmd: cmdBlockStatus, flags: cfPayload, length: 12}, ids(5*mib, 1), eInval},
		{"a read", request{cmd: cmdRead, length: 0}, nil, ok},
	} {
		if got := w.wideError(c.cmd, c.payload...); got != c.want {
			t.Errorf("%s: error %d, want %d", c.what, got, c.want)
		}
	}
	w.send(appendRequest(nil, request{cmd: cmdFlush}))
	w.send(make([]byte, 4)) // as long as an extended one, but it is not one
	w.wantEnd()
}

func FuzzExtended(f *testing.F) {
	var b []byte
	for cmd := range uint16(commands) {
		b = appendWide(b, request{cmd: cmd, cookie: uint64(cmd), off: 4096})
	}
	f.Add(b)
	f.Add(append(appendWide(nil, request{cmd: cmdWrite, off: 5, length: 3, flags: cfFUA | cfPayload}), 1, 2, 3))
	f.Add(append(appendWide(nil, request{cmd: cmdBlockStatus, flags: cfPayload, length: 12}), 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 1))
	f.Add(appendWide(nil, request{cmd: cmdTrim, length: 1<<64 - 1}))
	f.Fuzz(func(t *testing.T, in []byte) {
		s, nc := loopSession(t)
		s.extended = true
		nc.in.Write(in)
		if err := s.run(); err == nil && nc.in.Len() > 0 && !bytes.Contains(in, []byte{0, cmdDisc}) {
			t.Fatalf("%d bytes were left unread", nc.in.Len())
		}
		if s.pending != 0 || s.dead == nil && (s.count != 0 || s.bytes != 0) {
			t.Fatalf("the window is left at %d requests, %d bytes, %d pending", s.count, s.bytes, s.pending)
		}
		s.disk.Close()
	})
}
