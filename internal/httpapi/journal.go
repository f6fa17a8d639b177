package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"math"
	"slices"
	"sync"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

const (
	journalLook  = time.Second // at least so often: what is away changes no record
	journalPause = 100 * time.Millisecond
	journalMost  = 500 * time.Millisecond // of a pause: what is committed is told within a second
	journalGone  = 1000                   // that are remembered
)

// journal knows of everything that the watch stream tells when it changed last. A
// change is a change of what is told, not of a record: pictures are rendered, one
// after the other, and compared with what was told before
// (docs/adr/0086-a-stream-of-what-is.md).
type journal struct {
	look func() look
	wait func(kv.Rev, time.Duration)

	mu       sync.Mutex
	turn     uint64 // rises with each look that found something
	rev      kv.Rev // of the last picture
	floor    kv.Rev // whoever has seen less must be told everything
	things   map[thing]*told
	gone     []*told // the oldest first
	news     chan struct{}
	watchers int
	came     chan struct{} // closed when there is a watcher
	idle     bool          // nobody has watched since the last look, which may be old
}

// thing is something that is told of.
type thing struct{ kind, id string }

// told is a thing as it was told last.
type told struct {
	thing
	turn uint64
	rev  kv.Rev
	line []byte // the event
}

// look is a picture, rendered.
type look struct {
	rev    kv.Rev // to wait for a later one
	at     kv.Rev // the same, over all incarnations of the control plane
	stale  bool   // the control plane is not reached: there is a status, and no more
	events []v1.Event
}

func newJournal(at func() look, wait func(kv.Rev, time.Duration)) *journal {
	return &journal{look: at, wait: wait, floor: math.MaxInt64, idle: true,
		things: map[thing]*told{}, news: make(chan struct{}), came: make(chan struct{})}
}

// run follows the pictures while somebody watches, until ctx ends.
func (j *journal) run(ctx context.Context) {
	for j.watched(ctx) {
		begun := time.Now()
		l := j.look()
		j.take(l)
		// What takes long to look at is looked at less often: a tenth of a processor,
		// unless that would be late.
		select {
		case <-time.After(max(journalPause, min(10*time.Since(begun), journalMost))):
		case <-ctx.Done():
		}
		j.wait(l.rev, journalLook)
	}
}

