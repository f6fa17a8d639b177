package nbd

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

func snapID(n byte) holdfast.SnapshotID {
	return holdfast.SnapshotID{UUID: holdfast.UUID{15: n}}
}

// withSnapshots publishes a volume of 4 MiB: 8 KiB at 1 MiB are older than the
// snapshots, 4 KiB at 2 MiB were written after monday, 4 KiB at 3 MiB after
// tuesday.
func withSnapshots(t testing.TB) *offering {
	t.Helper()
	o := offer1(t, 4*mib, Limits{})
	c := o.dial(t)
	defer freed(t.(*testing.T), o)
	defer c.Close()
	for i, w := range []struct{ off, n int }{{mib, 8192}, {2 * mib, 4096}, {3 * mib, 4096}} {
		if _, err := c.WriteAt(noisy(w.n), int64(w.off)); err != nil {
			t.Fatal(err)
		}
		if i < 2 {
			o.target.Keep(snapID(byte(i+1)), []string{"monday", "tuesday"}[i])
		}
	}
	return o
}

// contexts sends an option about contexts and returns its answer's last type and
// what it names before that, in order, with the identities.
func (w *wire) contexts(opt uint32, name string, queries ...string) (last uint32, found []string) {
	w.t.Helper()
	w.send(optionBytes(opt, appendMeta(nil, name, queries...)))
	for {
		h := w.recv(20)
		data := w.recv(int(be.Uint32(h[16:])))
		typ := be.Uint32(h[12:])
		if typ != repMetaContext {
			return typ, found
		}
		found = append(found, fmt.Sprint(be.Uint32(data), " ", string(data[4:])))
	}
}

func TestContextsAreListedAndSelected(t *testing.T) {
	o := withSnapshots(t)
	w := rawDial(t, o.path)
	w.greet()
	w.option(optStructuredReply, nil)
	all := []string{"0 base:allocation", "0 holdfast:dirty:monday", "0 holdfast:dirty:tuesday"}
	for _, c := range []struct {
		what    string
		opt     uint32
		queries []string
		last    uint32
		want    []string
	}{
		{"list all", optListMetaContext, nil, repAck, all},
		{"list a namespace", optListMetaContext, []string{"holdfast:"}, repAck, all[1:]},
		{"list what is dirty", optListMetaContext, []string{"holdfast:dirty:"}, repAck, all[1:]},
		{"list one and its namespace", optListMetaContext, []string{"holdfast:dirty:tuesday", "base:", "holdfast:"}, repAck, []string{all[0], all[1], all[2]}},
		{"list one", optListMetaContext, []string{"holdfast:dirty:tuesday"}, repAck, all[2:]},
		{"list what is not there", optListMetaContext, []string{"holdfast:dirty:sunday", "holdfast:clean:", "qemu:", "nonsense"}, repAck, nil},
		{"select none", optSetMetaContext, nil, repAck, nil},
		{"select a wildcard", optSetMetaContext, []string{"holdfast:", "holdfast:dirty:", "base:"}, repAck, nil},
		{"select what is not there", optSetMetaContext, []string{"holdfast:dirty:sunday", "base:deallocation"}, repAck, nil},
		{"select one", optSetMetaContext, []string{"holdfast:dirty:monday"}, repAck, []string{"1 holdfast:dirty:monday"}},
		{"select several, one twice", optSetMetaContext, []string{"holdfast:dirty:tuesday", "base:allocation", "holdfast:dirty:tuesday", "x:y", "holdfast:dirty:monday"}, repAck,
			[]string{"1 holdfast:dirty:tuesday", "2 base:allocation", "3 holdfast:dirty:monday"}},
	} {
		if last, found := w.contexts(c.opt, "vol", c.queries...); last != c.last || !slices.Equal(found, c.want) {
			t.Errorf("%s: %#x after %q, want %#x after %q", c.what, last, found, c.last, c.want)
		}
	}
}

