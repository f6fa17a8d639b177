package blockmap

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// model is what a map should say, one entry per written block.
type model struct {
	blocks uint64
	at     map[uint64]Entry
}

func (m *model) copy() *model { return &model{m.blocks, maps.Clone(m.at)} }

func (m *model) maxLSN() (l holdfast.LSN) {
	for _, e := range m.at {
		l = max(l, e.LSN)
	}
	return l
}

func (m *model) addrs() []uint64 { return slices.Sorted(maps.Keys(m.at)) }

// shelf is a disk for pages: what was flushed, by PageID.
type shelf struct {
	next  PageID
	free  []PageID // used before, and to be used again
	pages map[PageID][]byte
}

func newShelf() *shelf { return &shelf{pages: make(map[PageID][]byte)} }

func (s *shelf) alloc(_, size int) (PageID, []byte, error) {
	var id PageID
	if k := len(s.free); k > 0 {
		id, s.free = s.free[k-1], s.free[:k-1]
	} else {
		s.next++
		id = s.next
	}
	s.pages[id] = make([]byte, size+7) // stores pad
	return id, s.pages[id], nil
}

// must repeats f, loading what it misses, until it does not miss.
func must(t testing.TB, p *Pages, s *shelf, f func() error) {
	t.Helper()
	for {
		err := f()
		var m *Miss
		if !errors.As(err, &m) {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		b, ok := s.pages[m.ID]
		if !ok {
			t.Fatalf("%v, and neither is it on disk", m)
		}
		if err := p.Install(m, b); err != nil {
			t.Fatal(err)
		}
	}
}

// pair is a map beside its model.
type pair struct {
	tree *Tree
	root *Root
	m    *model
}

// life drives maps, roots, checkpoints, evictions and restarts at random.
type life struct {
	t     testing.TB
	rng   *rand.Rand
	p     *Pages
	disk  *shelf
	heads []*pair
	kept  []*pair
	lsn   holdfast.LSN
	slack map[PageID]bool // freed, reusable after the next checkpoint
}

func (l *life) addr(m *model) uint64 {
	switch l.rng.IntN(4) {
	case 0: // near the start, many to a leaf
		return l.rng.Uint64N(min(700, m.blocks))
	case 1: // near the end
		return m.blocks - 1 - l.rng.Uint64N(min(700, m.blocks))
	case 2: // at page borders
		a := l.rng.Uint64N(m.blocks)&^511 + l.rng.Uint64N(3)
		return min(a, m.blocks-1)
	}
	return l.rng.Uint64N(m.blocks)
}

func (l *life) set(h *pair) {
	a := l.addr(h.m)
	l.lsn++
	e := Entry{LSN: l.lsn, Hash: l.rng.Uint64(), Seg: 1 + l.rng.Uint32N(9), Slot: uint16(l.lsn), Origin: uint16(l.rng.IntN(2))}
	switch l.rng.IntN(12) {
	case 0:
		e = Entry{LSN: l.lsn, Origin: 3}
	case 1:
		e = Entry{}
	case 2: // an older block, as a resync may bring
		e.LSN = 1 + holdfast.LSN(l.rng.Uint64N(uint64(l.lsn)))
	}
	must(l.t, l.p, l.disk, func() error {
		old, err := h.tree.Set(a, e)
		if err == nil && old != h.m.at[a] {
			l.t.Fatalf("Set(%d) replaced %+v, want %+v", a, old, h.m.at[a])
		}
		return err
	})
	if e.LSN == 0 {
		delete(h.m.at, a)
	} else {
		h.m.at[a] = e
	}
}

func (l *life) setRange(h *pair) {
	a := l.addr(h.m)
	n := 1 + l.rng.Uint64N(min(h.m.blocks-a, []uint64{10, 10, 3000, 3000, 3000, 3000, 300_000}[l.rng.IntN(7)]))
	if l.rng.IntN(8) == 0 {
		a &^= 511
		n = min(h.m.blocks-a, 512*(1+l.rng.Uint64N(3)))
	}
	first, origin := l.lsn+1, uint16(l.rng.IntN(2))
	l.lsn += holdfast.LSN(n)
	var replaced []uint64
	for done := uint64(0); done < n; {
		must(l.t, l.p, l.disk, func() error {
			k, err := h.tree.SetRange(a+done, n-done, first+holdfast.LSN(done), origin, func(addr uint64, e Entry) {
				if e != h.m.at[addr] {
					l.t.Fatalf("SetRange replaced %+v at %d, want %+v", e, addr, h.m.at[addr])
				}
				replaced = append(replaced, addr)
			})
			done += k
			return err
		})
	}
	var want []uint64
	for _, x := range h.m.addrs() {
		if x >= a && x < a+n && h.m.at[x].Stored() {
			want = append(want, x)
		}
	}
	if !slices.Equal(replaced, want) {
		l.t.Fatalf("SetRange(%d, %d) reported blocks %v, want %v", a, n, replaced, want)
	}
	for i := range n {
		h.m.at[a+i] = Entry{LSN: first + holdfast.LSN(i), Origin: origin}
	}
}

func (l *life) checkGet(h *pair) {
	a := l.addr(h.m)
	must(l.t, l.p, l.disk, func() error {
		var e Entry
		var err error
		if h.tree != nil {
			e, err = h.tree.Get(a)
		} else {
			e, err = h.root.Get(a)
		}
		if err == nil && e != h.m.at[a] {
			l.t.Fatalf("Get(%d) = %+v, want %+v", a, e, h.m.at[a])
		}
		return err
	})
}

// checkWalk compares everything newer than some LSN.
func (l *life) checkWalk(r *Root, m *model) {
	since, from := holdfast.LSN(l.rng.Uint64N(uint64(l.lsn)+1)), l.addr(m)
	if l.rng.IntN(2) == 0 {
		since, from = 0, 0
	}
	var got []uint64
	at := from
	must(l.t, l.p, l.disk, func() error {
		return r.Walk(since, at, func(addr, n uint64, e Entry) bool {
			for i := range n {
				if e.at(i) != m.at[addr+i] {
					l.t.Fatalf("Walk gave %+v at %d, want %+v", e.at(i), addr+i, m.at[addr+i])
				}
				got = append(got, addr+i)
			}
			at = addr + n
			return true
		})
	})
	var want []uint64
	for _, a := range m.addrs() {
		if a >= from && m.at[a].LSN > since {
			want = append(want, a)
		}
	}
	if !slices.Equal(got, want) {
		l.t.Fatalf("Walk(since %v, from %d) saw %d blocks, want %d", since, from, len(got), len(want))
	}
	if r.MaxLSN() != m.maxLSN() {
		l.t.Fatalf("highest LSN %v, want %v", r.MaxLSN(), m.maxLSN())
	}
}

func (l *life) checkDiff(a, b *pair) {
	from := l.addr(a.m)
	if l.rng.IntN(2) == 0 {
		from = 0
	}
	var got []uint64
	at := from
	must(l.t, l.p, l.disk, func() error {
		return Diff(a.root, b.root, at, func(addr, n uint64, ea, eb Entry) bool {
			for i := range n {
				if ea.at(i) != a.m.at[addr+i] || eb.at(i) != b.m.at[addr+i] {
					l.t.Fatalf("Diff at %d gave %+v and %+v, want %+v and %+v", addr+i, ea.at(i), eb.at(i), a.m.at[addr+i], b.m.at[addr+i])
				}
				got = append(got, addr+i)
			}
			at = addr + n
			return true
		})
	})
	both := maps.Clone(a.m.at)
	maps.Copy(both, b.m.at)
	var want []uint64
	for _, x := range slices.Sorted(maps.Keys(both)) {
		if x >= from && a.m.at[x] != b.m.at[x] {
			want = append(want, x)
		}
	}
	if !slices.Equal(got, want) {
		l.t.Fatalf("Diff saw %d blocks, want %d", len(got), len(want))
	}
}

// checkpoint flushes every map and drops the space of what was freed before.
func (l *life) checkpoint() (roots [][]byte) {
	var frozen []*Root
	for _, h := range append(slices.Clone(l.heads), l.kept...) {
		if h.tree != nil {
			frozen = append(frozen, h.tree.Snapshot())
		} else {
			frozen = append(frozen, h.root.Share())
		}
	}
	for _, id := range l.p.Freed() {
		l.slack[id] = true
	}
	for _, r := range frozen {
		for done := false; !done; {
			var err error
			if done, err = r.Flush(1+l.rng.IntN(5), l.disk.alloc); err != nil {
				l.t.Fatal(err)
			}
		}
		b, err := r.AppendRoot(nil)
		if err != nil {
			l.t.Fatal(err)
		}
		roots = append(roots, b)
	}
	l.p.Landed()
	for _, id := range slices.Sorted(maps.Keys(l.slack)) {
		delete(l.disk.pages, id) // the checkpoint is durable: the space is reused
		l.disk.free = append(l.disk.free, id)
	}
	clear(l.slack)
	for _, r := range frozen {
		r.Release()
	}
	return roots
}

// restart forgets the memory and opens the checkpoint.
func (l *life) restart() {
	roots := l.checkpoint()
	l.p = NewPages(nil)
	open := func() *Root {
		r, err := l.p.OpenRoot(roots[0])
		if err != nil {
			l.t.Fatal(err)
		}
		roots = roots[1:]
		return r
	}
	for _, h := range l.heads {
		r := open()
		h.tree = FromRoot(r)
		r.Release()
	}
	for _, k := range l.kept {
		k.root = open()
	}
	if l.rng.IntN(2) == 0 {
		l.settle()
	}
}

func (l *life) settle() {
	for ms := l.p.Absent(3); len(ms) > 0; ms = l.p.Absent(3) {
		for _, m := range ms {
			if err := l.p.Install(m, l.disk.pages[m.ID]); err != nil {
				l.t.Fatal(err)
			}
		}
	}
	used := make(map[PageID]bool)
	l.p.Stored(func(id PageID) { used[id] = true })
	for id := range l.disk.pages {
		if !used[id] {
			l.slack[id] = true
		}
	}
}

func (l *life) step() {
	h := l.heads[l.rng.IntN(len(l.heads))]
	switch k := l.rng.IntN(100); {
	case k < 60:
		l.set(h)
	case k < 63:
		l.setRange(h)
	case k < 80:
		l.checkGet(h)
	case k < 84 && len(l.kept) < 6:
		l.kept = append(l.kept, &pair{root: h.tree.Snapshot(), m: h.m.copy()})
	case k < 88 && len(l.kept) > 0:
		i := l.rng.IntN(len(l.kept))
		l.kept[i].root.Release()
		l.kept = slices.Delete(l.kept, i, i+1)
	case k < 90 && len(l.kept) > 0 && len(l.heads) < 4:
		s := l.kept[l.rng.IntN(len(l.kept))]
		l.heads = append(l.heads, &pair{tree: FromRoot(s.root), m: s.m.copy()})
	case k == 90 && len(l.heads) > 1:
		h.tree.Release()
		l.heads = slices.DeleteFunc(l.heads, func(x *pair) bool { return x == h })
	case k < 93:
		l.checkpoint()
	case k < 95:
		l.p.Evict(l.rng.Int64N(1 << 20))
	case k < 96:
		l.restart()
	case k < 97:
		l.settle()
		if l.rng.IntN(2) == 0 {
			l.bury()
		}
	case k == 97 && h.m.blocks < 2_000_000:
		h.m.blocks += l.rng.Uint64N(h.m.blocks)
		if err := h.tree.Grow(h.m.blocks); err != nil {
			l.t.Fatal(err)
		}
	case len(l.kept) > 0:
		s := l.kept[l.rng.IntN(len(l.kept))]
		l.checkWalk(s.root, s.m)
		l.checkGet(s)
		l.checkDiff(s, l.kept[l.rng.IntN(len(l.kept))])
	}
}

// TestMapsAgreeWithAModel lives many random lives of several maps on one disk.
func TestMapsAgreeWithAModel(t *testing.T) {
	lives, steps := 24, 600
	if testing.Short() {
		lives = 8
	}
	for seed := range lives {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := &life{t: t, rng: rand.New(rand.NewPCG(uint64(seed), 1)), disk: newShelf(), slack: make(map[PageID]bool)}
			l.p = NewPages(nil)
			blocks := []uint64{1, 512, 5000, 300_000}[seed%4]
			tree, err := l.p.New(blocks)
			if err != nil {
				t.Fatal(err)
			}
			l.heads = []*pair{{tree: tree, m: &model{blocks: blocks, at: make(map[uint64]Entry)}}}
			for range steps {
				l.step()
			}
			l.finish()
		})
	}
}

