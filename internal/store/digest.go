package store

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
)

// Digest is what a root says of a stretch of DigestSpan addresses in one number:
// equal for two replicas that hold the same blocks, wherever on their disks and
// in whatever pages of their maps.
type Digest struct {
	Addr   uint64 // where the stretch begins, a multiple of DigestSpan
	Blocks uint64 // that it covers
	Newer  uint64 // blocks that are newer, and left out
	Sum    uint64
}

// DigestSpan is how many addresses a digest covers: those of a leaf of the map.
const DigestSpan = blockmap.Fan

// Bounds on one call of Digests, each reached at the end of a stretch.
const (
	MaxDigests = 4096
	digestWork = 1 << 21                // blocks and runs
	digestTime = 300 * time.Millisecond // it may have to read the map from the disk
)

// Digests folds the blocks of a root of the pin (zero: the head), from address
// from on, which is a multiple of DigestSpan: those in which it differs from the
// root against (zero: all), and not those newer than upto. No data is read.
// Stretches of which there is nothing to tell are left out. It goes on at next
// if there is more; all below next is told.
func (p *Pin) Digests(root, against holdfast.SnapshotID, upto holdfast.LSN, from uint64) (out []Digest, next uint64, more bool, err error) {
	if from%DigestSpan != 0 {
		return nil, from, false, holdfast.Errorf(holdfast.Invalid, "digests from block %d on: it is no multiple of %d", from, DigestSpan)
	}
	began := p.r.s.clk.Now()
	d := digester{upto: upto, next: from}
	p.ahead(root, against, from)
	seen := from // up to where it was read ahead
	step := func(from uint64, f func(addr, n uint64, e blockmap.Entry, told bool) bool) error {
		return p.differing(root, against, from, f)
	}
	err = p.runs(from, step, func(addr, n uint64, ref BlockRef) bool {
		for n > 0 {
			if addr/DigestSpan != d.cur.Addr/DigestSpan || d.work == 0 {
				d.end()
				if len(d.out) == MaxDigests || d.work >= digestWork || d.work > 0 && p.r.s.clk.Now()-began >= digestTime {
					more = true
					return false
				}
				if addr >= seen+aheadBlocks {
					p.ahead(root, against, addr)
					seen = addr
				}
				d.cur = Digest{Addr: addr / DigestSpan * DigestSpan}
			}
			k := min(n, DigestSpan-addr%DigestSpan)
			d.add(addr, k, ref)
			addr, n = addr+k, n-k
			if ref.LSN != 0 {
				ref.LSN += holdfast.LSN(k)
			}
		}
		return true
	})
	if err != nil {
		return nil, from, false, err
	}
	d.end()
	return d.out, d.next, more, nil
}

// differing tells the entries of a root that are not those of another. Under the
// lock; the error may be a *blockmap.Miss.
func (p *Pin) differing(root, against holdfast.SnapshotID, from uint64, f func(addr, n uint64, e blockmap.Entry, told bool) bool) error {
	a, err := p.shown(root)
	if err != nil {
		return err
	}
	if against.IsZero() {
		return a.Walk(0, from, func(addr, n uint64, e blockmap.Entry) bool { return f(addr, n, e, true) })
	}
	b, err := p.shown(against)
	if err != nil {
		return err
	}
	return blockmap.Diff(a, b, from, func(addr, n uint64, e, old blockmap.Entry) bool {
		same := e.LSN == old.LSN && e.Hash == old.Hash && e.Origin == old.Origin && e.Hole() == old.Hole()
		return f(addr, n, e, !same)
	})
}

// digester folds blocks into digests.
type digester struct {
	upto holdfast.LSN
	out  []Digest
	next uint64
	cur  Digest
	work int
	// A run without data, as long as it gets: a map may hold it in pieces.
	run struct {
		addr, n uint64
		ref     BlockRef
	}
}

// add folds n blocks of one stretch.
func (d *digester) add(addr, n uint64, ref BlockRef) {
	d.work++
	if ref.LSN > d.upto {
		d.cur.Newer += n
		return
	}
	if ref.LSN != 0 && !ref.Hole {
		d.endRun()
		d.cur.Blocks++
		d.cur.Sum += checksum.Entry(ref.Origin, addr, ref.LSN, ref.Hash, 0)
		return
	}
	follows := BlockRef{} // never written, though the other root has something
	if ref.LSN != 0 {
		all := n
		n = min(n, uint64(d.upto-ref.LSN)+1)
		d.cur.Newer += all - n
		follows = ref
		follows.LSN -= holdfast.LSN(d.run.n)
	} else {
		ref = follows
	}
	if d.run.n > 0 && d.run.addr+d.run.n == addr && d.run.ref == follows {
		d.run.n += n
		return
	}
	d.endRun()
	d.run.addr, d.run.n, d.run.ref = addr, n, ref
}

func (d *digester) endRun() {
	if d.run.n > 0 {
		d.cur.Blocks += d.run.n
		d.cur.Sum += checksum.Entry(d.run.ref.Origin, d.run.addr, d.run.ref.LSN, 0, d.run.n)
		d.run.n = 0
	}
}

// end closes the stretch.
func (d *digester) end() {
	d.endRun()
	if d.work == 0 {
		return
	}
	if d.cur.Blocks+d.cur.Newer > 0 {
		d.out = append(d.out, d.cur)
	}
	d.next = d.cur.Addr + DigestSpan
	d.cur = Digest{Addr: d.cur.Addr}
}
