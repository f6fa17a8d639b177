package volume

import (
	"math"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/replica"
)

// In-sync replicas hold the same blocks: the same addresses with the same LSNs
// and hashes, in every root (invariant 7). The writer compares them by digests of
// their maps, which say nothing of where a block lies; no data is read
// (docs/protocol/replica.md).

// Place is where a comparison of a volume's replicas goes on; the zero Place is
// where it begins.
type Place struct {
	Root holdfast.LSN // of the snapshot; AtHead: of the head
	Addr uint64
}

// AtHead is the Root of the head's Place: it comes behind all snapshots.
const AtHead = holdfast.LSN(math.MaxUint64)

// Comparison is a part of a comparison.
type Comparison struct {
	Replicas    []cluster.Replica // that were compared, the writer's own first
	At          holdfast.LSN      // as of which the head was
	Blocks      uint64            // that were compared; what a snapshot shares with the one it descends from counts once
	Busy        uint64            // that were overwritten while the comparison began, and were left out
	Differences []Difference
	Next        Place   // where to go on
	More        bool    // there is more
	Done        float64 // how much of the whole is behind Next, 0 to 1
}

// Difference is a block of which not all replicas hold the same, or a snapshot
// that not all have.
type Difference struct {
	Snapshot holdfast.SnapshotID // zero: the head
	Lacking  bool                // the snapshot itself: Held has its LSN and size
	Addr     uint64
	Held     []Held // by each of Comparison.Replicas
}

// Held is what one replica holds; zero: the block was never written, or the
// snapshot is not there.
type Held struct {
	LSN    holdfast.LSN
	Origin holdfast.VolumeID // the volume as which it was written
	Hash   uint64            // of what is stored
	Hole   bool              // it reads as zero, because a record said so
	Blocks uint64            // of a snapshot: its size
}

// Bounds on one part of a comparison.
const (
	partTime        = 2 * time.Second // about; roots are kept no longer
	partDifferences = 512             // one stretch may add as many again
	compareTries    = 8
	compareRetry    = 500 * time.Millisecond
	pinRounds       = 6
)

// Compare compares the in-sync replicas from a place on, for about two seconds.
// It goes on while the volume is used: what is overwritten meanwhile may be left
// out, and is counted. A replica that is lost in the middle is done without. Kind
// Unavailable if fewer than two are left. It blocks.
func (v *Volume) Compare(from Place) (c Comparison, err error) {
	for try := range compareTries {
		if try > 0 {
			clock.Sleep(v.s.Clock, compareRetry) // one that was lost is ejected soon
		}
		if failed := v.Err(); failed != nil {
			return c, failed
		}
		k := matching{v: v, out: Comparison{Next: from, More: true}}
		err = k.part()
		if err == nil || k.out.Next != from {
			return k.out, nil
		}
		switch holdfast.KindOf(err) {
		case holdfast.Corrupt, holdfast.IO, holdfast.Damaged, holdfast.Invalid:
			return k.out, err
		}
		if k.alone {
			return k.out, err
		}
	}
	return c, err
}

// matching makes one part of a comparison.
type matching struct {
	v     *Volume
	maps  []source
	shown []replica.Pinned
	upto  holdfast.LSN // what all of them have
	alone bool
	out   Comparison
}

// root is a snapshot or the head (zero), as at least one replica has it.
type root struct {
	replica.Root
	place   holdfast.LSN
	against holdfast.SnapshotID
	lacking bool // not all have it
}

func (k *matching) part() error {
	began := k.v.s.Clock.Now()
	defer k.release()
	if err := k.pin(); err != nil {
		return err
	}
	roots := k.roots()
	for i, r := range roots {
		if r.place < k.out.Next.Root {
			continue
		}
		if r.place > k.out.Next.Root {
			k.out.Next = Place{Root: r.place}
		}
		if r.lacking && k.out.Next.Addr == 0 {
			k.out.Differences = append(k.out.Differences, k.lacking(r))
		}
		for more := !r.lacking; more; {
			if k.v.s.Clock.Now()-began >= partTime || len(k.out.Differences) >= partDifferences {
				k.progress(i, len(roots), r)
				return nil
			}
			var err error
			if more, err = k.step(r); err != nil {
				k.progress(i, len(roots), r)
				return err
			}
		}
		k.out.Next = Place{Root: r.place + 1}
		if r.place == AtHead {
			k.out.Next, k.out.More, k.out.Done = Place{}, false, 1
		}
	}
	return nil
}

