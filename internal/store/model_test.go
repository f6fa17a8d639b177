package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/blockmap"
	"github.com/holdfast-cloud/holdfast/internal/disk/memdisk"
	"github.com/holdfast-cloud/holdfast/internal/record"
)

// image is what a volume holds: tags by block, and its snapshots.
type image struct {
	blocks uint64
	cells  map[uint64]uint64
	snaps  map[holdfast.SnapshotID]image
}

func (i image) clone() image {
	c := image{i.blocks, maps.Clone(i.cells), maps.Clone(i.snaps)}
	return c
}

// modelRec is a record with tags in place of data.
type modelRec struct {
	record.Record
	tags []uint64
}

// model is one replica: its content at the LSN where its history begins (a
// clone, a build), and every record since.
type model struct {
	*vol
	from    image
	at      holdfast.LSN
	recs    []modelRec
	synced  holdfast.LSN
	stable  holdfast.LSN
	pending *record.Start // a Begin whose outcome is not known
	gone    bool
	fate    int // of a Create, Clone or Remove whose outcome is not known
}

// image replays the records up to an LSN.
func (m *model) image(upTo holdfast.LSN) image {
	img := m.from.clone()
	for _, r := range m.recs {
		for i := range max(r.Count, 1) {
			if r.LSN+holdfast.LSN(i) > upTo {
				return img
			}
			a := r.Addr + uint64(i)
			switch r.Kind {
			case record.Write:
				img.cells[a] = r.tags[i]
			case record.Zero:
				delete(img.cells, a)
			}
		}
		switch r.Kind {
		case record.Snapshot:
			img.snaps[r.Snapshot] = image{img.blocks, maps.Clone(img.cells), nil}
		case record.DropSnap:
			delete(img.snaps, r.Snapshot)
		case record.Revert:
			img.cells = maps.Clone(img.snaps[r.Snapshot].cells)
		case record.Grow:
			img.blocks = r.Blocks
		}
	}
	return img
}

func (m *model) last() holdfast.LSN {
	if n := len(m.recs); n > 0 {
		return m.recs[n-1].Last()
	}
	return m.at
}

func (m *model) cut(upTo holdfast.LSN) {
	var keep []modelRec
	for _, r := range m.recs {
		if r.LSN > upTo {
			break
		}
		if r.Last() > upTo {
			n := int(upTo - r.LSN + 1)
			r.Count = uint32(n)
			if r.tags != nil {
				r.tags = r.tags[:n]
			}
		}
		keep = append(keep, r)
	}
	m.recs = keep
}

// fuzzer drives a store and its model with random operations and crashes.
type fuzzer struct {
	*bed
	rng  *rand.Rand
	vols []*model
	ids  byte
	tag  uint64
	log  []string
	mark func() // called when what a crash may leave is another; nil: nobody wants to know
	made *model // a replica that is being built, as it will be
}

// marks tells that what a crash may leave is another from here.
func (f *fuzzer) marks() {
	if f.mark != nil {
		f.mark()
	}
}

const modelBlocks = 200

func newFuzzer(t *testing.T, seed uint64) *fuzzer {
	lag := memdisk.Options{ReadTime: 90 * time.Microsecond, WriteTime: 30 * time.Microsecond, SyncTime: 400 * time.Microsecond}
	b := newBedOf(t, seed, 16<<20, Options{SegmentBytes: testSegment, CheckpointBytes: 600 << 10, MapMemory: 4 * blockmap.LeafBytes}, lag)
	return &fuzzer{bed: b, rng: b.w.Rand("fuzzer")}
}

func (f *fuzzer) note(format string, args ...any) {
	f.log = append(f.log, fmt.Sprintf(format, args...))
}

func (f *fuzzer) fail(format string, args ...any) {
	f.t.Helper()
	for _, l := range f.log[max(0, len(f.log)-200):] {
		f.t.Log(l)
	}
	f.t.Fatalf(format, args...)
}

// during runs an operation; with crash, the power goes somewhere in the middle.
// It reports whether the operation ended by itself.
func (f *fuzzer) during(crash bool, op func() error) (finished bool) {
	f.t.Helper()
	f.marks()
	done := false
	var err error
	f.host.Go(func() {
		err = op()
		done = true
	})
	limit := -1
	if crash {
		limit = f.rng.IntN(120)
	}
	steps := 0
	ok := f.w.RunUntil(func() bool { steps++; return done || limit >= 0 && steps > limit }, f.w.Now()+time.Hour)
	if !ok && !crash {
		f.fail("the operation hangs")
	}
	if done && holdfast.IsKind(err, holdfast.NoSpace) {
		f.relieve(err)
		return false
	}
	if done && err != nil {
		f.fail("the operation failed: %v", err)
	}
	return done
}

