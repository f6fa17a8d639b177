package nbd

import (
	"bufio"
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/buffer"
	"github.com/holdfast-cloud/holdfast/internal/export/memexport"
)

// script is a connection whose client has said everything in advance.
type script struct {
	in   bytes.Buffer
	out  int // bytes the server sent
	head [64]byte
}

func (s *script) Read(b []byte) (int, error)       { return s.in.Read(b) }
func (s *script) Write(b []byte) (int, error)      { s.out += len(b); return len(b), nil }
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// loopSession is a session over a scripted connection, without goroutines.
func loopSession(t testing.TB) (*session, *script) {
	disk, err := newTarget(t, mib, false).Open(false)
	if err != nil {
		t.Fatal(err)
	}
	nc := &script{}
	s := newSession(nc, nc, bufio.NewReaderSize(nc, readBuffer), disk, &buffer.Pool{}, Limits{}.withDefaults())
	s.structured, s.contexts = true, []context{{name: contextAlloc}}
	return s, nc
}

// single is a house of one volume.
type single struct{ target export.Target }

func (h single) find(name string) (string, export.Target, bool) {
	return "vol", h.target, name == "" || name == "vol"
}
func (h single) list() []string { return []string{"vol"} }
func (h single) open(_ string, ro bool) (export.Disk, bool, error) {
	d, err := h.target.Open(ro)
	return d, false, err
}

func FuzzHandshake(f *testing.F) {
	start := []byte{0, 0, 0, 3}
	f.Add(append(bytes.Clone(start), optionBytes(optGo, appendGo(nil, "vol", 3, 1))...), false)
	f.Add(append(bytes.Clone(start), optionBytes(optExportName, []byte("vol"))...), false)
	f.Add(append(append(bytes.Clone(start), optionBytes(optStructuredReply, nil)...),
		optionBytes(optSetMetaContext, appendMeta(nil, "vol", contextAlloc, "base:"))...), false)
	f.Add(append(append(bytes.Clone(start), optionBytes(optExtendedHeaders, nil)...),
		optionBytes(optSetMetaContext, appendMeta(nil, "vol", "holdfast:dirty:a", contextAlloc, "holdfast:dirty:a"))...), false)
	f.Add(append(append(bytes.Clone(start), optionBytes(optStructuredReply, nil)...), optionBytes(optListMetaContext, appendMeta(nil, "vol", "holdfast:"))...), false)
	f.Add(append(bytes.Clone(start), optionBytes(optStartTLS, nil)...), true)
	f.Add(append(bytes.Clone(start), optionBytes(optList, nil)...), false)
	f.Fuzz(func(t *testing.T, in []byte, needTLS bool) {
		target, _ := memexport.New(mib, false)
		target.Keep(snapID(1), "a")
		target.Keep(snapID(2), "b")
		nc := &script{}
		nc.in.Write(in)
		h := &handshake{house: single{target}, needTLS: needTLS, options: 16, nc: nc}
		a, err := h.run()
		if (a == nil) == (err == nil) {
			t.Fatalf("agreement %v and error %v", a, err)
		}
		if a != nil {
			if needTLS {
				t.Fatal("a client got in without TLS")
			}
			a.disk.Close()
		}
		d, err := target.Open(false)
		if err != nil {
			t.Fatalf("a failed handshake keeps the volume: %v", err)
		}
		d.Close()
		if nc.out > 1<<20+64*len(in) {
			t.Fatalf("%d bytes are answered with %d", len(in), nc.out)
		}
	})
}

func FuzzTransmission(f *testing.F) {
	var b []byte
	for cmd := range uint16(commands) {
		b = appendRequest(b, request{cmd: cmd, cookie: uint64(cmd), off: 4096, length: 0})
	}
	f.Add(b, true)
	f.Add(append(appendRequest(nil, request{cmd: cmdWrite, off: 5, length: 3, flags: cfFUA}), 1, 2, 3), false)
	f.Add(appendRequest(nil, request{cmd: cmdBlockStatus, length: 1 << 20}), true)
	f.Add(appendRequest(nil, request{cmd: cmdRead, length: 1<<32 - 1}), true)
	f.Add(appendRequest(nil, request{cmd: cmdWriteZeroes, flags: cfFastZero | cfNoHole, length: 8192}), false)
	f.Fuzz(func(t *testing.T, in []byte, structured bool) {
		s, nc := loopSession(t)
		s.structured = structured
		if !structured {
			s.contexts = nil
		}
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

func FuzzOptions(f *testing.F) {
	f.Add(appendGo(nil, "vol", 1, 2, 3))
	f.Add(appendMeta(nil, "vol", "base:allocation", "base:"))
	f.Add([]byte{255, 255, 255, 255, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, good := parseGo(b); good && (!validString(o.name) || len(o.name) > len(b)) {
			t.Fatalf("GO names %q", o.name)
		}
		if o, tooBig, good := parseMeta(b); good && !tooBig && len(o.queries) > maxQueries {
			t.Fatalf("%d queries", len(o.queries))
		}
	})
}

// FuzzReplies feeds the client what a bad server might send.
func FuzzReplies(f *testing.F) {
	f.Add(appendSimple(nil, 1, ok))
	f.Add(append(be.AppendUint64(appendChunk(nil, chunkDone, chunkData, 2, 8+512), 4096), make([]byte, 512)...))
	f.Add(append(be.AppendUint32(appendChunk(nil, chunkDone, chunkBlockStatus, 3, 12), 1), 0, 0, 16, 0, 0, 0, 0, 3))
	f.Add(append(appendChunk(nil, chunkDone, chunkError, 1, 9), 0, 0, 0, 5, 0, 3, 'b', 'a', 'd'))
	f.Fuzz(func(t *testing.T, in []byte) {
		done := 0
		count := func(*export.Request, error) { done++ }
		read := &export.Request{Op: export.Read, Off: 4096, Length: 512, Data: make([]byte, 512), Done: count}
		flush := &export.Request{Op: export.Flush, Done: count}
		status := &call{done: make(chan struct{})}
		c := &Client{nc: &script{}, received: make(chan struct{}), flying: map[uint64]*call{
			1: {req: flush}, 2: {req: read, off: 4096}, 3: status,
		}}
		c.receive(bufio.NewReader(bytes.NewReader(in)))
		<-status.done
		if done != 2 {
			t.Fatalf("%d of 2 requests were completed", done)
		}
	})
}
