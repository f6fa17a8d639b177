package nbd

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/export/memexport"
)

const kib, mib = 1 << 10, 1 << 20

// healthy checks that a decent client is served after whatever happened.
func healthy(t *testing.T, o *offering) {
	t.Helper()
	c := o.dial(t)
	defer c.Close()
	want := []byte("still here")
	if _, err := c.WriteAt(want, 100); err != nil {
		t.Fatalf("write afterwards: %v", err)
	}
	got := make([]byte, len(want))
	if _, err := c.ReadAt(got, 100); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read afterwards: %q, %v", got, err)
	}
}

// freed waits until no session holds the volume.
func freed(t *testing.T, o *offering) {
	t.Helper()
	waitFor(t, "the volume to be closed", func() bool {
		d, err := o.target.Open(false)
		if err == nil {
			d.Close()
		}
		return err == nil
	})
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 3000 {
		if done() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}

func TestClientsThatSendGarbage(t *testing.T) {
	o := offer1(t, mib, Limits{Options: 8})
	for _, c := range []struct {
		name string
		do   func(w *wire)
	}{
		{"nothing at all", func(w *wire) { w.recv(18); w.nc.Close() }},
		{"an HTTP request", func(w *wire) { w.recv(18); w.send([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); w.wantEnd() }},
		{"unknown client flags", func(w *wire) { w.recv(18); w.send([]byte{0, 0, 0, 0x80}); w.wantEnd() }},
		{"an option of a gigabyte", func(w *wire) {
			w.greet()
			b := optionBytes(optGo, nil)
			be.PutUint32(b[12:], 1<<30)
			w.send(b)
			w.wantEnd()
		}},
		{"options without end", func(w *wire) {
			w.greet()
			for range 8 {
				if typ := w.option(77, nil); typ != repErrUnsup {
					t.Errorf("an unknown option is answered with %#x", typ)
				}
			}
			w.wantEnd()
		}},
		{"a wrong request magic", func(w *wire) { w.enter().send(make([]byte, requestSize)); w.wantEnd() }},
		{"a write longer than is taken", func(w *wire) {
			w.enter().send(appendRequest(nil, request{cmd: cmdWrite, length: holdfast.MaxIO + 1}))
			w.wantEnd()
		}},
		{"half a request header", func(w *wire) { w.enter().send([]byte{0x25, 0x60}); w.nc.Close() }},
		{"half a write", func(w *wire) {
			w.enter().send(appendRequest(nil, request{cmd: cmdWrite, length: 8192}))
			w.send(make([]byte, 5000))
			w.nc.Close()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.do(rawDial(t, o.path))
			freed(t, o)
			healthy(t, o)
		})
	}
	if n := o.faults.Seen(export.Write); n != 9 {
		t.Errorf("%d writes reached the volume, want the 9 of the decent clients", n)
	}
}

func TestBadOptionsAreAnswered(t *testing.T) {
	o := offer1(t, mib, Limits{})
	w := rawDial(t, o.path)
	w.greet()
	for _, c := range []struct {
		what string
		opt  uint32
		data []byte
		want uint32
	}{
		{"list with data", optList, []byte{1}, repErrInvalid},
		{"list", optList, nil, repAck},
		{"STARTTLS on a unix socket", optStartTLS, nil, repErrUnsup},
		{"GO for another volume", optGo, appendGo(nil, "other"), repErrUnknown},
		{"GO cut short", optGo, []byte{0, 0}, repErrInvalid},
		{"GO whose name is longer than the option", optGo, []byte{0, 0, 1, 0, 'x', 0, 0}, repErrInvalid},
		{"GO with fewer infos than it says", optGo, []byte{0, 0, 0, 0, 0, 2, 0, 3}, repErrInvalid},
		{"INFO", optInfo, appendGo(nil, "vol", infoName, infoBlockSize, 99), repAck},
		{"a context before structured replies", optSetMetaContext, appendMeta(nil, "vol", contextAlloc), repErrInvalid},
		{"structured replies with data", optStructuredReply, []byte{0}, repErrInvalid},
		{"structured replies", optStructuredReply, nil, repAck},
		{"contexts of another volume", optListMetaContext, appendMeta(nil, "other"), repErrUnknown},
		{"a million queries", optSetMetaContext, be.AppendUint32(appendString(nil, "vol"), 1e6), repErrTooBig},
		{"queries that are not there", optSetMetaContext, be.AppendUint32(appendString(nil, "vol"), 2), repErrInvalid},
		{"an unknown context", optSetMetaContext, appendMeta(nil, "vol", "x-moon:phase"), repAck},
		{"all contexts", optListMetaContext, appendMeta(nil, "vol"), repAck},
		{"an option of the future", 12345, nil, repErrUnsup},
	} {
		if got := w.option(c.opt, c.data); got != c.want {
			t.Errorf("%s is answered with %#x, want %#x", c.what, got, c.want)
		}
	}
	if typ := w.option(optAbort, []byte("bye")); typ != repAck {
		t.Errorf("ABORT is answered with %#x", typ)
	}
	w.wantEnd()
}

func TestBadRequestsAreAnswered(t *testing.T) {
	o := offer1(t, mib, Limits{})
	w := rawDial(t, o.path).enter()
	for i, c := range []struct {
		what string
		cmd  request
		want errno
	}{
		{"a read beyond the end", request{cmd: cmdRead, off: mib - 1, length: 2}, eInval},
		{"a read at the end of time", request{cmd: cmdRead, off: 1<<64 - 1, length: 1}, eInval},
		{"a write beyond the end", request{cmd: cmdWrite, off: mib, length: 1}, eNoSpace},
		{"a trim beyond the end", request{cmd: cmdTrim, off: 0, length: 1<<32 - 1}, eInval},
		{"zeroes beyond the end", request{cmd: cmdWriteZeroes, off: mib, length: 4096}, eNoSpace},
		{"an unknown command", request{cmd: 200}, eInval},
		{"an unknown flag", request{cmd: cmdWrite, flags: 1 << 9, length: 1}, eInval},
		{"DF without structured replies", request{cmd: cmdRead, flags: cfDF, length: 1}, eInval},
		{"block status without a context", request{cmd: cmdBlockStatus, length: 1}, eInval},
		{"a flush of a range", request{cmd: cmdFlush, length: 1}, eInval},
		{"unaligned fast zeroes", request{cmd: cmdWriteZeroes, flags: cfFastZero, off: 1, length: 4096}, eNotSup},
		{"aligned fast zeroes", request{cmd: cmdWriteZeroes, flags: cfFastZero | cfNoHole, length: 4096}, ok},
		{"a trim of nothing", request{cmd: cmdTrim}, ok},
		{"a read of nothing", request{cmd: cmdRead}, ok},
		{"a cache hint", request{cmd: cmdCache, length: mib}, ok},
		{"a flush with FUA", request{cmd: cmdFlush, flags: cfFUA}, ok},
	} {
		c.cmd.cookie = uint64(1000 + i)
		w.send(appendRequest(nil, c.cmd))
		if c.cmd.cmd == cmdWrite {
			w.send(make([]byte, c.cmd.length))
		}
		if got := w.answer(c.cmd.cookie); got != c.want {
			t.Errorf("%s is answered with error %d, want %d", c.what, got, c.want)
		}
	}
}

func TestReadOnlyVolume(t *testing.T) {
	s := newServer(t, Limits{})
	path, err := s.Publish(newID(), "image", newTarget(t, mib, true))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // several at a time
		w := rawDial(t, path).enter()
		for i, cmd := range []uint16{cmdTrim, cmdWriteZeroes} {
			if e := w.ask(request{cmd: cmd, length: 4096, cookie: uint64(i)}); e != ePerm {
				t.Errorf("command %d on a read-only volume: error %d, want EPERM", cmd, e)
			}
		}
		w.send(append(appendRequest(nil, request{cmd: cmdWrite, length: 3, cookie: 9}), 1, 2, 3))
		if e := w.answer(9); e != ePerm {
			t.Errorf("a write on a read-only volume: error %d, want EPERM", e)
		}
		if e := w.ask(request{cmd: cmdFlush}); e != ok {
			t.Errorf("a flush on a read-only volume: error %d", e)
		}
	}
}

func TestSecondWriterIsRefused(t *testing.T) {
	o := offer1(t, mib, Limits{})
	c := o.dial(t)
	if _, err := Dial("unix", o.path, "vol", nil); !holdfast.IsKind(err, holdfast.Busy) {
		t.Fatalf("a second writer: %v, want it refused as busy", err)
	}
	c.Close()
	healthy(t, o)
}

func TestDiskErrorsReachTheClient(t *testing.T) {
	o := offer1(t, mib, Limits{})
	c := o.dial(t)
	defer c.Close()
	for _, x := range []struct {
		err  error
		want holdfast.Kind
	}{
		{holdfast.Errorf(holdfast.NoSpace, "the pool is full"), holdfast.NoSpace},
		{holdfast.Errorf(holdfast.Corrupt, "block 3 does not match its hash"), holdfast.IO},
		{holdfast.Errorf(holdfast.Denied, "no"), holdfast.Denied},
		{holdfast.Errorf(holdfast.Other, "%s", strings.Repeat("long", 5000)), holdfast.IO},
	} {
		for _, op := range []export.Op{export.Read, export.Write, export.Flush, export.Trim, export.Zero} {
			o.faults.Fail(op, 0, x.err)
			r := export.Request{Op: op, Length: 4096, Data: make([]byte, 4096)}
			if err := c.do(r); !holdfast.IsKind(err, x.want) {
				t.Errorf("operation %d failing with %v: the client sees %v", op, holdfast.KindOf(x.err), err)
			}
		}
	}
}

// A dead session is never answered: an initiator that reconnects repeats what
// was not answered, one that is told of an error gives up.
func TestDeadSessionClosesTheConnection(t *testing.T) {
	for _, kind := range []holdfast.Kind{holdfast.Fenced, holdfast.LostCache, holdfast.Closed} {
		t.Run(kind.String(), func(t *testing.T) {
			o := offer1(t, mib, Limits{})
			w := rawDial(t, o.path).enter()
			o.faults.Hold()
			w.send(appendRequest(nil, request{cmd: cmdRead, length: 4096}))
			w.send(appendRequest(nil, request{cmd: cmdFlush, cookie: 1}))
			waitFor(t, "both requests", func() bool { return o.faults.Held() == 2 })
			o.faults.End(holdfast.Errorf(kind, "over"))
			w.wantEnd()
			o.faults.End(nil)
			freed(t, o)
			healthy(t, o)
		})
	}
}

func TestClientThatVanishesWithRequestsInFlight(t *testing.T) {
	o := offer1(t, mib, Limits{})
	o.faults.Hold()
	w := rawDial(t, o.path).enter()
	for i := range 50 {
		w.send(appendRequest(nil, request{cmd: cmdRead, cookie: uint64(i), length: 64 * kib}))
	}
	waitFor(t, "the requests", func() bool { return o.faults.Held() == 50 })
	w.nc.Close()
	if _, err := o.target.Open(false); !holdfast.IsKind(err, holdfast.Busy) {
		t.Fatalf("the session ended before its requests had: %v", err)
	}
	o.faults.Release()
	freed(t, o)
	healthy(t, o)
}

func TestClientThatNeverReadsItsReplies(t *testing.T) {
	o := offer1(t, 64*mib, Limits{Bytes: mib, Requests: 16})
	c := o.dial(t)
	noise := bytes.Repeat([]byte("noise"), 64*mib/5)
	if _, err := c.WriteAt(noise, 0); err != nil {
		t.Fatal(err)
	}
	c.Close()
	freed(t, o)
	w := rawDial(t, o.path).enter()
	// More than the socket holds; the window stops the server from reading.
	for i := range 64 {
		w.send(appendRequest(nil, request{cmd: cmdRead, cookie: uint64(i), length: mib}))
	}
	waitFor(t, "the first reads", func() bool { return o.faults.Seen(export.Read) > 0 })
	o.srv.Withdraw(o.id) // not held up by a client that does not listen
	if n := o.faults.Seen(export.Read); n > 16 {
		t.Errorf("%d reads of 1 MiB were begun for a window of 1 MiB", n)
	}
	if _, err := os.Stat(o.path); !os.IsNotExist(err) {
		t.Errorf("the socket of a withdrawn volume: %v", err)
	}
}

// What completes on a foreign task is answered there as far as the socket
// takes it: the task does not wait for the client, and no reply is torn.
func TestLateRepliesDoNotWaitForTheClient(t *testing.T) {
	const n, size = 200, 16 * kib
	o := offer1(t, 4*mib, Limits{})
	c := o.dial(t)
	noise := make([]byte, 4*mib)
	for i := range noise {
		noise[i] = byte(i>>12) + byte(i%251)
	}
	if _, err := c.WriteAt(noise, 0); err != nil {
		t.Fatal(err)
	}
	c.Close()
	freed(t, o)
	w := rawDial(t, o.path).enter()
	o.faults.Hold()
	for i := range n {
		w.send(appendRequest(nil, request{cmd: cmdRead, cookie: uint64(i), off: uint64(i) * size, length: size}))
	}
	waitFor(t, "the requests", func() bool { return o.faults.Held() == n })
	o.faults.Release() // completes all of them here, though nobody reads yet
	seen := map[uint64]bool{}
	for range n {
		h := w.recv(16)
		cookie := be.Uint64(h[8:])
		if be.Uint32(h) != magicSimple || be.Uint32(h[4:]) != 0 || cookie >= n || seen[cookie] {
			t.Fatalf("reply % x", h)
		}
		seen[cookie] = true
		if !bytes.Equal(w.recv(size), noise[cookie*size:(cookie+1)*size]) {
			t.Fatalf("read %d: the data of another", cookie)
		}
	}
	w.nc.Close()
	freed(t, o)
	healthy(t, o)
}

func TestHandshakeThatNeverEnds(t *testing.T) {
	o := offer1(t, mib, Limits{Handshake: 50 * time.Millisecond})
	w := rawDial(t, o.path)
	w.recv(18)
	w.wantEnd()
	healthy(t, o)
}

func TestTooManyConnections(t *testing.T) {
	o := offer1(t, mib, Limits{Connections: 2})
	a, b := rawDial(t, o.path), rawDial(t, o.path)
	a.greet()
	b.greet()
	rawDial(t, o.path).wantEnd()
	a.nc.Close()
	b.nc.Close()
	waitFor(t, "a place", func() bool {
		c, err := Dial("unix", o.path, "", nil)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func TestWithdrawnVolumeEndsItsSessions(t *testing.T) {
	o := offer1(t, mib, Limits{})
	w := rawDial(t, o.path).enter()
	o.srv.Withdraw(o.id)
	w.wantEnd()
	freed(t, o)
	o.srv.Withdraw(o.id)
	path, err := o.srv.Publish(o.id, "vol", o.target)
	if err != nil || path != o.path {
		t.Fatalf("published again at %s: %v, want %s", path, err, o.path)
	}
	healthy(t, o)
}

func TestServerStartsOverStaleSockets(t *testing.T) {
	o := offer1(t, mib, Limits{})
	// What a killed process leaves: the socket's name without a listener.
	if err := os.Rename(o.path, o.path+".old"); err != nil {
		t.Fatal(err)
	}
	o.srv.Close()
	if err := os.Rename(o.path+".old", o.path); err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Dir: o.srv.dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	path, err := s.Publish(o.id, "vol", memexport.Faulty(o.target, o.faults, clock.System{}))
	if err != nil || path != o.path {
		t.Fatalf("published at %s: %v, want %s", path, err, o.path)
	}
	healthy(t, o)
}

// A machine has the directory of its disk's socket bound into its jail: the
// next life of this process must put the socket into the same directory.
func TestTheNextServerUsesTheSameDirectory(t *testing.T) {
	o := offer1(t, mib, Limits{})
	before, err := os.Stat(filepath.Dir(o.path))
	if err != nil {
		t.Fatal(err)
	}
	o.srv.Close()
	if _, err := os.Stat(o.path); !os.IsNotExist(err) {
		t.Errorf("the socket of the closed server is still there: %v", err)
	}
	s, err := New(Config{Dir: o.srv.dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Publish(o.id, "vol", o.target); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(filepath.Dir(o.path))
	if err != nil || !os.SameFile(before, after) {
		t.Fatalf("the socket's directory is another one now (%v)", err)
	}
}

func TestPublishingWhatCannotBe(t *testing.T) {
	o := offer1(t, mib, Limits{})
	for _, c := range []struct {
		name string
		id   holdfast.VolumeID
		vol  string
		want holdfast.Kind
	}{
		{"the same volume", o.id, "another", holdfast.Exists},
		{"the same name", newID(), "vol", holdfast.Exists},
		{"no name", newID(), "", holdfast.Invalid},
		{"a name with a NUL", newID(), "a\x00b", holdfast.Invalid},
	} {
		if _, err := o.srv.Publish(c.id, c.vol, o.target); !holdfast.IsKind(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	long := "/tmp/" + strings.Repeat("deep/", 20)
	if _, err := New(Config{Dir: long}); !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(err.Error(), "shorter path") {
		t.Errorf("a directory of %d bytes: %v", len(long), err)
	}
}

func TestVolumeThatCannotBeOpened(t *testing.T) {
	o := offer1(t, mib, Limits{})
	for err, want := range map[error]uint32{
		holdfast.Errorf(holdfast.Busy, "held"):             repErrPolicy,
		holdfast.Errorf(holdfast.Unavailable, "no quorum"): repErrUnknown,
		holdfast.Errorf(holdfast.Closed, "stopping"):       repErrShutdown,
	} {
		o.faults.FailOpen(err)
		w := rawDial(t, o.path)
		w.greet()
		if typ := w.option(optGo, appendGo(nil, "")); typ != want {
			t.Errorf("%v: GO is answered with %#x, want %#x", err, typ, want)
		}
		w.nc.Close()
		old := rawDial(t, o.path)
		old.greet()
		old.send(optionBytes(optExportName, nil))
		old.wantEnd()
	}
	o.faults.FailOpen(nil)
	healthy(t, o)
}

func TestClientOfTheOldOption(t *testing.T) {
	o := offer1(t, mib, Limits{})
	w := rawDial(t, o.path)
	w.recv(18)
	w.send([]byte{0, 0, 0, 0}) // neither fixed newstyle nor short zeroes
	w.send(optionBytes(optExportName, []byte("vol")))
	r := w.recv(8 + 2 + 124)
	if size := be.Uint64(r); size != mib {
		t.Errorf("the export has %d bytes, want 1 MiB", size)
	}
	if e := w.ask(request{cmd: cmdFlush, cookie: 5}); e != ok {
		t.Errorf("flush: error %d", e)
	}
	w.send(appendRequest(nil, request{cmd: cmdDisc}))
	w.wantEnd()
}