// relieve makes room on a full disk: first by waiting for the cleaner, then by
// removing a volume. A disk that is not really full is a failure.
func (f *fuzzer) relieve(cause error) {
	f.t.Helper()
	f.note("full: %v", cause)
	before := f.s.Usage()
	f.settle()
	u := f.s.Usage()
	if u.Free > before.Free {
		return
	}
	if u.Live < u.Total/2 {
		f.fail("%v, with %d of %d bytes live and %d free", cause, u.Live, u.Total, u.Free)
	}
	if m := f.pick(); m != nil {
		f.remove(m, false)
		f.settle()
	}
}

func (f *fuzzer) pick() *model {
	if len(f.vols) == 0 {
		return nil
	}
	return f.vols[f.rng.IntN(len(f.vols))]
}

// step does one operation.
func (f *fuzzer) step() {
	crash := f.rng.IntN(25) == 0
	m := f.pick()
	switch k := f.rng.IntN(100); {
	case m == nil || k < 3 && len(f.vols) < 4:
		f.create(crash)
	case k < 6 && len(f.vols) < 4:
		f.cloneOf(m, crash)
	case k < 8:
		f.remove(m, crash)
	case k < 50:
		f.append(m)
		if crash {
			f.during(true, func() error { return syncTo(m.r(), m.last()) })
		}
	case k < 62:
		l := m.last()
		f.note("sync %d %v crash %v", m.id.UUID[15], l, crash)
		if f.during(crash, func() error { return syncTo(m.r(), l) }) {
			m.synced = max(m.synced, l)
		}
	case k < 72:
		l := m.synced
		f.note("stable %d %v", m.id.UUID[15], l)
		m.stable = max(m.stable, l)
		m.r().SetStable(l)
		if crash {
			f.during(true, func() error { return f.s.Checkpoint() })
		}
	case k < 78:
		f.begin(m, crash)
	case k < 84:
		f.note("checkpoint crash %v", crash)
		f.during(crash, func() error { return f.s.Checkpoint() })
	case k < 88:
		f.w.Run(f.w.Now() + time.Duration(f.rng.IntN(3000))*time.Millisecond)
	case k < 90:
		f.note("restart")
		f.during(crash, f.s.Close)
		for _, m := range f.vols {
			if !crash {
				m.synced = m.last()
			}
		}
		crash = true
	case k < 95:
		f.rebuild(m, crash)
	default:
		f.check(m)
	}
	if crash {
		f.crashed()
	}
}

func (f *fuzzer) create(crash bool) {
	f.ids++
	m := &model{vol: &vol{f.bed, replicaID(f.ids), volumeID(f.ids)}, from: image{modelBlocks, map[uint64]uint64{}, map[holdfast.SnapshotID]image{}}, fate: 1}
	f.note("create %d crash %v", f.ids, crash)
	f.vols = append(f.vols, m)
	if f.during(crash, func() error { _, err := f.s.Create(m.id, m.vid, modelBlocks); return err }) {
		m.fate = 0
	}
}

func (f *fuzzer) cloneOf(m *model, crash bool) {
	img := m.image(m.last())
	var snap holdfast.SnapshotID
	for n := byte(1); n < 4; n++ { // a snapshot that is stable, if there is one
		if _, ok := m.image(m.stable).snaps[snapID(n)]; ok && f.rng.IntN(2) == 0 {
			if _, ok := img.snaps[snapID(n)]; ok {
				snap = snapID(n)
			}
		}
	}
	for _, sn := range m.state().Snapshots {
		if sn.ID == snap && sn.LSN > m.stable {
			return // an older one of the same name was stable
		}
	}
	if snap.IsZero() && (m.stable != m.last()) {
		return
	}
	f.ids++
	c := &model{vol: &vol{f.bed, replicaID(f.ids), volumeID(f.ids)}, fate: 1}
	f.note("clone %d of %v snap %v crash %v", f.ids, m.id.Short(), snap.Short(), crash)
	if snap.IsZero() {
		c.from = image{img.blocks, img.cells, map[holdfast.SnapshotID]image{}}
		c.at = m.last()
	} else {
		c.from = image{img.snaps[snap].blocks, maps.Clone(img.snaps[snap].cells), map[holdfast.SnapshotID]image{}}
		for _, s := range m.state().Snapshots {
			if s.ID == snap {
				c.at = s.LSN
			}
		}
	}
	c.synced, c.stable = c.at, c.at
	f.vols = append(f.vols, c)
	from := m.r()
	from.SetStable(m.stable)
	if f.during(crash, func() error { _, err := f.s.Clone(c.id, c.vid, from, snap); return err }) {
		c.fate = 0
	}
}

