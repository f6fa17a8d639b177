// Package audit keeps the record of who did what: an append-only chain of
// entries in kv, one for the whole cluster, in segments of which the oldest go
// (docs/format/audit.md). What the chain proves, and what not, is ADR 0093.
package audit

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// Where the records stand, beside those of package cluster.
const (
	root       = "holdfast/2/audit/"
	keyHead    = root + "head"
	dirSegment = root + "segment/"
)

// Bounds.
const (
	PerSegment  = 64   // entries
	MaxSegments = 64   // that are kept: 4,096 entries, some 1.5 MB
	maxText     = 128  // bytes of a field
	maxQueue    = 1024 // entries that wait to be written
	maxBatch    = PerSegment
	retry       = time.Second
	lastWords   = time.Second // for what waits when the log is closed
)

// Config is what a Log works with.
type Config struct {
	KV    kv.Store
	Clock clock.Clock
	Log   *slog.Logger
	Host  string // name
}

// Log appends to the chain and reads it. Its methods may be called from any task.
type Log struct {
	cfg  Config
	wake clock.Event
	wg   *clock.Group

	unsure *attempt // whether it was written is not known; it belongs to run

	mu     sync.Mutex
	queue  []v1.AuditEntry
	lost   int // entries that found no room
	closed bool
}

// Open starts writing. The caller closes the Log before the kv.Store.
func Open(c Config) *Log {
	l := &Log{cfg: c, wake: c.Clock.NewEvent(), wg: clock.NewGroup(c.Clock)}
	l.wg.Go(l.run)
	return l
}

// Close writes what waits, if that can be done at once.
func (l *Log) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.wake.Set()
	l.wg.Wait()
}

// Add notes what somebody did. It does not wait: the entry is in the host's log
// at once, and in the chain a moment later.
func (l *Log) Add(e v1.AuditEntry) {
	e.At, e.Host = l.cfg.Clock.Wall().UTC(), l.cfg.Host
	for _, s := range []*string{&e.Host, &e.Who, &e.From, &e.Op, &e.Object, &e.Note} {
		*s = clip(*s)
	}
	l.cfg.Log.Info("audit", "who", e.Who, "from", e.From, "op", e.Op, "object", e.Object, "status", e.Status, "note", e.Note)
	l.mu.Lock()
	if len(l.queue) < maxQueue && !l.closed {
		l.queue = append(l.queue, e)
	} else {
		l.lost++
	}
	l.mu.Unlock()
	l.wake.Set()
}

func clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText-3], "") + "..."
}

// run writes what waits until the log is closed.
func (l *Log) run() {
	for end := clock.Forever; ; {
		l.mu.Lock()
		batch, closed := l.batch(), l.closed
		l.mu.Unlock()
		if closed && end == clock.Forever {
			end = l.cfg.Clock.Now() + lastWords
		}
		if len(batch) == 0 {
			if closed {
				return
			}
			l.wake.Wait(clock.Forever)
			continue
		}
		n, err := l.append(batch)
		if err == nil {
			l.mu.Lock()
			l.queue = slices.Clone(l.queue[n:])
			l.mu.Unlock()
			continue
		}
		if holdfast.IsKind(err, holdfast.Closed) || closed && l.cfg.Clock.Now() >= end {
			l.cfg.Log.Error("what was done last is not in the audit log", "entries", len(batch), "err", err)
			return
		}
		if !holdfast.IsKind(err, holdfast.Conflict) && !holdfast.IsKind(err, holdfast.Unknown) {
			l.cfg.Clock.NewEvent().Wait(min(retry, max(0, end-l.cfg.Clock.Now())+retry/10))
		}
	}
}

// batch is what is written next; mu is held. What was lost is told of in the chain.
func (l *Log) batch() []v1.AuditEntry {
	if l.lost > 0 && len(l.queue) < maxQueue {
		l.queue = append(l.queue, v1.AuditEntry{At: l.cfg.Clock.Wall().UTC(), Host: l.cfg.Host, Who: "host " + l.cfg.Host, Op: "audit",
			Note: fmt.Sprintf("%d entries found no room and are not here", l.lost)})
		l.lost = 0
	}
	return slices.Clone(l.queue[:min(len(l.queue), maxBatch)])
}

// head is the end of the chain.
type head struct {
	Next int64  `json:"next"`           // sequence number of the next entry
	Hash string `json:"hash,omitempty"` // of the last
}

// segment is PerSegment entries, or fewer if it is the last one.
type segment struct {
	Before  string          `json:"before,omitempty"` // hash of the entry before
	Entries []v1.AuditEntry `json:"entries"`
}

func segmentKey(n int64) string { return fmt.Sprintf("%s%012d", dirSegment, n) }

// attempt is a segment as it was to be written, with so many of a batch.
type attempt struct {
	segment
	at int64
	n  int
}