// progress notes how far it has come, in the i-th of n roots.
func (k *matching) progress(i, n int, r root) {
	within := 0.0
	if r.Blocks > 0 {
		within = min(1, float64(k.out.Next.Addr)/float64(r.Blocks))
	}
	k.out.Done = (float64(i) + within) / float64(n)
}

// members are the replicas that are to agree.
func (k *matching) members() (refs []cluster.Replica, err error) {
	v := k.v
	v.mu.Lock()
	local := v.local
	for i := range v.m.Members() {
		if m := &v.m.Members()[i]; local != nil && m.ID == v.localID && m.InSync && !m.Gone {
			refs = append(refs, v.refs[i])
		}
	}
	v.mu.Unlock()
	for _, o := range v.others() {
		refs = append(refs, o.Replica)
	}
	if len(refs) < 2 {
		k.alone = true
		return nil, holdfast.Errorf(holdfast.Unavailable, "volume %s has %d copy in sync; there is nothing to compare it with. 'holdfast volume show %s' tells what becomes of the others", v.Record().Name, len(refs), v.Record().Name)
	}
	return refs, nil
}

// pin keeps the roots of all replicas such that each shows all that happened to
// the roots up to k.upto. A snapshot may be made, or let go, between one pin and
// the next; it is lacking only if it is so in two rounds, of which the second
// shows all that the first did.
func (k *matching) pin() error {
	refs, err := k.members()
	if err != nil {
		return err
	}
	k.out.Replicas = refs
	var base holdfast.LSN
	var lacked map[rootName]bool
	for range pinRounds {
		k.release()
		k.maps, k.shown = make([]source, len(refs)), make([]replica.Pinned, len(refs))
		if err := k.each(func(i int) (err error) { k.maps[i], err = k.v.pinOf(refs[i], base); return err }); err != nil {
			return err
		}
		low, high, reverted := AtHead, holdfast.LSN(0), holdfast.LSN(0)
		for i := range k.maps {
			k.shown[i] = k.maps[i].shows()
			low, high = min(low, k.shown[i].LSN), max(high, k.shown[i].LSN)
			reverted = max(reverted, k.shown[i].Reverted)
		}
		k.upto = low
		lacks := k.lacks()
		sure := low >= base // this round shows what the last one did
		for name := range lacks {
			sure = sure && lacked[name]
		}
		if sure && reverted <= low {
			k.out.At = low
			return nil
		}
		base, lacked = high, lacks
	}
	return holdfast.Errorf(holdfast.Busy, "the snapshots of volume %s change faster than its copies can be compared; try again", k.v.Record().Name)
}

// pinOf keeps the roots of a replica, wherever it is.
func (v *Volume) pinOf(ref cluster.Replica, base holdfast.LSN) (source, error) {
	v.mu.Lock()
	local := v.local
	if v.localID != ref.ID {
		local = nil
	}
	v.mu.Unlock()
	if local != nil {
		return &localSource{v: v, pin: local.r.Pin()}, nil
	}
	return v.pinAt(ref, base)
}

func (k *matching) release() {
	_ = k.each(func(i int) error {
		if k.maps[i] != nil {
			k.maps[i].release()
		}
		return nil
	})
	k.maps = nil
}

// each calls f for every replica, side by side, and returns the first error.
func (k *matching) each(f func(i int) error) error {
	n := len(k.maps)
	errs, ended := make([]error, n), make([]clock.Event, n)
	for i := range n {
		ended[i] = k.v.s.Clock.NewEvent()
		k.v.s.tasks.Go(func() {
			errs[i] = f(i)
			ended[i].Set()
		})
	}
	for _, e := range ended {
		e.Wait(clock.Forever)
	}
	for i, err := range errs {
		if err != nil {
			ref := k.out.Replicas[i]
			return holdfast.Errorf(holdfast.KindOf(err), "replica %s on host %s: %w", ref.ID.Short(), ref.Host.Short(), err)
		}
	}
	return nil
}

// lacks finds the snapshots, of those made up to k.upto, that not all have.
func (k *matching) lacks() map[rootName]bool {
	n := make(map[replica.Root]int)
	for i := range k.shown {
		for _, r := range k.shown[i].Roots {
			n[replica.Root{ID: r.ID, LSN: r.LSN, Blocks: r.Blocks}]++
		}
	}
	out := make(map[rootName]bool)
	for r, have := range n {
		if have < len(k.shown) && r.LSN <= k.upto {
			out[rootName{r.ID, r.LSN}] = true
		}
	}
	return out
}