func (f *fuzzer) forget(m *model) {
	m.gone = true
	for i, x := range f.vols {
		if x == m {
			f.vols = append(f.vols[:i:i], f.vols[i+1:]...)
		}
	}
}

func (f *fuzzer) remove(m *model, crash bool) {
	f.note("remove %v crash %v", m.id.Short(), crash)
	m.fate = 1
	if f.during(crash, func() error { return f.s.Remove(m.id) }) {
		f.forget(m)
	}
}

// append adds a few records.
func (f *fuzzer) append(m *model) {
	if m.last().Epoch() == 0 {
		f.begin(m, false)
	}
	for range 1 + f.rng.IntN(6) {
		r := f.record(m)
		m.recs = append(m.recs, r)
		f.marks()
		f.note("append %d %v kind %d %d+%d %v", m.id.UUID[15], r.LSN, r.Kind, r.Addr, r.Count, r.Snapshot.UUID[13])
		for {
			err := f.try(func() error { return m.r().Append([]record.Record{r.Record}) })
			if err == nil {
				break
			}
			if !holdfast.IsKind(err, holdfast.NoSpace) {
				f.fail("append: %v", err)
			}
			if f.relieve(err); m.gone {
				return
			}
		}
		if f.s.Full() {
			f.w.Run(f.w.Now() + 5*time.Second)
		}
	}
}

func (f *fuzzer) record(m *model) modelRec {
	img := m.image(m.last())
	lsn := m.last() + 1
	n := uint32(1 + f.rng.IntN(12))
	if f.rng.IntN(6) == 0 {
		n = uint32(1 + f.rng.IntN(100))
	}
	addr := f.rng.Uint64N(img.blocks - uint64(n) + 1)
	id := snapID(byte(1 + f.rng.IntN(3)))
	_, has := img.snaps[id]
	switch k := f.rng.IntN(100); {
	case k < 12:
		return modelRec{Record: record.Record{Kind: record.Zero, LSN: lsn, Addr: addr, Count: n}}
	case k < 18 && !has:
		return modelRec{Record: record.Record{Kind: record.Snapshot, LSN: lsn, Snapshot: id}}
	case k < 20 && has:
		return modelRec{Record: record.Record{Kind: record.DropSnap, LSN: lsn, Snapshot: id}}
	case k < 24 && has && img.snaps[id].blocks == img.blocks:
		return modelRec{Record: record.Record{Kind: record.Revert, LSN: lsn, Snapshot: id}}
	case k < 25 && img.blocks < 2*modelBlocks:
		return modelRec{Record: record.Record{Kind: record.Grow, LSN: lsn, Blocks: img.blocks + 7}}
	}
	tags := make([]uint64, n)
	for i := range tags {
		f.tag++
		tags[i] = f.tag
	}
	return modelRec{writeRec(m.vid, lsn, addr, tags...), tags}
}

// begin opens an epoch at some cut that is not below stable.
func (f *fuzzer) begin(m *model, crash bool) {
	cut := m.last()
	if m.stable < cut && cut.Epoch() == m.stable.Epoch() && f.rng.IntN(2) == 0 {
		cut = m.stable + holdfast.LSN(f.rng.Uint64N(uint64(cut-m.stable)+1))
	}
	st := record.Start{Epoch: m.last().Epoch() + 1, Prev: cut.Epoch(), Cut: cut}
	f.note("begin %d epoch %d at %v crash %v", m.id.UUID[15], st.Epoch, cut, crash)
	m.pending = &st
	if f.during(crash, func() error { return m.r().Begin(st) }) {
		m.began()
	}
}

func (m *model) began() {
	m.cut(m.pending.Cut)
	m.recs = append(m.recs, modelRec{Record: record.Record{Kind: record.EpochStart, LSN: startLSN(*m.pending), Start: *m.pending}})
	m.synced = m.last()
	m.pending = nil
}