// append writes as much of a batch as fits into the last segment; n entries.
func (l *Log) append(batch []v1.AuditEntry) (n int, err error) {
	if u := l.unsure; u != nil {
		stands, err := l.stands(u)
		if err != nil {
			return 0, err
		}
		if l.unsure = nil; stands {
			return u.n, nil
		}
	}
	h, mod, err := l.head()
	if err != nil {
		return 0, err
	}
	at := h.Next / PerSegment
	key := segmentKey(at)
	seg, smod, err := l.segment(at)
	changed := at
	if holdfast.IsKind(err, holdfast.Corrupt) || err == nil && smod != 0 && int64(len(seg.Entries)) != h.Next%PerSegment || err == nil && smod == 0 && h.Next%PerSegment != 0 {
		// What was there was tampered with: it stays as it is, and the gap tells. Or
		// another host has written since the end was read: then nothing is committed.
		at++
		h.Next, key = at*PerSegment, segmentKey(at)
		seg, smod, err = l.segment(at)
	}
	if err != nil {
		return 0, err
	}
	if len(seg.Entries) == 0 {
		seg.Before = h.Hash
	}
	for _, e := range batch {
		if len(seg.Entries) >= PerSegment {
			break
		}
		e.Seq = h.Next
		e.Hash = e.Chain(h.Hash)
		h.Next, h.Hash = h.Next+1, e.Hash
		seg.Entries = append(seg.Entries, e)
		n++
	}
	value, err := json.Marshal(seg)
	if err != nil {
		return 0, err
	}
	top, err := json.Marshal(h)
	if err != nil {
		return 0, err
	}
	ops := []kv.Op{{Key: keyHead, Value: top}, {Key: key, Value: value}}
	if old := at - MaxSegments; old >= 0 && smod == 0 {
		ops = append(ops, kv.Op{Key: segmentKey(old), Delete: true})
	}
	_, err = l.cfg.KV.Commit([]kv.Cond{{Key: keyHead, Mod: mod}, {Key: key, Mod: smod}}, ops)
	if holdfast.IsKind(err, holdfast.Unknown) {
		l.unsure = &attempt{seg, at, n}
	}
	if err == nil && at != changed {
		l.cfg.Log.Error("the end of the audit log was changed by somebody else; it goes on behind it", "segment", changed)
	}
	return n, err
}

// stands reports whether a segment is as it was to be written, or longer. An
// attempt that has not come about by now may still do so: but under conditions
// that the next attempt takes away.
func (l *Log) stands(want *attempt) (bool, error) {
	got, _, err := l.segment(want.at)
	if err != nil && !holdfast.IsKind(err, holdfast.Corrupt) {
		return false, err
	}
	n := len(want.Entries)
	return len(got.Entries) >= n && got.Entries[n-1].Hash == want.Entries[n-1].Hash, nil
}

// head reads the end of the chain; a head that is gone is found in the last
// segment.
func (l *Log) head() (h head, mod kv.Rev, err error) {
	it, err := l.get(keyHead)
	if err != nil {
		return h, 0, err
	}
	if it.Mod != 0 && json.Unmarshal(it.Value, &h) == nil && h.Next >= 0 {
		return h, it.Mod, nil
	}
	items, _, err := l.cfg.KV.Range(dirSegment)
	if err != nil || len(items) == 0 {
		return head{}, it.Mod, err
	}
	last := items[len(items)-1]
	var n int64
	if _, err := fmt.Sscanf(last.Key, dirSegment+"%d", &n); err != nil {
		return head{}, it.Mod, nil
	}
	seg, err := decodeSegment(last.Value)
	if err != nil || len(seg.Entries) == 0 {
		return head{Next: (n + 1) * PerSegment}, it.Mod, nil
	}
	return head{Next: n*PerSegment + int64(len(seg.Entries)), Hash: seg.Entries[len(seg.Entries)-1].Hash}, it.Mod, nil
}

// segment reads one; an empty one with mod 0 if it is not there.
func (l *Log) segment(n int64) (segment, kv.Rev, error) {
	it, err := l.get(segmentKey(n))
	if err != nil || it.Mod == 0 {
		return segment{}, 0, err
	}
	s, err := decodeSegment(it.Value)
	if err != nil {
		err = holdfast.Errorf(holdfast.Corrupt, "entries %d to %d of the audit log cannot be read: %w", n*PerSegment, (n+1)*PerSegment-1, err)
	}
	return s, it.Mod, err
}

// decodeSegment reads a segment. Whether its chain holds it does not say.
func decodeSegment(b []byte) (s segment, err error) {
	if err := json.Unmarshal(b, &s); err != nil {
		return segment{}, err
	}
	if len(s.Entries) > PerSegment {
		return segment{}, fmt.Errorf("it has %d entries, at most %d are written", len(s.Entries), PerSegment)
	}
	return s, nil
}

func (l *Log) get(key string) (kv.Item, error) {
	items, _, err := l.cfg.KV.Range(key)
	if err != nil {
		return kv.Item{}, err
	}
	if i := slices.IndexFunc(items, func(it kv.Item) bool { return it.Key == key }); i >= 0 {
		return items[i], nil
	}
	return kv.Item{}, nil
}

// Read returns up to limit entries from one on; from below 0: the last ones.
// Kind Corrupt: some of them cannot be read.
func (l *Log) Read(from int64, limit int) (p v1.AuditPage, err error) {
	h, _, err := l.head()
	if err != nil {
		return p, err
	}
	p = v1.AuditPage{Entries: []v1.AuditEntry{}, Next: h.Next, Head: h.Hash, First: max(0, (h.Next-1)/PerSegment-MaxSegments+1) * PerSegment}
	if from < 0 {
		from = h.Next - int64(limit)
	}
	from = max(from, p.First)
	for n := from / PerSegment; n*PerSegment < h.Next && len(p.Entries) < limit; n++ {
		seg, _, err := l.segment(n)
		if err != nil {
			return p, err
		}
		before := seg.Before
		for _, e := range seg.Entries {
			if e.Seq < from {
				before = e.Hash
				continue
			}
			if len(p.Entries) == 0 {
				p.Before = before
			}
			if len(p.Entries) < limit {
				p.Entries = append(p.Entries, e)
			}
		}
	}
	return p, nil
}
