package blockmap

import (
	"errors"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
)

// FuzzPage opens a map whose root page is hostile but carries a right checksum,
// and uses it in every way: nothing may panic or hang, and what is accepted
// must survive another encoding.
func FuzzPage(f *testing.F) {
	p, disk := NewPages(nil), newShelf()
	tree, _ := p.New(1 << 20)
	for i := range uint64(5) {
		tree.Set(i*300, data(holdfast.LSN(i+1)))
	}
	tree.SetRange(512*20, 512*3, 100, 2, nil)
	root := tree.Snapshot()
	root.Flush(100, disk.alloc)
	for id := PageID(1); id <= disk.next; id++ {
		f.Add(disk.pages[id])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < pageHeader {
			return
		}
		size := min(len(b), MaxPageSize)
		b = append([]byte(nil), b[:size]...)
		level := int(b[12]) % (maxLevel + 1)
		b[12] = byte(level)
		le.PutUint64(b[16:], 1) // the id
		le.PutUint64(b[24:], 0) // the address
		le.PutUint32(b[44:], uint32(size))
		le.PutUint32(b[8:], checksum.CRC(b[12:]))
		try(t, b, level)
	})
}

func try(t *testing.T, b []byte, level int) {
	p := NewPages(onePage(b))
	blocks := min(span(level), holdfast.MaxVolumeBlocks)
	root := le.AppendUint64(le.AppendUint64(nil, blocks), le.Uint64(b[32:]))
	r, err := p.OpenRoot(le.AppendUint64(root, 1))
	if err != nil {
		return
	}
	steps := 0
	count := func(uint64, uint64, Entry) bool { steps++; return steps < 5000 }
	err = r.Walk(0, 0, count)
	if p.Absent(1) != nil && err == nil {
		t.Fatal("a walk to the end left pages unloaded")
	}
	tree := FromRoot(r)
	for _, addr := range []uint64{0, 511, 512, blocks - 1} {
		r.Get(addr)
		tree.Set(addr%blocks, data(holdfast.MakeLSN(holdfast.MaxEpoch, addr)))
	}
	tree.SetRange(0, blocks, 1, 0, nil)
	Diff(r, tree.Snapshot(), 0, func(_, _ uint64, _, _ Entry) bool { steps++; return steps < 10_000 })
	if level == 0 && err == nil {
		reencode(t, p, r, b)
	}
}

// reencode checks that an accepted leaf says the same after another encoding.
func reencode(t *testing.T, p *Pages, r *Root, b []byte) {
	m := &Miss{ID: 1, max: r.MaxLSN()}
	d, err := decode(m, b)
	if err != nil {
		t.Fatalf("accepted, then refused: %v", err)
	}
	l := new(leaf)
	d.entries(l)
	n := node{leaf: l}
	h := p.add(n)
	out := make([]byte, encodedSize(&n))
	p.encode(out, 1, slot{max: r.MaxLSN(), page: h}, 0, 0)
	again, err := decode(m, out)
	if err != nil {
		t.Fatalf("its encoding is refused: %v", err)
	}
	l2 := new(leaf)
	again.entries(l2)
	if *l != *l2 {
		t.Fatal("its encoding says something else")
	}
}

type onePage []byte

func (o onePage) Load(id PageID) ([]byte, error) {
	if id == 1 {
		return o, nil
	}
	return nil, errors.New("no such page")
}

// FuzzOpenRoot takes any bytes for an encoded root.
func FuzzOpenRoot(f *testing.F) {
	p := NewPages(nil)
	tree, _ := p.New(holdfast.MaxVolumeBlocks)
	b, _ := tree.Snapshot().AppendRoot(nil)
	f.Add(b)
	tree.SetRange(0, 1<<30, 1, 0, nil)
	tree.Snapshot().Flush(100, newShelf().alloc)
	b, _ = tree.Snapshot().AppendRoot(nil)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p := NewPages(nil)
		r, err := p.OpenRoot(b)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.Corrupt) {
				t.Fatalf("refused without kind corrupt: %v", err)
			}
			return
		}
		again, err := r.AppendRoot(nil)
		if err != nil || string(again) != string(b) {
			t.Fatalf("root %x became %x: %v", b, again, err)
		}
		r.Get(0)
		r.Release()
	})
}