// finish checks the books: every page is counted right, and nothing is left
// once everything is released.
func (l *life) finish() {
	l.settle()
	l.bury()
	l.checkBooks()
	l.checkpoint()
	l.checkBooks()
	for _, h := range l.heads {
		h.tree.Release()
		h.tree.Release()
	}
	for _, k := range l.kept {
		k.root.Release()
	}
	l.bury()
	for _, id := range l.p.Freed() {
		delete(l.disk.pages, id)
	}
	if n := len(l.p.nodes) - 1 - len(l.p.unused); n != 0 || len(l.p.byID) != 0 || l.p.leaves != 0 || l.p.bytes != 0 || l.p.dirty != 0 {
		l.t.Errorf("%d pages, %d names and %d leaves are left of no map", n, len(l.p.byID), l.p.leaves)
	}
	if len(l.disk.pages) != 0 {
		l.t.Errorf("%d pages on disk were never reported free", len(l.disk.pages))
	}
}

// bury loads what is doomed.
func (l *life) bury() {
	for ms := l.p.Doomed(3); len(ms) > 0; ms = l.p.Doomed(3) {
		for _, m := range ms {
			if err := l.p.Install(m, l.disk.pages[m.ID]); err != nil {
				l.t.Fatal(err)
			}
		}
	}
}

