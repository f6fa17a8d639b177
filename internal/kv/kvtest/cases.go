package kvtest

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

func commitAndRange(t *tester) {
	t.has()
	a := t.put("a", "1")
	b := t.put("b", "2")
	ab := t.commit(nil, kv.Op{Key: t.key("b"), Value: []byte("3")}, kv.Op{Key: t.key("a/x"), Value: []byte("4")})
	if !(a < b && b < ab) {
		t.Errorf("revisions %d, %d, %d do not rise", a, b, ab)
	}
	items := t.has("a", "1", "a/x", "4", "b", "3")
	t.equal("revisions of the last change", []kv.Rev{items[0].Mod, items[1].Mod, items[2].Mod}, []kv.Rev{a, ab, ab})
	t.commit(nil, kv.Op{Key: t.key("a"), Delete: true}, kv.Op{Key: t.key("c")})
	t.has("a/x", "4", "b", "3", "c", "")
	other := t.h.Dial()
	defer other.Close()
	if its, rev, err := other.Range(t.dir); err != nil || len(its) != 3 || rev <= ab {
		t.Errorf("another connection sees %d items at %d: %v", len(its), rev, err)
	}
}

func rangePast(t *tester) {
	r1 := t.put("a", "1")
	t.put("b", "2")
	r3 := t.commit(nil, kv.Op{Key: t.key("a"), Value: []byte("3")}, kv.Op{Key: t.key("b"), Delete: true}, kv.Op{Key: t.key("c"), Value: []byte("4")})
	t.put("c", "5")
	now := t.put("b", "6")
	at := func(rev kv.Rev, want ...string) {
		t.Helper()
		items, err := t.st.RangeAt(t.dir, rev)
		var got []string
		for _, it := range items {
			got = append(got, it.Key[len(t.dir):], string(it.Value))
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("at %d: %q, %v, want %q", rev, got, err, want)
		}
	}
	at(r1, "a", "1")
	at(r3-1, "a", "1", "b", "2")
	at(r3, "a", "3", "c", "4")
	at(now, "a", "3", "b", "6", "c", "5")
	if items, err := t.st.RangeAt(t.dir, r3); err != nil || len(items) != 2 || items[0].Mod != r3 {
		t.Errorf("%v, %v", items, err)
	}
	if items, err := t.st.RangeAt(t.dir, now+1<<40); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("of the future: %v, %v", items, err)
	}
	if err := t.h.Compact(); err != nil {
		t.Fatalf("%v", err)
	}
	if items, err := t.st.RangeAt(t.dir, r1); !holdfast.IsKind(err, holdfast.Gap) {
		t.Errorf("of what is forgotten: %v, %v", items, err)
	}
	t.has("a", "3", "b", "6", "c", "5")
}

func conditions(t *tester) {
	key := t.key("k")
	put := func(v string) kv.Op { return kv.Op{Key: key, Value: []byte(v)} }
	r1 := t.commit([]kv.Cond{{Key: key}}, put("1")) // must not exist
	t.refused(holdfast.Conflict, []kv.Cond{{Key: key}}, put("2"))
	r2 := t.commit([]kv.Cond{{Key: key, Mod: r1}}, put("2"))
	t.refused(holdfast.Conflict, []kv.Cond{{Key: key, Mod: r1}}, put("3"))
	t.refused(holdfast.Conflict, []kv.Cond{{Key: key, Mod: r2}, {Key: t.key("none"), Mod: r2}}, put("3"))
	t.has("k", "2")
	t.commit([]kv.Cond{{Key: key, Mod: r2}, {Key: t.key("none")}}, kv.Op{Key: key, Delete: true})
	t.refused(holdfast.Conflict, []kv.Cond{{Key: key, Mod: r2}}, put("4"))
	t.commit([]kv.Cond{{Key: key}}) // conditions alone
	t.has()
}

