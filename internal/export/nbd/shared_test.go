package nbd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// told asks what INFO says of a volume: its size and its flags.
func (w *wire) told() (size int64, flags uint16) {
	w.t.Helper()
	w.send(optionBytes(optInfo, appendGo(nil, "vol")))
	for {
		h := w.recv(20)
		data := w.recv(int(be.Uint32(h[16:])))
		switch be.Uint32(h[12:]) {
		case repAck:
			return size, flags
		case repInfo:
			if be.Uint16(data) == infoExport {
				size, flags = int64(be.Uint64(data[2:])), be.Uint16(data[10:])
			}
		default:
			w.t.Fatalf("INFO is answered with % x", h)
		}
	}
}

// That several connections may write is told exactly where it is true.
func TestSeveralWritersOfASharedVolume(t *testing.T) {
	o := offer1(t, mib, Limits{})
	o.target.Share(true)
	w := rawDial(t, o.path)
	w.greet()
	if _, flags := w.told(); flags&tfMultiConn == 0 {
		t.Error("INFO does not tell that several may write")
	}
	a, b := o.dial(t), o.dial(t)
	for _, c := range []*Client{a, b} {
		if c.flags&tfMultiConn == 0 || c.ReadOnly() {
			t.Errorf("a client is told flags %#x", c.flags)
		}
	}
	if _, err := a.WriteAt([]byte("by one"), 5000); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 6)
	if _, err := b.ReadAt(got, 5000); err != nil || string(got) != "by one" {
		t.Fatalf("the other reads %q, %v", got, err)
	}
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := o.target.Open(false); !holdfast.IsKind(err, holdfast.Busy) {
		t.Errorf("who wants it alone: %v", err)
	}
	a.Close()
	b.Close()
	freed(t, o)
	o.target.Share(false)
	if _, flags := w.told(); flags&tfMultiConn != 0 {
		t.Error("INFO tells that several may write what is not shared any more")
	}
	c := o.dial(t)
	defer c.Close()
	if c.flags&tfMultiConn != 0 {
		t.Error("a client is told that several may write")
	}
	o.target.Share(true)
	if _, err := Dial("unix", o.path, "vol", nil); !holdfast.IsKind(err, holdfast.Busy) {
		t.Errorf("a second one, where the first was told that it is alone: %v", err)
	}
}