func TestTooManyContextsAreRefused(t *testing.T) {
	o := offer1(t, mib, Limits{})
	var queries []string
	for i := range byte(maxContexts) {
		o.target.Keep(snapID(i+1), fmt.Sprint("s", i))
		queries = append(queries, fmt.Sprint("holdfast:dirty:s", i))
	}
	w := rawDial(t, o.path)
	w.greet()
	w.option(optStructuredReply, nil)
	if last, found := w.contexts(optSetMetaContext, "vol", queries...); last != repAck || len(found) != maxContexts {
		t.Errorf("%d contexts: %#x after %q", maxContexts, last, found)
	}
	if last, found := w.contexts(optSetMetaContext, "vol", append(queries, contextAlloc)...); last != repErrTooBig || found != nil {
		t.Errorf("%d contexts: %#x after %q", maxContexts+1, last, found)
	}
	if typ := w.option(optGo, appendGo(nil, "vol")); typ != repAck {
		t.Fatalf("GO is answered with %#x", typ)
	}
	if p := w.pieces(request{cmd: cmdBlockStatus, length: mib}); p[0].typ != chunkError {
		t.Errorf("after a selection that failed, block status is answered with %+v", p)
	}
}

// Thousands of snapshots are listed in pieces.
func TestThousandsOfContextsAreListed(t *testing.T) {
	o := offer1(t, 4*kib, Limits{})
	for i := range 5000 {
		o.target.Keep(snapID(1), fmt.Sprintf("nightly-of-the-accounts-%05d", i))
	}
	w := rawDial(t, o.path)
	w.greet()
	w.option(optStructuredReply, nil)
	if last, found := w.contexts(optListMetaContext, "vol", "holdfast:"); last != repAck || len(found) != 5000 || !strings.HasSuffix(found[4999], "-04999") {
		t.Errorf("%#x after %d contexts", last, len(found))
	}
}

// Every context is answered in a chunk of its own, as it is at the time of the
// request.
func TestBlockStatusOfSeveralContexts(t *testing.T) {
	o := withSnapshots(t)
	w := rawDial(t, o.path)
	w.greet()
	w.option(optStructuredReply, nil)
	w.contexts(optSetMetaContext, "vol", "holdfast:dirty:tuesday", contextAlloc, "holdfast:dirty:monday")
	if typ := w.option(optGo, appendGo(nil, "vol")); typ != repAck {
		t.Fatalf("GO is answered with %#x", typ)
	}
	status := func(cmd request) string {
		var out []string
		for _, p := range w.pieces(cmd) {
			if p.typ != chunkBlockStatus {
				t.Fatalf("%+v is answered with %+v", cmd, p)
			}
			said := fmt.Sprint(be.Uint32(p.data), ":")
			for d := p.data[4:]; len(d) > 0; d = d[8:] {
				said += fmt.Sprint(" ", be.Uint32(d), "/", be.Uint32(d[4:]))
			}
			out = append(out, said)
		}
		return strings.Join(out, "; ")
	}
	for _, c := range []struct {
		cmd  request
		want string
	}{
		{request{cmd: cmdBlockStatus, length: 4 * mib},
			"1: 3145728/0 4096/1 1044480/0; 2: 1048576/3 8192/0 1040384/3 4096/0 1044480/3 4096/0 1044480/3; 3: 2097152/0 4096/1 1044480/0 4096/1 1044480/0"},
		{request{cmd: cmdBlockStatus, flags: cfReqOne, off: 2 * mib, length: mib}, "1: 1048576/0; 2: 4096/0; 3: 4096/1"},
		{request{cmd: cmdBlockStatus, off: 3*mib + 4000, length: 100}, "1: 96/1 4/0; 2: 96/0 4/3; 3: 96/1 4/0"},
	} {
		if got := status(c.cmd); got != c.want {
			t.Errorf("%+v: %s\nwant %s", c.cmd, got, c.want)
		}
	}
	w.send(append(appendRequest(nil, request{cmd: cmdWrite, length: 4096}), noisy(4096)...))
	w.answer(0)
	if got, want := status(request{cmd: cmdBlockStatus, length: 8192}), "1: 4096/1 4096/0; 2: 4096/0 4096/3; 3: 4096/1 4096/0"; got != want {
		t.Errorf("after a write: %s\nwant %s", got, want)
	}
	o.target.Drop("tuesday")
	if p := w.pieces(request{cmd: cmdBlockStatus, length: 8192}); len(p) != 1 || p[0].typ != chunkError || !strings.Contains(string(p[0].data), "holdfast:dirty:tuesday") {
		t.Errorf("a deleted snapshot: %+v", p)
	}
}

