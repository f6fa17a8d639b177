package cluster

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// Mirror follows all records that outlive their writers, as the bytes that they
// are: those of kinds that this build does not know, too. Its methods may be
// called from any task.
type Mirror struct {
	st   kv.Store
	clk  clock.Clock
	stop clock.Event
	wg   *clock.Group
	// Changed is set at every change.
	Changed clock.Event

	mu     sync.Mutex
	items  map[string]kv.Item
	rev    kv.Rev // of the last change to items, or of the first read
	err    error  // the records were set back
	closed bool
}

// NewMirror follows the records of a store until Close.
func NewMirror(st kv.Store, clk clock.Clock) *Mirror {
	m := &Mirror{st: st, clk: clk, stop: clk.NewEvent(), wg: clock.NewGroup(clk), Changed: clk.NewEvent()}
	m.wg.Go(m.run)
	return m
}

// Close ends the following.
func (m *Mirror) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.stop.Set()
	m.wg.Wait()
}

// Records returns the records in the order of their keys and the revision as of
// which they are; zero before the first read.
func (m *Mirror) Records() ([]kv.Item, kv.Rev) {
	m.mu.Lock()
	defer m.mu.Unlock()
	items := slices.Collect(maps.Values(m.items))
	slices.SortFunc(items, func(a, b kv.Item) int { return strings.Compare(a.Key, b.Key) })
	return items, m.rev
}

// Rev returns the revision of the last change; kind Damaged if the records were
// set back since they were first read, after which none are taken in.
func (m *Mirror) Rev() (kv.Rev, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rev, m.err
}

func (m *Mirror) stopped() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

func (m *Mirror) run() {
	delay := retryMin
	for !m.stopped() {
		items, rev, err := m.st.Range(root)
		if err == nil {
			delay = retryMin
			if !m.replace(items, rev) {
				m.Changed.Set()
				return
			}
			err = m.follow(rev)
		}
		if m.stopped() || holdfast.IsKind(err, holdfast.Closed) {
			return
		}
		m.stop.Wait(delay)
		delay = min(2*delay, retryMax)
	}
}

// Lasting returns the items that are kept: those that hang on no lease.
func Lasting(items []kv.Item) []kv.Item {
	return slices.DeleteFunc(slices.Clone(items), func(it kv.Item) bool { return it.Lease != 0 || transient(it.Key) })
}

// transient reports whether a key tells only of the moment.
func transient(key string) bool { return dirOf(key) == dirMachine || dirOf(key) == dirJoin }

// replace takes a whole read in, unless it is older than what was read before.
func (m *Mirror) replace(items []kv.Item, rev kv.Rev) bool {
	was, _ := m.Records()
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := ClusterIn(was); ok {
		f := FloorOf(was, c.Incarnation, m.rev)
		if m.err = f.check(items, rev); m.err != nil {
			return false
		}
	}
	m.items = make(map[string]kv.Item, len(items))
	for _, it := range Lasting(items) {
		m.items[it.Key] = it
	}
	m.rev = rev
	m.Changed.Set()
	return true
}

func (m *Mirror) follow(rev kv.Rev) error {
	w := m.st.Watch(root, rev)
	defer w.Close()
	for !m.stopped() {
		evs, err := w.Next(pollStop)
		if err != nil {
			return err
		}
		if m.apply(evs) {
			m.Changed.Set()
		}
	}
	return nil
}

// apply takes changes in and reports whether one was of a record that lasts.
func (m *Mirror) apply(evs []kv.Event) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range evs {
		_, had := m.items[e.Key]
		switch {
		case e.Deleted && had, !e.Deleted && had && (e.Lease != 0 || transient(e.Key)):
			delete(m.items, e.Key)
		case e.Deleted || e.Lease != 0 || transient(e.Key):
			continue
		default:
			m.items[e.Key] = e.Item
		}
		m.rev, changed = max(m.rev, e.Mod), true
	}
	return changed
}

// Floor is what a host knows for certain that the control plane has held: it
// never goes below. The zero Floor knows nothing.
type Floor struct {
	Incarnation int
	Rev         kv.Rev
	Mods        map[string]kv.Rev // of records, at or below Rev
	// Sum is SumOf the records as of Rev, where they are sealed and Mods is not
	// known; zero: it is not known either.
	Sum [sha256.Size]byte
}