func limits(t *tester) {
	var ops []kv.Op
	var conds []kv.Cond
	for i := range kv.MaxOps {
		k := t.key(fmt.Sprintf("%03d", i))
		ops = append(ops, kv.Op{Key: k, Value: []byte("v")})
		conds = append(conds, kv.Cond{Key: k})
	}
	t.commit(conds, ops...)
	big := bytes.Repeat([]byte("x"), kv.MaxValue)
	t.commit(nil, kv.Op{Key: t.key("big"), Value: big})
	t.refused(holdfast.Invalid, nil, append(ops, kv.Op{Key: t.key("more")})...)
	t.refused(holdfast.Invalid, append(conds, kv.Cond{Key: t.key("more")}), ops[0])
	t.refused(holdfast.Invalid, nil, kv.Op{Key: t.key("big"), Value: append(big, 'x')})
	t.refused(holdfast.Invalid, nil, ops[0], ops[0])
	t.refused(holdfast.Invalid, nil, kv.Op{})
	t.refused(holdfast.Invalid, nil, kv.Op{Key: t.key("k"), Value: []byte("v"), Delete: true})
	var heavy []kv.Op
	for i := range kv.MaxCommit/kv.MaxValue + 1 {
		heavy = append(heavy, kv.Op{Key: t.key(fmt.Sprint("h", i)), Value: big})
	}
	t.refused(holdfast.Invalid, nil, heavy...)
	for _, ttl := range []time.Duration{0, -time.Second, time.Millisecond, 25 * time.Hour} {
		if _, err := t.st.Grant(ttl); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("a lease of %v: %v, want it refused as invalid", ttl, err)
		}
	}
}

func watch(t *tester) {
	r0 := t.put("a", "0")
	w := t.st.Watch(t.dir, r0)
	defer w.Close()
	if evs, err := w.Next(100 * time.Millisecond); len(evs) > 0 || err != nil {
		t.Errorf("nothing happened, but the watch says %v %v", t.spell(evs), err)
	}
	r1 := t.put("a", "1")
	t.equal("a put", t.next(w), []string{fmt.Sprintf("+a=1@%d", r1)})
	if _, err := t.st.Commit(nil, []kv.Op{{Key: "kvtest-elsewhere", Value: []byte("x")}}); err != nil {
		t.Fatalf("%v", err)
	}
	r2 := t.commit(nil, kv.Op{Key: t.key("a"), Delete: true})
	t.equal("a delete", t.next(w), []string{fmt.Sprintf("-a@%d", r2)})
}

func watchWhole(t *tester) {
	w := t.st.Watch(t.dir, t.put("start", ""))
	defer w.Close()
	const n = 20
	for i := range n {
		v := fmt.Sprint(i)
		t.commit(nil, kv.Op{Key: t.key("x"), Value: []byte(v)}, kv.Op{Key: t.key("y"), Value: []byte(v)})
	}
	seen := 0
	for seen < 2*n {
		evs, err := w.Next(patience)
		if err != nil || len(evs) == 0 {
			t.Fatalf("after %d changes: %v %v", seen, evs, err)
		}
		if len(evs)%2 != 0 {
			t.Fatalf("a batch holds half a commit: %v", t.spell(evs))
		}
		for i := 0; i < len(evs); i += 2 {
			if want := fmt.Sprint(seen / 2); evs[i].Mod != evs[i+1].Mod || string(evs[i].Value) != want {
				t.Fatalf("change %d: %v", seen, t.spell(evs[i:i+2]))
			}
			seen += 2
		}
	}
}

func watchPast(t *tester) {
	r0 := t.put("a", "0")
	r1 := t.put("a", "1")
	r2 := t.put("b", "2")
	w := t.st.Watch(t.dir, r0)
	defer w.Close()
	want := []string{fmt.Sprintf("+a=1@%d", r1), fmt.Sprintf("+b=2@%d", r2)}
	var got []string
	for len(got) < len(want) {
		evs := t.next(w)
		if len(evs) == 0 {
			break
		}
		got = append(got, evs...)
	}
	t.equal("what was missed", got, want)
}

func watchGap(t *tester) {
	r0 := t.put("a", "0")
	for i := range 5 {
		t.put("a", fmt.Sprint(i))
	}
	if err := t.h.Compact(); err != nil {
		t.Fatalf("%v", err)
	}
	w := t.st.Watch(t.dir, r0)
	defer w.Close()
	if evs, err := w.Next(patience); !holdfast.IsKind(err, holdfast.Gap) {
		t.Errorf("a watch from a forgotten revision: %v %v, want kind gap", evs, err)
	}
	if _, err := w.Next(0); !holdfast.IsKind(err, holdfast.Gap) {
		t.Errorf("asked again: %v, want the same", err)
	}
}

// within waits until f holds.
func (t *tester) within(d time.Duration, what string, f func() bool) {
	t.Helper()
	for end := t.h.Clock.Now() + d; !f(); clock.Sleep(t.h.Clock, 100*time.Millisecond) {
		if t.h.Clock.Now() > end {
			t.Fatalf("%s did not happen within %v", what, d)
		}
	}
}