// With extended headers a request may be about some of the contexts.
func TestExtendedBlockStatusOfSomeContexts(t *testing.T) {
	o := withSnapshots(t)
	w := rawDial(t, o.path)
	w.greet()
	w.option(optExtendedHeaders, nil)
	w.contexts(optSetMetaContext, "vol", contextAlloc, "holdfast:dirty:tuesday", "holdfast:dirty:monday")
	if typ := w.option(optGo, appendGo(nil, "vol")); typ != repAck {
		t.Fatalf("GO is answered with %#x", typ)
	}
	ask := func(ids ...uint32) (types []uint16, last []byte) {
		b := be.AppendUint64(nil, mib)
		for _, id := range ids {
			b = be.AppendUint32(b, id)
		}
		return w.wide(request{cmd: cmdBlockStatus, flags: cfPayload, off: 3 * mib, length: uint64(len(b))}, b...)
	}
	for _, c := range []struct {
		ids    []uint32
		chunks int
		last   uint32
		runs   uint32
	}{{[]uint32{2}, 1, 2, 2}, {[]uint32{3, 1}, 2, 3, 2}, {[]uint32{1, 2, 3}, 3, 3, 2}} {
		types, last := ask(c.ids...)
		if len(types) != c.chunks || types[0] != chunkStatusExt || be.Uint32(last) != c.last || be.Uint32(last[4:]) != c.runs || be.Uint64(last[8:]) != 4096 || be.Uint64(last[16:]) != stateDirty {
			t.Errorf("contexts %v are answered with %v, % x", c.ids, types, last)
		}
	}
	for _, ids := range [][]uint32{{4}, {0}, {2, 2}, {1, 2, 3, 4}} {
		if types, _ := ask(ids...); types[0] != chunkError {
			t.Errorf("contexts %v are answered with %v", ids, types)
		}
	}
	if types, _ := w.wide(request{cmd: cmdBlockStatus, length: mib}); len(types) != 3 {
		t.Errorf("without a payload it is answered with %v", types)
	}
}

// What is selected belongs to the export that was named with it.
func TestContextsOfAnotherExportAreNotSelected(t *testing.T) {
	s, ca := newServer(t, Limits{}), newAuthority(t)
	for _, name := range []string{"one", "two"} {
		if _, err := s.Publish(newID(), name, newTarget(t, mib, false)); err != nil {
			t.Fatal(err)
		}
	}
	addr, err := s.ListenTLS("127.0.0.1:0", ca.server(t))
	if err != nil {
		t.Fatal(err)
	}
	w := tlsDial(t, addr.String(), ca)
	w.option(optStructuredReply, nil)
	w.contexts(optSetMetaContext, "one", contextAlloc)
	if typ := w.option(optGo, appendGo(nil, "two")); typ != repAck {
		t.Fatalf("GO is answered with %#x", typ)
	}
	if p := w.pieces(request{cmd: cmdBlockStatus, length: mib}); p[0].typ != chunkError {
		t.Errorf("block status is answered with %+v", p)
	}
}

func FuzzContexts(f *testing.F) {
	f.Add("base:", "holdfast:", "holdfast:dirty:a", true)
	f.Add("holdfast:dirty:a", "holdfast:dirty:", "base:allocation", false)
	f.Add("holdfast:dirty:b", "", ":", false)
	snaps := []export.Snapshot{{ID: snapID(1), Name: "a"}, {ID: snapID(2), Name: "b"}}
	f.Fuzz(func(t *testing.T, a, b, c string, listing bool) {
		o := metaOption{queries: []string{a, b, c}}
		seen := map[string]bool{}
		for _, x := range o.matches(listing, snaps) {
			if seen[x.name] || x.since.IsZero() != (x.name == contextAlloc) || !validString(x.name) {
				t.Fatalf("%q match %+v", o.queries, x)
			}
			if !listing && !slices.Contains(o.queries, x.name) {
				t.Fatalf("%q select %s", o.queries, x.name)
			}
			seen[x.name] = true
		}
	})
}