// FloorOf is the floor that records which were once read make.
func FloorOf(items []kv.Item, incarnation int, rev kv.Rev) Floor {
	f := Floor{Incarnation: incarnation, Rev: rev, Mods: make(map[string]kv.Rev, len(items))}
	for _, it := range items {
		f.Mods[it.Key] = it.Mod
	}
	return f
}

// SumOf tells records of one revision from others, by their keys and when each was
// changed last. It says nothing of what stands in them.
func SumOf(items []kv.Item) [sha256.Size]byte {
	var b []byte
	for _, it := range items {
		b = append(binary.LittleEndian.AppendUint64(append(b, it.Key...), uint64(it.Mod)), '\n')
	}
	return sha256.Sum256(b)
}

// check refuses records that were set back: what was once read stands at an
// earlier revision than it did, as after an older backup was restored, or nothing
// stands there any more. Records of another incarnation have other revisions. Kind
// Damaged.
func (f *Floor) check(items []kv.Item, rev kv.Rev) error {
	if f.Rev == 0 {
		return nil
	}
	c, ok := ClusterIn(items)
	if !ok && !slices.ContainsFunc(items, func(it kv.Item) bool { return it.Key == keyCluster }) {
		return holdfast.Errorf(holdfast.Damaged, "the control plane was emptied: this host has read its records as of revision %d, and now there are none (revision %d); nothing is opened. If nobody can put it back as it was, see 'holdfast cluster recover --plan'", f.Rev, rev)
	}
	if !ok || c.Incarnation != f.Incarnation {
		return nil
	}
	back := rev < f.Rev
	for _, it := range items {
		back = back || it.Mod < f.Mods[it.Key]
	}
	if !back {
		return nil
	}
	return f.setBack(rev)
}

// compare is check for records that may have gone on since they were set back, so
// that their revisions tell nothing: what stood at the floor's revision must be
// what was read then. What the control plane has forgotten is not compared.
func (f *Floor) compare(st kv.Store, items []kv.Item, rev kv.Rev) error {
	bare := f.Mods == nil
	if c, ok := ClusterIn(items); bare && f.Sum == [sha256.Size]byte{} || !ok || c.Incarnation != f.Incarnation {
		return nil
	}
	then, err := st.RangeAt(root, f.Rev)
	if holdfast.IsKind(err, holdfast.Gap) {
		return nil
	}
	if err != nil {
		return err
	}
	then = Lasting(then)
	same := len(then) == len(f.Mods)
	for _, it := range then {
		same = same && it.Mod == f.Mods[it.Key]
	}
	if bare {
		same = SumOf(then) == f.Sum
	}
	if !same {
		return f.setBack(rev)
	}
	return nil
}

func (f *Floor) setBack(rev kv.Rev) error {
	return holdfast.Errorf(holdfast.Damaged, "the control plane was set back: this host has read its records as of revision %d, and now they are older (revision %d), as after an old backup was restored; which copies of volumes are good is not known from them, so nothing is opened. 'holdfast cluster recover --plan' on the host with the newest records says what can be done", f.Rev, rev)
}

// ReadLasting reads the records that last with a Range of some map, and says of
// which incarnation they are.
func ReadLasting(read func(prefix string) ([]kv.Item, kv.Rev, error)) (items []kv.Item, incarnation int, rev kv.Rev, err error) {
	if items, rev, err = read(root); err != nil {
		return nil, 0, 0, err
	}
	items = Lasting(items)
	c, ok := ClusterIn(items)
	if !ok {
		return nil, 0, 0, holdfast.Errorf(holdfast.NotFound, "there are no records of a cluster")
	}
	return items, c.Incarnation, rev, nil
}

// ClusterIn returns the cluster that records are of.
func ClusterIn(items []kv.Item) (Cluster, bool) {
	for _, it := range items {
		if it.Key == keyCluster {
			c, err := decodeCluster(it.Value)
			return c, err == nil
		}
	}
	return Cluster{}, false
}