// rebuild makes a new replica of a volume, in one or two resyncs between which
// the volume goes on, and checks it with its snapshots.
func (f *fuzzer) rebuild(m *model, crash bool) {
	f.ids++
	c := &model{vol: &vol{f.bed, replicaID(f.ids), m.vid}}
	f.note("build %d from %v crash %v", f.ids, m.id.Short(), crash)
	f.run(func() error { _, err := f.s.Create(c.id, c.vid, modelBlocks); return err })
	c.from = image{modelBlocks, map[uint64]uint64{}, map[holdfast.SnapshotID]image{}}
	for range 1 + f.rng.IntN(2) {
		img := m.image(m.last())
		from := m.r()
		var at holdfast.LSN
		f.made = &model{vol: c.vol, from: img.clone(), at: m.last()}
		if !f.during(crash, func() error {
			p := from.Pin()
			defer p.Release()
			at = p.LSN()
			if err := resync(p, f.s.Replica(c.id), from.State().History, img.blocks, f.rng); err != nil {
				return err
			}
			q := f.s.Replica(c.id).Pin()
			defer q.Release()
			return sameDigests(p, q)
		}) {
			f.interrupted(c, crash)
			return
		}
		f.note("built %d up to %v", c.id.UUID[15], at)
		c.from, c.at = img.clone(), at
		c.check(f)
		if f.rng.IntN(2) == 0 {
			f.during(false, f.s.Checkpoint)
		}
		for range f.rng.IntN(4) {
			if f.append(m); m.gone {
				break
			}
		}
		if m.gone {
			break
		}
		f.during(false, func() error { return syncTo(m.r(), m.last()) })
		m.synced = m.last()
	}
	f.made = nil
	f.run(func() error { return f.s.Remove(c.id) })
}

// interrupted checks what a resync leaves that did not end: what was there
// before it, or all of it.
func (f *fuzzer) interrupted(c *model, crash bool) {
	if crash {
		f.crashed()
	}
	r := f.s.Replica(c.id)
	if r == nil {
		return
	}
	if !crash {
		f.run(func() error { return r.AbortBuild(now(r)) })
	}
	if st := r.State(); st.Prefix == c.at {
		c.check(f)
	}
	f.run(func() error { return f.s.Remove(c.id) })
}

// crashed cuts the power and brings the model in line with what survived.
func (f *fuzzer) crashed() {
	f.t.Helper()
	f.note("crash")
	f.crash()
	f.recovered()
}

// recovered brings the model in line with what is there after a crash.
func (f *fuzzer) recovered() {
	f.t.Helper()
	for _, m := range append([]*model(nil), f.vols...) {
		r := f.s.Replica(m.id)
		if r == nil {
			if m.fate == 0 {
				f.fail("replica %v is gone", m.id.Short())
			}
			f.forget(m)
			continue
		}
		m.fate = 0
		st := r.State()
		if p := m.pending; p != nil {
			if n := len(st.History); n > 0 && st.History[n-1] == *p {
				m.began()
			}
			m.pending = nil
		}
		if st.Damage != "" || st.Building || st.Prefix < m.synced && m.synced <= m.last() || st.Prefix > m.last() || st.Stable > st.Prefix {
			f.fail("after the crash %v is %+v; synced was %v, appended %v", m.id.Short(), st, m.synced, m.last())
		}
		m.cut(st.Prefix)
		if m.last() != st.Prefix {
			f.fail("after the crash the prefix of %v is %v, which is no LSN of its history (%v)", m.id.Short(), st.Prefix, m.last())
		}
		m.synced = st.Prefix
		m.stable = max(st.Stable, min(m.stable, st.Prefix))
		m.check(f)
	}
}

func (f *fuzzer) check(m *model) {
	f.note("check %d", m.id.UUID[15])
	m.check(f)
}

func (m *model) check(f *fuzzer) {
	f.t.Helper()
	img := m.image(m.last())
	st := m.state()
	if st.Blocks != img.blocks || st.Prefix != m.last() || len(st.Snapshots) != len(img.snaps) {
		f.fail("%v is %+v; the model ends at %v with %d blocks and %d snapshots", m.id.Short(), st, m.last(), img.blocks, len(img.snaps))
	}
	f.compareImage(m, img.cells)
	for _, sn := range st.Snapshots {
		want, ok := img.snaps[sn.ID]
		if !ok || want.blocks != sn.Blocks {
			f.fail("%v has snapshot %+v, the model %+v", m.id.Short(), sn, want.blocks)
		}
		p := make([]byte, sn.Blocks*blockSize)
		if err := f.try(func() error { return m.r().ReadSnapshot(sn.ID, p, 0, testOpener{}) }); err != nil {
			f.fail("snapshot %v of %v: %v", sn.ID.Short(), m.id.Short(), err)
		}
		f.compareCells(m, "snapshot", p, want.cells)
		f.compareDiff(m, RootRef{Snapshot: sn.ID}, RootRef{}, want, img)
	}
	if n := len(st.Snapshots); n > 1 {
		a, b := st.Snapshots[f.rng.IntN(n)].ID, st.Snapshots[f.rng.IntN(n)].ID
		f.compareDiff(m, RootRef{Snapshot: a}, RootRef{Snapshot: b}, img.snaps[a], img.snaps[b])
	}
}