// roots lists what is to be compared, in order. A snapshot, and the head, is
// compared as what differs from the snapshot that it descends from, which comes
// before it.
func (k *matching) roots() (out []root) {
	lacks := k.lacks()
	seen := make(map[rootName]bool)
	against := func(id holdfast.SnapshotID) holdfast.SnapshotID {
		for _, r := range k.shown[0].Roots {
			if r.ID == id && r.LSN <= k.upto && !lacks[rootName{r.ID, r.LSN}] {
				return id
			}
		}
		return holdfast.SnapshotID{}
	}
	for i := range k.shown {
		for _, r := range k.shown[i].Roots {
			name := rootName{r.ID, r.LSN}
			if r.LSN > k.upto || seen[name] {
				continue
			}
			seen[name] = true
			out = append(out, root{Root: r, place: r.LSN, against: against(r.Parent), lacking: lacks[name]})
		}
	}
	slices.SortFunc(out, func(a, b root) int {
		if a.LSN != b.LSN {
			return int(min(max(int64(a.LSN-b.LSN), -1), 1))
		}
		return slices.Compare(a.ID.UUID[:], b.ID.UUID[:])
	})
	head := root{place: AtHead, against: against(k.shown[0].Parent)}
	head.Blocks = k.v.Record().Blocks
	return append(out, head)
}

func (k *matching) lacking(r root) Difference {
	d := Difference{Snapshot: r.ID, Lacking: true, Held: make([]Held, len(k.shown))}
	for i := range k.shown {
		for _, x := range k.shown[i].Roots {
			if x.ID == r.ID && x.LSN == r.LSN {
				d.Held[i] = Held{LSN: x.LSN, Blocks: x.Blocks}
			}
		}
	}
	return d
}

// step compares some stretches of a root, from k.out.Next on, and reports
// whether there are more.
func (k *matching) step(r root) (more bool, err error) {
	ask := replica.DigestAsk{From: k.out.Next.Addr, Root: r.ID, Against: r.against}
	told := make([]replica.Digests, len(k.maps))
	if err := k.each(func(i int) (err error) { told[i], err = k.maps[i].digests(ask, k.upto); return err }); err != nil {
		return false, err
	}
	end := uint64(math.MaxUint64) // up to where all have told
	for i := range told {
		if told[i].More {
			end, more = min(end, told[i].Next), true
		}
	}
	for at := first(told); at < end; at = first(told) {
		sum, newer, same := stretch(told, at)
		if same {
			k.out.Blocks += sum.Blocks
			k.out.Busy += newer
		} else if err := k.drill(r, at); err != nil {
			return more, err
		}
		k.out.Next.Addr = at + replica.DigestSpan
		if len(k.out.Differences) >= partDifferences {
			return true, nil
		}
	}
	if more {
		k.out.Next.Addr = end
	}
	return more, nil
}

// first is where the next stretch begins of which somebody tells something.
func first(told []replica.Digests) uint64 {
	at := uint64(math.MaxUint64)
	for i := range told {
		if l := told[i].List; len(l) > 0 {
			at = min(at, l[0].Addr)
		}
	}
	return at
}

// stretch takes what all tell of the stretch that begins at an address: what the
// first one does, how many blocks are left out, and whether all tell the same.
func stretch(told []replica.Digests, at uint64) (sum replica.Digest, newer uint64, same bool) {
	same = true
	for i := range told {
		x := replica.Digest{Addr: at}
		if l := told[i].List; len(l) > 0 && l[0].Addr == at {
			x, told[i].List = l[0], l[1:]
		}
		newer = max(newer, x.Newer)
		x.Newer = 0
		if i == 0 {
			sum = x
		}
		same = same && x == sum
	}
	return sum, newer, same
}

// drill names the blocks of a stretch that differ.
func (k *matching) drill(r root, from uint64) error {
	list := make([][]replica.Block, len(k.maps))
	if err := k.each(func(i int) (err error) { list[i], err = k.maps[i].entries(r.ID, from); return err }); err != nil {
		return err
	}
	for addr := from; addr < from+replica.DigestSpan; addr++ {
		d := Difference{Snapshot: r.ID, Addr: addr, Held: make([]Held, len(list))}
		busy, same := false, true
		for i := range list {
			if len(list[i]) > 0 && list[i][0].Addr == addr {
				b := list[i][0]
				list[i] = list[i][1:]
				d.Held[i] = Held{LSN: b.LSN, Origin: b.Origin, Hash: b.Hash, Hole: b.Hole}
			}
			busy = busy || d.Held[i].LSN > k.upto
			same = same && d.Held[i] == d.Held[0]
		}
		switch {
		case busy:
			k.out.Busy++
		case !same:
			k.out.Differences = append(k.out.Differences, d)
		case d.Held[0].LSN != 0:
			k.out.Blocks++
		}
	}
	return nil
}
