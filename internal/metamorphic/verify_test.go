package metamorphic

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/node"
	"github.com/holdfast-cloud/holdfast/internal/replica"
)

func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// seen reads every head as an initiator does, whatever is away, and asks where
// it is empty.
func (p *player) seen(want model) {
	for _, name := range want.names() {
		v := want[name]
		var got []byte
		const chunk = 200*blockSize + 100 // across blocks
		for off := int64(0); off < v.head.size() && !p.stopAt; off += chunk {
			got = append(got, p.read(name, off, min(chunk, v.head.size()-off))...)
		}
		if p.stopAt {
			return
		}
		if i := v.head.differs(got); i >= 0 {
			p.fail("%s: block %d reads wrong: %s", name, i, unlike(got[i*blockSize:(i+1)*blockSize], v.head.at(i).bytes()))
		}
		p.holes(v)
	}
}

// unlike tells which bytes of a block are not what they should be.
func unlike(got, want []byte) (text string) {
	for i := 0; i < len(want); i++ {
		from := i
		for i < len(want) && got[i] != want[i] {
			i++
		}
		if i > from {
			text += fmt.Sprintf("bytes %d to %d begin with %x, want %x; ", from, i-1, got[from], want[from])
		}
	}
	return text
}

// holes checks that what is told to be empty is.
func (p *player) holes(v *modelVolume) {
	var ext []export.Extent
	p.try("extents of "+v.name, func() error {
		s, err := p.session(v.name)
		if err != nil {
			return err
		}
		err = p.bed.On(s.host, patience, func(*node.Node) (err error) {
			ext, err = s.d.Extents(0, v.head.size(), 1<<20)
			return err
		})
		if err != nil {
			p.close(v.name)
		}
		return err
	})
	off := int64(0)
	for _, e := range ext {
		for i := off / blockSize; e.Hole && i < (off+e.Length)/blockSize; i++ {
			if v.head.at(int(i)) != nil && *v.head.at(int(i)) != zeroes {
				p.fail("%s: block %d is told to be empty, and is not", v.name, i)
				return
			}
		}
		off += e.Length
	}
}

// verify holds everything that every in-sync replica has against the model.
func (p *player) verify(want model, step int) {
	p.settle(want)
	for _, name := range want.names() {
		if p.stopAt {
			return
		}
		v, rec := want[name], p.bed.Records().Volumes[p.vols[name]].Val
		for _, ref := range rec.InSync {
			p.same(rec, ref, "", v.head)
			for _, snap := range v.snapNames() {
				p.same(rec, ref, snap, v.snaps[snap])
			}
		}
		p.changes(v, step)
	}
}

// settle waits until all volumes have had all their copies for a while: that a
// host has lost its memory is noticed when it is next asked something.
func (p *player) settle(want model) {
	p.try("all copies of all volumes", func() error {
		clock.Sleep(p.bed.Clock(), 1500*time.Millisecond)
		p.heal()
		st := p.bed.Records()
		for _, name := range want.names() {
			if n := len(st.Volumes[p.vols[name]].Val.InSync); n != p.cfg.copies {
				return holdfast.Errorf(holdfast.Unavailable, "%s has %d copies", name, n)
			}
		}
		return nil
	})
}

// same reads a root of a replica.
func (p *player) same(rec cluster.Volume, ref cluster.Replica, snap string, want root) {
	what := fmt.Sprintf("%s %s on host %d", rec.Name, cmp.Or(snap, "head"), p.bed.Number(ref.Host))
	got, err := p.bed.Read(rec, ref, p.snaps[snap], len(want))
	if err != nil {
		p.fail("%s: %v", what, err)
	} else if i := want.differs(got); i >= 0 {
		p.fail("%s: block %d is wrong", what, i)
	}
}

// side is one end of a comparison.
type side struct {
	name string
	ref  replica.RootRef
	root root
}

// changes has the volume tell what differs between its roots.
func (p *player) changes(v *modelVolume, step int) {
	sides := []side{{"nothing", replica.RootRef{Nothing: true}, nil}}
	for _, s := range v.snapNames() {
		sides = append(sides, side{s, replica.RootRef{Snapshot: p.snaps[s]}, v.snaps[s]})
	}
	sides = append(sides, side{"head", replica.RootRef{}, v.head})
	for i, from := range sides {
		for k, to := range sides {
			if k == 0 || i == len(sides)-1 && k < i || i == k || p.stopAt {
				continue
			}
			told := p.diff(v.name, from, to)
			if why := wrongDiff(from.root, to.root, told); why != "" && !p.stopAt {
				p.fail("%s from %s to %s: %s", v.name, from.name, to.name, why)
			}
			p.diffs = append(p.diffs, fmt.Sprintf("step %d: %s from %s to %s: %v", step+1, v.name, from.name, to.name, sorted(told)))
		}
	}
}

// diff walks a comparison in steps of any length.
func (p *player) diff(vol string, from, to side) (told map[int]bool) {
	p.try(fmt.Sprintf("%s from %s to %s", vol, from.name, to.name), func() error {
		told = map[int]bool{}
		if _, err := p.session(vol); err != nil {
			return err
		}
		h := p.writer(vol)
		if h < 0 { // the session has ended without having been used
			p.close(vol)
			return holdfast.Errorf(holdfast.Unavailable, "nobody writes %s", vol)
		}
		limit := []int{1, 3, replica.MaxExtents}[p.rng.IntN(3)]
		return p.bed.On(h, patience, func(n *node.Node) error {
			open := n.Volumes.Opened(p.vols[vol])
			for at := uint64(0); ; {
				d, err := open.Diff(from.ref, to.ref, at, limit)
				if err != nil {
					return err
				}
				for _, e := range d.Extents {
					for b := e.Addr; b < e.Addr+e.Blocks; b++ {
						told[int(b)] = true
					}
				}
				if d.Next >= d.Size {
					return nil
				}
				at = d.Next
			}
		})
	})
	return told
}