// compareDiff checks that a Diff tells all that differs, up to the later root's
// end, and nothing else.
func (f *fuzzer) compareDiff(m *model, from, to RootRef, was, is image) {
	f.t.Helper()
	got := m.changed(from, to, 1+f.rng.IntN(20))
	for a := range uint64(3 * modelBlocks) {
		hole, told := got[a]
		x, y := was.cells[a], is.cells[a]
		if differs := x != y && a < is.blocks; told != differs || told && hole != (y == 0) {
			f.fail("diff of %v from %v to %v: block %d was %d and is %d; told %v, hole %v", m.id.Short(), from, to, a, x, y, told, hole)
		}
	}
}

func (f *fuzzer) compareImage(m *model, cells map[uint64]uint64) {
	f.t.Helper()
	p, err := m.read(0, int(m.state().Blocks))
	if err != nil {
		var c *CorruptError
		if errors.As(err, &c) {
			h := m.r().head
			x, _ := h.lookup(c.Addr)
			f.note("lookup %+v stored %v", x, x.stored())
			if x.b != nil {
				f.note("batch %+v", *x.b)
				x.seg, x.slot = x.b.head.seg, x.b.slotOf(x.idx)
			}
			at, blk := f.s.space.locate(x.seg, x.slot)
			f.note("at %+v block %d", at, blk)
			if at != nil {
				raw := make([]byte, f.s.sb.segmentBytes)
				f.d.Peek(raw, f.s.offset(at.place, 0))
				for i := uint32(0); i < f.s.space.segBlocks; i++ {
					if hd, ok := parseHeader(raw[i*blockSize:]); ok {
						f.note("  block %d: batch %d of segment %d life %d, %d+%d", i, hd.seq, hd.seg, hd.life, hd.blocks, hd.payload)
					} else if le.Uint32(raw[i*blockSize:]) == 0 {
						f.note("  block %d: zeros", i)
					}
				}
			}
		}
		f.fail("read of %v: %v", m.id.Short(), err)
	}
	f.compareCells(m, "head", p, cells)
}

func (f *fuzzer) compareCells(m *model, what string, p []byte, cells map[uint64]uint64) {
	f.t.Helper()
	for a := range len(p) / blockSize {
		want := zeroBlock()
		if tag, ok := cells[uint64(a)]; ok {
			want = content(tag)
		}
		if !bytes.Equal(want, p[a*blockSize:(a+1)*blockSize]) {
			f.fail("%s of %v: block %d is not what was written as %d", what, m.id.Short(), a, cells[uint64(a)])
		}
	}
}

// finish removes everything; then nothing may be live.
func (f *fuzzer) finish() {
	f.t.Helper()
	for _, m := range f.vols {
		m.check(f)
	}
	for _, m := range f.vols {
		f.run(func() error { return f.s.Remove(m.id) })
	}
	f.settle()
	for range 3 {
		f.run(f.s.Checkpoint)
	}
	if live := f.s.Usage().Live; live != 0 {
		f.fail("%d blocks are live though no replica is left", live/blockSize)
	}
}

func TestRandomHistoriesWithCrashes(t *testing.T) {
	seeds := 40
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			f := newFuzzer(t, uint64(seed))
			for range 250 {
				f.step()
				if err := f.s.checkSpace(); err != nil {
					f.fail("%v", err)
				}
			}
			f.finish()
		})
	}
}

func TestTheSameSeedWritesTheSameDisk(t *testing.T) {
	history := func() (string, []byte) {
		f := newFuzzer(t, 7)
		for range 120 {
			f.step()
		}
		all := make([]byte, 16<<20)
		f.d.Peek(all, 0)
		return fmt.Sprint(f.w.Now(), f.d.Stats(), f.log), all
	}
	log, disk := history()
	for range 2 {
		again, other := history()
		if again != log || !bytes.Equal(disk, other) {
			t.Fatal("two runs of one seed differ")
		}
	}
}
