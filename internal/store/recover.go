package store

import (
	"errors"
	"math"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/crashpoint"
	"github.com/holdfast-cloud/holdfast/internal/disk"
)

// Open recovers the store of a device: the last checkpoint, then the log up to
// the longest whole prefix. A device that is not a Holdfast disk, or of a newer
// format, gives kind Invalid; one whose checkpoint cannot be read kind Damaged.
// Only one store may be open on a device; the device sees to that.
func Open(dev disk.Device, o Options) (*Store, error) {
	o = o.withDefaults()
	sb, err := readSuper(dev, true)
	if err != nil {
		return nil, err
	}
	if o.Expect != nil {
		if err := o.Expect(sb.id); err != nil {
			return nil, err
		}
	}
	s := newStore(dev, o, sb)
	root, bad, err := s.readRoots()
	if err != nil {
		return nil, err
	}
	if err := s.readCatalog(&root); err != nil {
		return nil, err
	}
	sc, err := s.scanLog(&root)
	if err != nil {
		return nil, err
	}
	if err := s.settle(&root, sc); err != nil {
		return nil, err
	}
	if err := s.recover(&root, sc); err != nil {
		return nil, err
	}
	crashpoint.At(crashpoint.RecoveryRead)
	for _, off := range bad {
		s.log.Warn("a copy of a checkpoint root was bad and is written anew", "disk", s.id.Disk.String(), "offset", off)
	}
	if err := s.start(&root); err != nil {
		return nil, err
	}
	return s, nil
}

// readSuper reads the superblock from either copy, and mends the other if it may
// write.
func readSuper(dev disk.Device, mend bool) (superblock, error) {
	var good []byte
	var sb superblock
	var err error
	var bad []int64
	for _, off := range []int64{superOffset, mirrorOffset} {
		p := newBuffer(shape{header: 1}).b
		if rerr := dev.ReadAt(p, off); rerr != nil {
			err = holdfast.Errorf(holdfast.IO, "open disk: read of the superblock: %w", rerr)
			bad = append(bad, off)
			continue
		}
		x, derr := decodeSuper(p)
		switch {
		case derr == nil:
			sb, good = x, p
		case holdfast.IsKind(derr, holdfast.Invalid):
			return sb, derr
		case err == nil || !errors.Is(derr, errForeign):
			err = derr
			bad = append(bad, off)
		default:
			bad = append(bad, off)
		}
	}
	if good == nil {
		if errors.Is(err, errForeign) {
			return sb, holdfast.Errorf(holdfast.Invalid, "open disk: this is not a Holdfast disk; format it first (disk add)")
		}
		if holdfast.IsKind(err, holdfast.Corrupt) {
			return sb, holdfast.Errorf(holdfast.Damaged, "open disk: both copies of the superblock are bad: %w; replace the disk", err)
		}
		return sb, err
	}
	if size := dev.Geometry().Size; size < sb.size {
		return sb, holdfast.Errorf(holdfast.Invalid, "open disk %s: the device has %d bytes, the disk was formatted with %d; give it its size back", sb.id.Disk, size, sb.size)
	}
	for _, off := range bad {
		if !mend {
			break
		}
		if err := dev.WriteAt(good, off); err != nil {
			return sb, holdfast.Errorf(holdfast.IO, "open disk: mend the superblock: %w", err)
		}
	}
	return sb, nil
}

// readRoots returns the newest root and which copies are bad. A root does not
// tear, so a slot without a good copy has rotted, and may have been the newest.
func (s *Store) readRoots() (best rootBlock, bad []int64, err error) {
	for slot := range 2 {
		var top *rootBlock
		for c := range 2 {
			p := newBuffer(shape{header: 1}).b
			rerr := s.dev.ReadAt(p, rootAt(slot, c))
			var r rootBlock
			if rerr == nil {
				r, rerr = decodeRoot(p)
			}
			switch {
			case rerr == nil && r.disk == s.id.Disk && r.seq%2 == uint64(slot):
				if top == nil || r.seq > top.seq {
					top = &r
				}
			case holdfast.IsKind(rerr, holdfast.Invalid):
				return best, nil, rerr
			default:
				bad = append(bad, rootAt(slot, c))
			}
		}
		if top == nil {
			return best, nil, holdfast.Errorf(holdfast.Damaged, "open disk %s: both copies of a checkpoint root are bad; replace the disk and let its replicas be rebuilt", s.id.Disk)
		}
		if slot == 0 || top.seq > best.seq {
			best = *top
		}
	}
	return best, bad, nil
}