// A volume is read beside who writes it, under a name of its own.
func TestAVolumeIsReadBesideItsWriter(t *testing.T) {
	o := offer1(t, mib, Limits{})
	o.target.Keep(snapID(1), "monday")
	w := o.dial(t)
	defer w.Close()
	if _, err := Dial("unix", o.path, "vol", nil); !holdfast.IsKind(err, holdfast.Busy) {
		t.Fatalf("a second writer: %v", err)
	}
	for _, name := range []string{"vol@head", "@head", "vol@head"} {
		r, err := Dial("unix", o.path, name, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer r.Close()
		if !r.ReadOnly() || r.flags&tfMultiConn == 0 {
			t.Errorf("%s has flags %#x", name, r.flags)
		}
		if _, err := w.WriteAt([]byte(name), 512); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(name))
		if _, err := r.ReadAt(got, 512); err != nil || string(got) != name {
			t.Errorf("%s reads %q, %v", name, got, err)
		}
		if _, err := r.WriteAt([]byte("no"), 0); !holdfast.IsKind(err, holdfast.Denied) {
			t.Errorf("%s is written: %v", name, err)
		}
	}
	for _, name := range []string{"other@head", "vol@", "vol@head@head", "vol@monday"} {
		if _, err := Dial("unix", o.path, name, nil); !holdfast.IsKind(err, holdfast.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	h := rawDial(t, o.path)
	h.greet()
	h.option(optStructuredReply, nil)
	if last, found := h.contexts(optSetMetaContext, "vol@head", "holdfast:dirty:monday"); last != repAck || len(found) != 1 {
		t.Fatalf("contexts: %#x, %q", last, found)
	}
	if typ := h.option(optGo, appendGo(nil, "@head")); typ != repAck {
		t.Fatalf("GO is answered with %#x", typ)
	}
	if p := h.pieces(request{cmd: cmdBlockStatus, length: 8192}); len(p) != 1 || p[0].typ != chunkBlockStatus || be.Uint32(p[0].data[8:]) != stateDirty {
		t.Errorf("block status: %+v", p)
	}
}

// Who comes back after having hung up finds everything done, or not, that the
// former connection asked for, also where several may write.
func TestWhoComesBackWaitsForTheFormerConnection(t *testing.T) {
	for name, dial := range map[string]func(t *testing.T, o *offering) (w *wire, again func() error){
		"unix": func(t *testing.T, o *offering) (*wire, func() error) {
			return rawDial(t, o.path).enter(), func() error {
				c, err := Dial("unix", o.path, "vol", nil)
				if err == nil {
					c.Close()
				}
				return err
			}
		},
		"tcp": func(t *testing.T, o *offering) (*wire, func() error) {
			ca := newAuthority(t)
			addr, err := o.srv.ListenTLS("127.0.0.1:0", ca.server(t))
			if err != nil {
				t.Fatal(err)
			}
			w := tlsDial(t, addr.String(), ca)
			if typ := w.option(optGo, appendGo(nil, "vol")); typ != repAck {
				t.Fatalf("GO is answered with %#x", typ)
			}
			return w, func() error {
				c, err := Dial("tcp", addr.String(), "vol", ca.client(t))
				if err == nil {
					c.Close()
				}
				return err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := offer1(t, mib, Limits{})
			o.target.Share(true)
			w, again := dial(t, o)
			o.faults.Hold()
			w.send(append(appendRequest(nil, request{cmd: cmdWrite, length: 4}), "late"...))
			waitFor(t, "the write", func() bool { return o.faults.Held() == 1 })
			if err := again(); err != nil {
				t.Fatalf("another one beside it: %v", err)
			}
			w.nc.Close()
			waitFor(t, "the hang-up to be noticed", func() bool { return holdfast.IsKind(again(), holdfast.Busy) })
			if o.faults.Held() != 1 {
				t.Error("the write of the former connection is done already")
			}
			o.faults.Release()
			waitFor(t, "the former connection to end", func() bool { return again() == nil })
		})
	}
}

// A connection serves what a volume has grown by; the next one, and who only
// asks, are told its new size.
func TestAVolumeGrowsWhileItIsUsed(t *testing.T) {
	o := offer1(t, mib, Limits{})
	w := rawDial(t, o.path).enter()
	far := request{cmd: cmdWriteZeroes, off: mib, length: mib}
	if e := w.ask(far); e != eNoSpace {
		t.Fatalf("beyond the end: error %d", e)
	}
	o.target.Grow(2 * mib)
	if e := w.ask(far); e != ok {
		t.Errorf("what has become part of it: error %d", e)
	}
	w.nc.Close()
	freed(t, o)
	asks := rawDial(t, o.path)
	asks.greet()
	if size, _ := asks.told(); size != 2*mib {
		t.Errorf("INFO tells %d bytes", size)
	}
	c := o.dial(t)
	defer c.Close()
	if c.Size() != 2*mib {
		t.Errorf("the next connection is told %d bytes", c.Size())
	}
}

func TestJudgeNbdcopyOverSeveralConnections(t *testing.T) {
	o := offer1(t, 24*mib, Limits{})
	dir := t.TempDir()
	src, back := filepath.Join(dir, "src"), filepath.Join(dir, "back")
	want := noisy(24 * mib)
	if err := os.WriteFile(src, want, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(judge(t, "nbdinfo"), "--can", "multi-conn", uri(o)).Run(); err == nil {
		t.Error("nbdinfo: several connections to a volume that is not shared")
	}
	freed(t, o)
	o.target.Share(true)
	runTool(t, "nbdinfo", "--can", "multi-conn", uri(o))
	var most atomic.Int64
	o.faults.Later(func(do func()) { most.Store(max(most.Load(), int64(o.target.Writing()))); do() })
	runTool(t, "nbdcopy", "--connections=4", "--threads=4", "--requests=4", "--flush", src, uri(o))
	if most.Load() < 2 {
		t.Errorf("nbdcopy wrote over %d connections", most.Load())
	}
	o.faults.Later(nil)
	runTool(t, "nbdcopy", "--connections=4", "--threads=4", uri(o), back)
	got, err := os.ReadFile(back)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the copy differs (%d bytes, %v)", len(got), err)
	}
}