func (l *life) checkBooks() {
	var all, dirty int64
	for i := range l.p.nodes {
		if n := &l.p.nodes[i]; n.resident() {
			all += n.bytes()
			if n.id == 0 {
				dirty += n.bytes()
			}
		}
	}
	if all != l.p.bytes || dirty != l.p.dirty {
		l.t.Errorf("%d bytes in memory, %d dirty; counted %d and %d", all, dirty, l.p.bytes, l.p.dirty)
	}
	refs := make(map[handle]uint32)
	reachable := make(map[PageID]bool)
	var visit func(s slot, level int)
	visit = func(s slot, level int) {
		if s.page == 0 {
			return
		}
		refs[s.page]++
		if refs[s.page] > 1 {
			return
		}
		if n := l.p.nodes[s.page]; level > 0 && n.inner == nil { // evicted
			if err := l.p.Install(&Miss{ID: n.id, Level: level, any: true}, l.disk.pages[n.id]); err != nil {
				l.t.Error(err)
			}
		}
		n := l.p.nodes[s.page]
		if int(n.level) != level {
			l.t.Errorf("page at level %d says %d", level, n.level)
		}
		reachable[n.id] = true
		if n.inner != nil {
			for i := range n.inner {
				visit(n.inner[i], level-1)
			}
		}
	}
	for _, h := range l.heads {
		visit(h.tree.m.top, h.tree.m.level)
	}
	for _, k := range l.kept {
		visit(k.root.m.top, k.root.m.level)
	}
	for h, n := range refs {
		if l.p.nodes[h].refs != n {
			l.t.Errorf("page %d has %d references, it says %d", h, n, l.p.nodes[h].refs)
		}
	}
	if live := len(l.p.nodes) - 1 - len(l.p.unused); live != len(refs) {
		l.t.Errorf("%d pages are kept, %d are reachable", live, len(refs))
	}
	for id := range l.slack {
		if reachable[id] {
			l.t.Errorf("page %d is called free and in use", id)
		}
	}
	l.p.Stored(func(id PageID) {
		if !reachable[id] {
			l.t.Errorf("page %d is called used and is not reachable", id)
		}
	})
}