// watched waits for a watcher; false: ctx has ended.
func (j *journal) watched(ctx context.Context) bool {
	j.mu.Lock()
	came := j.came
	if j.watchers > 0 {
		j.mu.Unlock()
		return ctx.Err() == nil
	}
	j.idle = true
	j.mu.Unlock()
	select {
	case <-came:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func (j *journal) enter() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.watchers++; j.watchers == 1 {
		close(j.came)
	}
}

// leave reports whether nobody watches any more.
func (j *journal) leave() (last bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.watchers--; j.watchers == 0 {
		j.came = make(chan struct{})
	}
	return j.watchers == 0
}

// take notes what is new in a look.
func (j *journal) take(l look) {
	j.mu.Lock()
	defer j.mu.Unlock()
	turn := j.turn + 1
	changed := j.changes(l, turn)
	if !l.stale {
		changed = j.losses(l, turn) || changed
		if j.rev = max(j.rev, l.at); j.floor == math.MaxInt64 {
			j.floor = l.at // who saw an earlier picture may know of what is no more
		}
	}
	if changed {
		j.turn = turn
	}
	if changed || j.idle {
		j.idle = false
		close(j.news)
		j.news = make(chan struct{})
	}
}

// changes notes what is told otherwise than before.
func (j *journal) changes(l look, turn uint64) (changed bool) {
	for _, e := range l.events {
		t := thing{e.Kind, e.ID}
		line, err := json.Marshal(e)
		if was := j.things[t]; err != nil || was != nil && bytes.Equal(was.line, line) {
			continue
		}
		j.things[t] = &told{t, turn, l.at, line}
		changed = true
	}
	return changed
}

// losses notes what is told of no more.
func (j *journal) losses(l look, turn uint64) (changed bool) {
	there := make(map[thing]bool, len(l.events))
	for _, e := range l.events {
		there[thing{e.Kind, e.ID}] = true
	}
	for t := range j.things {
		if there[t] {
			continue
		}
		delete(j.things, t)
		line, err := json.Marshal(v1.Event{Kind: t.kind, ID: t.id, Gone: true})
		if err == nil {
			j.gone = append(j.gone, &told{t, turn, l.at, line})
			changed = true
		}
	}
	if n := len(j.gone) - journalGone; n > 0 {
		j.floor = max(j.floor, j.gone[n-1].rev)
		j.gone = slices.Delete(j.gone, 0, n)
	}
	return changed
}

// batch is what a watcher has not been told yet.
type batch struct {
	turn uint64 // to go on with
	rev  kv.Rev // which it leads to
	all  bool   // and what was told before counts no more
	told []*told
}

// since returns what is new after a turn, or, with turn 0, after a picture, and
// what to wait for next. The status comes last: it sums up.
func (j *journal) since(turn uint64, after kv.Rev) (b batch, news <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.idle || j.turn == turn {
		return batch{turn: turn}, j.news
	}
	b = batch{turn: j.turn, rev: j.rev, all: turn == 0 && after < j.floor}
	isNew := func(t *told) bool {
		if turn > 0 {
			return t.turn > turn
		}
		return b.all || t.rev > after || t.kind == "status"
	}
	for _, t := range j.things {
		if isNew(t) {
			b.told = append(b.told, t)
		}
	}
	for _, t := range j.gone {
		if !b.all && isNew(t) && j.things[t.thing] == nil {
			b.told = append(b.told, t)
		}
	}
	slices.SortFunc(b.told, func(a, b *told) int {
		return cmp.Or(cmp.Compare(rankOf(a.kind), rankOf(b.kind)), cmp.Compare(a.turn, b.turn), cmp.Compare(a.id, b.id))
	})
	return b, j.news
}

// rankOf orders what is told at once: what others speak of comes first.
func rankOf(kind string) int {
	return slices.Index([]string{"host", "disk", "volume", "vm", "export", "incident", "task", "status"}, kind)
}

// lookAround renders everything that the stream tells of, of a project what that has.
func (s *Server) lookAround(project string) look {
	ctx := s.base
	if project != "" {
		ctx = inProject(ctx, project)
	}
	self := s.o.Backend.Self()
	blind := func(err error) look {
		st := blindStatus(self, err)
		st.Host = v1.Self{} // whoever answers
		return look{stale: true, events: []v1.Event{{Kind: "status", Status: &st}}}
	}
	p, err := s.picture(ctx)
	if err != nil {
		return blind(err)
	}
	report, err := s.o.Backend.Report(ctx)
	if err != nil {
		return blind(err)
	}
	var st v1.Status
	if project == "" {
		st = p.renderStatus(self, report, v1.Works{})
	} else {
		st = p.renderOwn(self, report)
	}
	st.Host = v1.Self{}
	l := look{rev: p.Rev, at: p.Cluster.Past + p.Rev, stale: report.Stale != "", events: []v1.Event{{Kind: "status", Status: &st}}}
	switch {
	case l.stale:
	case project != "":
		l.events = append(l.events, p.own()...)
		if a, err := s.accounts(); err == nil {
			l.at = max(l.at, p.Cluster.Past+a.Rev()) // a project is given things, and they are taken from it
		}
	default:
		l.events = append(l.events, p.everything()...)
		if store, err := s.tasks(); err == nil {
			l.at = max(l.at, p.Cluster.Past+store.Rev()) // before what it tells of
			for _, x := range store.All() {
				t := p.renderTask(x)
				l.events = append(l.events, v1.Event{Kind: "task", ID: t.ID, Task: &t})
			}
		}
	}
	return l
}

// everything is what there is, as lists show it.
func (p picture) everything() (out []v1.Event) {
	for _, x := range p.hosts() {
		h := p.renderHost(x)
		h.Wall = nil // it would be news with every heartbeat
		out = append(out, v1.Event{Kind: "host", ID: h.ID, Host: &h})
	}
	for _, x := range p.disks() {
		d := p.renderDisk(x)
		out = append(out, v1.Event{Kind: "disk", ID: d.ID, Disk: &d})
	}
	out = append(out, p.own()...)
	for _, x := range p.exports() {
		e := p.renderExport(x)
		out = append(out, v1.Event{Kind: "export", ID: e.ID, Export: &e})
	}
	for _, x := range p.incidents() {
		i := p.renderIncident(x)
		out = append(out, v1.Event{Kind: "incident", ID: i.ID, Incident: &i})
	}
	return out
}

// own is what a project may have of that: volumes, images and VMs.
func (p picture) own() (out []v1.Event) {
	for _, x := range p.volumes() {
		v := p.renderVolume(x)
		out = append(out, v1.Event{Kind: "volume", ID: v.ID, Volume: &v})
	}
	for _, x := range p.vms() {
		v := p.renderVM(x)
		out = append(out, v1.Event{Kind: "vm", ID: v.ID, VM: &v})
	}
	return out
}