// maxCatalog bounds a catalog, in bytes: it is read and written as a whole, from
// memory. A disk that comes near it takes no more writes (see full).
const maxCatalog = 16 << 30

func (s *Store) readCatalog(root *rootBlock) error {
	for c := range root.catalog {
		if err := s.readList(root, c); err != nil {
			s.log.Warn("a list of places of the checkpoint catalog is bad", "disk", s.id.Disk.String(), "copy", c, "err", err)
		}
	}
	err := holdfast.Errorf(holdfast.Damaged, "its root names none")
	for c := range root.catalog {
		var b []byte
		if b, err = s.readCopy(root, c); err != nil {
			s.log.Warn("a copy of the checkpoint catalog is bad", "disk", s.id.Disk.String(), "copy", c, "err", err)
			continue
		}
		if err = s.load(b); err != nil {
			break
		}
		s.catalog, s.catalogList, s.catalogBytes = root.catalog, root.list, root.bytes
		return nil
	}
	return holdfast.Errorf(holdfast.Damaged, "open disk %s: no copy of the checkpoint catalog can be read: %w; replace the disk and let its replicas be rebuilt", s.id.Disk, err)
}

func (s *Store) readCopy(root *rootBlock, c int) ([]byte, error) {
	if err := s.readList(root, c); err != nil {
		return nil, err
	}
	places := root.catalog[c]
	if root.bytes > maxCatalog || uint64(len(places))*uint64(s.sb.segmentBytes) < root.bytes {
		return nil, holdfast.Errorf(holdfast.Corrupt, "it has %d bytes in %d places", root.bytes, len(places))
	}
	buf := newBuffer(shape{header: roundUp(int(root.bytes)) / blockSize}).b
	for rest, i := buf, 0; len(rest) > 0; i++ {
		if places[i] >= s.sb.places {
			return nil, holdfast.Errorf(holdfast.Corrupt, "place %d is beyond the end of the disk", places[i])
		}
		n := min(len(rest), int(s.sb.segmentBytes))
		if err := s.dev.ReadAt(rest[:n], s.offset(places[i], 0)); err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	b := buf[:root.bytes]
	if got := checksum.CRC(b); got != root.crc {
		return nil, holdfast.Errorf(holdfast.Corrupt, "its checksum is %08x, its root says %08x", got, root.crc)
	}
	return b, nil
}

// readList reads the places of a copy that the root does not name itself.
func (s *Store) readList(root *rootBlock, c int) error {
	l := root.list[c]
	if !l.known || root.catalog[c] != nil {
		return nil
	}
	per := uint64(s.sb.segmentBytes)
	n := (root.bytes + per - 1) / per
	if root.bytes > maxCatalog || n > uint64(s.sb.places) || n*4 > per || l.place >= s.sb.places {
		return holdfast.Errorf(holdfast.Corrupt, "it has %d bytes, and the list of its places is in place %d", root.bytes, l.place)
	}
	buf := newBuffer(shape{header: roundUp(int(n*4)) / blockSize}).b
	if err := s.dev.ReadAt(buf, s.offset(l.place, 0)); err != nil {
		return err
	}
	if got := checksum.CRC(buf[:n*4]); got != l.crc {
		return holdfast.Errorf(holdfast.Corrupt, "the checksum of the list of its places is %08x, its root says %08x", got, l.crc)
	}
	for i := range n {
		root.catalog[c] = append(root.catalog[c], le.Uint32(buf[4*i:]))
	}
	return nil
}

// recover brings the loaded checkpoint up to the end of the log. No other task
// runs yet.
func (s *Store) recover(root *rootBlock, sc *scan) error {
	if err := s.space.recount(); err != nil {
		return holdfast.Errorf(holdfast.Damaged, "open disk %s: %w", s.id.Disk, err)
	}
	s.loadPages()
	s.pages.Stored(func(id blockmap.PageID) {
		seg, slot, n := unpackPage(id)
		s.space.mark(seg, slot, uint16(n*blockUnit))
	})
	for i := range sc.batches {
		s.replay(&sc.batches[i])
	}
	for _, r := range s.sorted {
		r.replayBuild = false
		h := r.head
		h.durable = h.prefix
		if h.stable > h.prefix {
			r.markDamaged("records up to " + h.stable.String() + " were on disk everywhere, but only those up to " + h.prefix.String() + " are left")
			h.stable = h.prefix
		}
		if sc.damage != "" {
			r.markDamaged(sc.damage)
		}
	}
	s.ckptSeq = root.seq
	if !root.clean || sc.damage != "" {
		for _, r := range s.sorted {
			r.remembers = 0 // also where it said otherwise before an earlier closing
		}
	}
	s.freeUnused()
	return nil
}

// freeUnused finds the places that nothing refers to.
func (s *Store) freeUnused() {
	used := make(map[uint32]bool)
	was := rootBlock{catalog: s.catalog, list: s.catalogList}
	for _, p := range was.places() {
		used[p] = true
		s.space.virgin = max(s.space.virgin, p+1)
	}
	s.space.each(func(g *segment) {
		if g.place != noPlace {
			used[g.place] = true
			s.space.virgin = max(s.space.virgin, g.place+1)
		}
	})
	s.space.free = nil
	for p := range s.space.virgin {
		if !used[p] {
			s.space.free = append(s.space.free, p)
		}
	}
}

// loadPages loads all inner map pages, so that every reference is counted. A
// page that cannot be read damages the replicas whose maps have it.
func (s *Store) loadPages() {
	bad := 0
	for miss := s.pages.Absent(math.MaxInt); len(miss) > 0; miss = s.pages.Absent(math.MaxInt) {
		bad += s.fetchAll(miss, wide(), true)
	}
	if bad > 0 {
		s.findBadMaps()
	}
}

// findBadMaps walks the maps of all replicas and marks those with pages that
// cannot be read.
func (s *Store) findBadMaps() {
	check := func(root *blockmap.Root) error {
		var at uint64
		for {
			err := root.Walk(0, at, func(addr, n uint64, _ blockmap.Entry) bool {
				at = addr + n
				return true
			})
			if err == nil {
				return nil
			}
			if err = s.resolveMiss(err); err != nil {
				return err
			}
		}
	}
	for _, r := range s.sorted {
		root := r.head.base.Snapshot()
		err := check(root)
		root.Release()
		for _, sn := range r.head.snaps {
			if sn.node != nil && err == nil {
				err = check(sn.node.root)
			}
		}
		if err != nil {
			r.head.stuck = true
			r.markUnread(err)
		}
		r.aside = slices.DeleteFunc(r.aside, func(sn *snap) bool { // it will be sent again
			sn.node.hidden = check(sn.node.root) != nil
			return sn.node.hidden
		})
	}
}

// start begins a new life: a fresh log segment behind a fresh checkpoint, so
// that nothing that was torn is ever looked at again. Then the tasks run.
func (s *Store) start(root *rootBlock) error {
	s.life = root.life + 1
	w := &s.wal
	w.seq = root.log.seq + 1<<20
	for _, g := range s.space.segs {
		if g.class == classLog {
			g.open = false
		}
	}
	if !s.roll() {
		return holdfast.Errorf(holdfast.NoSpace, "open disk %s: no segment is left, not even of the reserve", s.id.Disk)
	}
	s.collect()
	if err := s.runCheckpoint(); err != nil {
		return err
	}
	crashpoint.At(crashpoint.RecoveryBegun)
	s.loadScrub()
	s.running = true
	s.tasks.Go(s.commitTask)
	s.tasks.Go(s.mergeTask)
	s.tasks.Go(s.keepTask)
	s.tasks.Go(s.scrubTask)
	s.wakeAll()
	return nil
}