func (t *tester) count() int {
	items, _, err := t.st.Range(t.dir)
	if err != nil {
		t.Fatalf("range: %v", err)
	}
	return len(items)
}

func (t *tester) grant(ttl time.Duration) kv.LeaseID {
	t.Helper()
	id, err := t.st.Grant(ttl)
	if err != nil || id == 0 {
		t.Fatalf("grant: %d, %v", id, err)
	}
	return id
}

func (t *tester) noLease(id kv.LeaseID) {
	t.Helper()
	if err := t.st.Renew(id); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("renewing a lease that is gone: %v", err)
	}
	t.refused(holdfast.NotFound, nil, kv.Op{Key: t.key("late"), Lease: id})
}

func leaseEnds(t *tester) {
	t.ends = t.h.Clock.Now() + time.Second
	id := t.grant(time.Second)
	r := t.commit(nil, kv.Op{Key: t.key("a"), Lease: id}, kv.Op{Key: t.key("b"), Lease: id}, kv.Op{Key: t.key("c")})
	w := t.st.Watch(t.dir, r)
	defer w.Close()
	t.equal("the lease of an item", t.has("a", "", "b", "", "c", "")[0].Lease, id)
	t.within(patience, "the end of a lease", func() bool { return t.count() == 1 })
	t.noLease(id)
	if evs := t.next(w); len(evs) != 2 {
		t.Errorf("the end of a lease shows as %v, want two deletes at once", evs)
	}
}

func leaseRenewed(t *tester) {
	for !t.outlives(4 * time.Second) {
		t.Logf("everything stood still for longer than the lease: once more")
	}
}

// outlives checks that a lease of ttl that is renewed outlives ttl; false: it
// was not renewed in time.
func (t *tester) outlives(ttl time.Duration) bool {
	now := t.h.Clock.Now
	last := now()
	id := t.grant(ttl)
	t.commit(nil, kv.Op{Key: t.key("a"), Lease: id})
	for end := now() + ttl*3/2; now() < end; clock.Sleep(t.h.Clock, time.Second) {
		begun := now()
		if err := t.st.Renew(id); err != nil && now()-last < ttl {
			t.Fatalf("renew: %v", err)
		} else if err != nil {
			return false
		}
		last = begun
	}
	items, _, err := t.st.Range(t.dir)
	switch late := now()-last >= ttl; {
	case err != nil:
		t.Fatalf("range: %v", err)
	case len(items) != 1 && !late:
		t.Errorf("the item of a renewed lease is gone")
	case len(items) != 1:
		return false
	}
	if err := t.st.Revoke(id); err != nil && now()-last < ttl {
		t.Fatalf("revoke: %v", err)
	}
	return true
}

func leaseRevoked(t *tester) {
	id := t.grant(time.Minute)
	t.commit(nil, kv.Op{Key: t.key("a"), Lease: id})
	if err := t.st.Revoke(id); err != nil {
		t.Fatalf("revoke: %v", err)
	}
	t.has()
	t.noLease(id)
	if err := t.st.Revoke(id); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("revoking twice: %v", err)
	}
}

func leaseLeft(t *tester) {
	id := t.grant(time.Minute)
	t.commit(nil, kv.Op{Key: t.key("a"), Lease: id}, kv.Op{Key: t.key("b"), Lease: id})
	t.put("a", "free")
	if err := t.st.Revoke(id); err != nil {
		t.Fatalf("revoke: %v", err)
	}
	t.has("a", "free")
}

func closed(t *tester) {
	w := t.st.Watch(t.dir, t.put("a", ""))
	defer w.Close()
	if err := t.st.Close(); err != nil {
		t.Fatalf("%v", err)
	}
	t.refused(holdfast.Closed, nil, kv.Op{Key: t.key("a")})
	if _, _, err := t.st.Range(t.dir); !holdfast.IsKind(err, holdfast.Closed) {
		t.Errorf("range: %v", err)
	}
	if _, err := t.st.Grant(time.Second); !holdfast.IsKind(err, holdfast.Closed) {
		t.Errorf("grant: %v", err)
	}
	for range 2 {
		if _, err := w.Next(patience); !holdfast.IsKind(err, holdfast.Closed) {
			t.Errorf("watch: %v", err)
		}
	}
	w2 := t.st.Watch(t.dir, 1)
	if _, err := w2.Next(patience); !holdfast.IsKind(err, holdfast.Closed) {
		t.Errorf("watch of a closed store: %v", err)
	}
	w2.Close()
}
