package series

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Ring is how finely and for how long something is kept.
type Ring struct {
	Step  int64 // seconds that a point stands for
	Slots int   // points
}

// Rings are what every line is kept in, the finest first.
func Rings() []Ring {
	return []Ring{{10, 360}, {60, 1440}, {900, 2976}}
}

const (
	// MaxLines bounds the lines of a host: 19 KB each in memory and in the file.
	MaxLines = 640
	// MaxMetric is the length of a metric's name, bytes.
	MaxMetric = 32
)

// Longest is how far back anything is kept.
func Longest() time.Duration {
	r := Rings()
	last := r[len(r)-1]
	return time.Duration(last.Step) * time.Duration(last.Slots) * time.Second
}

// Key says what a line is of.
type Key struct {
	Subject holdfast.UUID // of a VM, a volume or a host
	Metric  string
}

// line holds a ring of each kind. A point is the mean of what was added while it
// was the newest one; NaN: nothing was.
type line struct {
	points [][]float32
	sum    []float64 // of the newest point of each ring, and of how many
	n      []uint32
	fresh  int64 // when something was added last, Unix seconds
}

// Store is the lines of a host. Its methods may be called from any goroutine.
type Store struct {
	rings []Ring

	mu    sync.Mutex
	now   []int64 // the newest point of each ring, in steps since 1970
	lines map[Key]*line
}

// New makes an empty store.
func New() *Store {
	s := &Store{rings: Rings(), lines: make(map[Key]*line)}
	s.now = make([]int64, len(s.rings))
	return s
}

// Add adds what was measured at a time. Figures that are no numbers are left out. A
// clock that was set back takes what it seems to have measured later with it.
// Where there are too many lines, those that have been silent longest go; of what
// is left over then, and was not there before, nothing is kept.
func (s *Store) Add(at time.Time, figures map[Key]float64) {
	t := at.Unix()
	if t < 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(t)
	for _, k := range sorted(figures) {
		v := figures[k]
		if math.IsNaN(v) || math.IsInf(v, 0) || len(k.Metric) == 0 || len(k.Metric) > MaxMetric {
			continue
		}
		l := s.lines[k]
		if l == nil {
			if len(s.lines) >= MaxLines && !s.makeRoom(t) {
				continue
			}
			l = s.newLine()
			s.lines[k] = l
		}
		l.fresh = t
		for i, r := range s.rings {
			l.sum[i] += v
			l.n[i]++
			l.points[i][s.now[i]%int64(r.Slots)] = float32(l.sum[i] / float64(l.n[i]))
		}
	}
}

func sorted(figures map[Key]float64) []Key {
	out := make([]Key, 0, len(figures))
	for k := range figures {
		out = append(out, k)
	}
	slices.SortFunc(out, compare)
	return out
}

func compare(a, b Key) int {
	return cmp.Or(slices.Compare(a.Subject[:], b.Subject[:]), cmp.Compare(a.Metric, b.Metric))
}

func (s *Store) newLine() *line {
	l := &line{sum: make([]float64, len(s.rings)), n: make([]uint32, len(s.rings))}
	for _, r := range s.rings {
		p := make([]float32, r.Slots)
		for i := range p {
			p[i] = nothing()
		}
		l.points = append(l.points, p)
	}
	return l
}

func nothing() float32 { return float32(math.NaN()) }

// advance makes the points of a time the newest ones, and those between them and
// the newest ones before empty. It drops lines that have nothing left.
func (s *Store) advance(t int64) {
	for i, r := range s.rings {
		to, from := t/r.Step, s.now[i]
		if to == from {
			continue
		}
		first, last := from+1, to
		if to < from { // the clock was set back
			first, last = to, from
		}
		first = max(first, last-int64(r.Slots)+1)
		for _, l := range s.lines {
			for b := first; b <= last; b++ {
				l.points[i][b%int64(r.Slots)] = nothing()
			}
			l.sum[i], l.n[i] = 0, 0
		}
		s.now[i] = to
	}
	oldest := t - int64(Longest()/time.Second)
	for k, l := range s.lines {
		if l.fresh < oldest {
			delete(s.lines, k)
		}
		l.fresh = min(l.fresh, t)
	}
}

// makeRoom drops the line that has been silent longest, unless all are told of.
func (s *Store) makeRoom(t int64) bool {
	var oldest *Key
	for k, l := range s.lines {
		if l.fresh >= t-s.rings[0].Step*2 {
			continue
		}
		if oldest == nil || cmp.Or(cmp.Compare(l.fresh, s.lines[*oldest].fresh), compare(k, *oldest)) < 0 {
			oldest = &k
		}
	}
	if oldest == nil {
		return false
	}
	delete(s.lines, *oldest)
	return true
}

// Forget drops everything of a subject.
func (s *Store) Forget(subject holdfast.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.lines {
		if k.Subject == subject {
			delete(s.lines, k)
		}
	}
}

// Window is which points are asked for: so many, the first one beginning at Start
// (Unix seconds, a multiple of Step), of a ring of that step.
type Window struct {
	Start, Step int64
	Points      int
}

// WindowOf is the window that ends with the point in which 'end' lies and covers a
// span, in points of a step; step 0: of the finest ring that reaches so far back,
// measured from now. Invalid: there is no such ring, or the span is too long for it.
func WindowOf(now, end time.Time, span time.Duration, step int64) (Window, error) {
	rings := Rings()
	longest := int64(Longest() / time.Second)
	secs := int64(span / time.Second)
	if secs < rings[0].Step || secs > longest {
		return Window{}, holdfast.Errorf(holdfast.Invalid, "range: %d seconds; use %d to %d", secs, rings[0].Step, longest)
	}
	at := slices.IndexFunc(rings, func(r Ring) bool { return r.Step == step })
	if step == 0 {
		back := secs + max(now.Unix()-end.Unix(), 0)
		at = slices.IndexFunc(rings, func(r Ring) bool { return back <= r.Step*int64(r.Slots) })
		if at < 0 {
			at = len(rings) - 1
		}
	}
	if at < 0 {
		return Window{}, holdfast.Errorf(holdfast.Invalid, "step: %d seconds; figures are kept for every 10, 60 or 900 seconds", step)
	}
	r := rings[at]
	points := (secs + r.Step - 1) / r.Step
	if points > int64(r.Slots) {
		return Window{}, holdfast.Errorf(holdfast.Invalid, "range: %d seconds in steps of %d; that step is kept for %d seconds", secs, r.Step, r.Step*int64(r.Slots))
	}
	return Window{Start: (end.Unix()/r.Step - points + 1) * r.Step, Step: r.Step, Points: int(points)}, nil
}

// Read returns the points of a window of everything that is known of a subject, by
// metric; NaN: nothing is known of that time.
func (s *Store) Read(subject holdfast.UUID, w Window) map[string][]float32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.rings, func(r Ring) bool { return r.Step == w.Step })
	out := make(map[string][]float32)
	if i < 0 || w.Points < 0 || w.Points > s.rings[i].Slots {
		return out
	}
	slots := int64(s.rings[i].Slots)
	for k, l := range s.lines {
		if k.Subject != subject {
			continue
		}
		points := make([]float32, w.Points)
		for j := range points {
			b := w.Start/w.Step + int64(j)
			points[j] = nothing()
			if b >= 0 && b <= s.now[i] && b > s.now[i]-slots {
				points[j] = l.points[i][b%slots]
			}
		}
		out[k.Metric] = points
	}
	return out
}
