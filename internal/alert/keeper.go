package alert

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

const (
	lookEvery = 5 * time.Second  // while this host leads
	idleEvery = 10 * time.Second // while it does not, or nobody is to be told
	goodWaits = 10               // times the bundle: what gets better is gathered for longer
	retryMin  = 5 * time.Second  // before a message is sent again; then twice as long
	retryMax  = 10 * time.Minute
	toldAfter = time.Minute // that nothing arrives: then it is a condition
)

// Picture is how the cluster is, as far as this host knows.
type Picture struct {
	Cluster    string
	Sentence   string
	Conditions []v1.Condition // the causes, the worst first
}

// Keeper tells the receivers while its host leads. It belongs to one task, but for
// what it sends.
type Keeper struct {
	Store *Store
	Host  string    // name
	Rand  io.Reader // of the ids of messages
	Log   *slog.Logger
	Leads func() bool // whether this host does, as far as it knows
	Look  func() (Picture, error)
	Send  func(ctx context.Context, r *Receiver, m *Message, now time.Time) (answer string, err error)
	// Tell says that a receiver cannot be reached, as a condition of this host; an
	// empty text takes it back.
	Tell func(receiver, text string)

	last map[string]*state // by receiver
	all  []record          // as they were read last
}

// state is what this host remembers of a receiver while it leads.
type state struct {
	bad, good time.Duration // when something to tell was seen first; 0: there is nothing
	tries     int           // of the message that waits
	next      time.Duration // when it is tried again
	receiver  kv.Rev        // that it was tried with
	unsaved   *Told         // newer than the record at mod
	mod       kv.Rev
	said      bool // that it cannot be reached
}

// Step looks once, tells what is to be told, and returns how long to wait before the
// next. ctx ends what is being sent.
func (k *Keeper) Step(ctx context.Context) time.Duration {
	if !k.Leads() {
		k.rest()
		return idleEvery
	}
	all, bad, err := k.Store.read()
	if err != nil {
		all = k.all // with the control plane away that is what is to be told
	}
	for _, key := range bad {
		k.Log.Warn("a record of alerts cannot be read and is passed over", "key", clip(key, 100))
	}
	if k.all = all; len(all) == 0 {
		k.forget(nil)
		return idleEvery
	}
	p, err := k.Look()
	if err != nil {
		return lookEvery
	}
	k.forget(all)
	wg := clock.NewGroup(k.Store.Clock)
	var mu sync.Mutex
	wait := lookEvery
	for _, rec := range all {
		st := k.last[rec.Name]
		wg.Go(func() {
			w := k.one(ctx, rec, st, p)
			mu.Lock()
			wait = min(wait, w)
			mu.Unlock()
		})
	}
	wg.Wait()
	return max(wait, time.Second)
}

// rest lets somebody else lead, who goes by the records.
func (k *Keeper) rest() {
	if k.last == nil {
		return
	}
	unsaved := false
	for _, st := range k.last {
		unsaved = unsaved || st.unsaved != nil
	}
	if unsaved {
		all, _, err := k.Store.read()
		if err != nil {
			return // again with the next step
		}
		for _, rec := range all {
			if st := k.last[rec.Name]; st != nil {
				k.settle(&rec, st)
			}
		}
	}
	k.forget(nil)
	k.last = nil
}

// settle brings together what this host remembers and what is noted. If somebody else
// has led meanwhile, what was told here is noted as known: they see that it is over.
func (k *Keeper) settle(rec *record, st *state) {
	if st.unsaved == nil {
		return
	}
	if st.mod == rec.toldMod {
		rec.Told = *st.unsaved
	} else {
		open := maps.Clone(st.unsaved.Open)
		maps.Copy(open, rec.Open)
		for id := range open {
			if len(open) > maxOpen {
				delete(open, id)
			}
		}
		rec.Open, rec.Seq = open, max(rec.Seq, st.unsaved.Seq)
	}
	k.save(rec, st)
}

// forget keeps what is known of some receivers, and of no others.
func (k *Keeper) forget(all []record) {
	was := k.last
	k.last = map[string]*state{}
	for _, r := range all {
		name := r.Name
		if k.last[name] = was[name]; k.last[name] == nil {
			k.last[name] = &state{}
		}
	}
	for name, st := range was {
		if k.last[name] == nil && st.said {
			k.Tell(name, "")
		}
	}
}

// one sees to one receiver.
func (k *Keeper) one(ctx context.Context, rec record, st *state, p Picture) time.Duration {
	k.settle(&rec, st)
	now := k.Store.Clock.Now()
	if st.receiver != rec.mod { // it was changed: perhaps that is what was missing
		st.receiver, st.next = rec.mod, now
	}
	if rec.Waiting == nil {
		if wait := k.compose(&rec, st, p, now); rec.Waiting == nil {
			k.condition(&rec, st)
			return wait
		}
	}
	if now < st.next {
		return st.next - now
	}
	k.deliver(ctx, &rec, st)
	k.condition(&rec, st)
	return max(0, st.next-k.Store.Clock.Now())
}

// compose puts a message together if it is time to, and notes it before it is sent:
// whoever leads next sends the same.
func (k *Keeper) compose(rec *record, st *state, p Picture, now time.Duration) time.Duration {
	c := compare(&rec.Receiver, &rec.Told, p.Conditions)
	wait := since(&st.bad, c.bad, now, rec.Bundle)
	if w := since(&st.good, c.good, now, goodWaits*rec.Bundle); w < wait {
		wait = w
	}
	m := &Message{Version: 1, Kind: News, Alerts: c.alerts, Open: len(c.open)}
	switch at := k.Store.Clock.Wall(); {
	case wait <= 0:
		rec.Open, st.bad, st.good = c.open, 0, 0
	case c.silent(&rec.Told):
		rec.Open = c.open
		k.save(rec, st)
		return wait
	default:
		m.Kind, m.Alerts, m.Open = Reminder, reminds(&rec.Receiver, &rec.Told, p.Conditions, at), len(rec.Open)
		if len(m.Alerts) == 0 {
			return wait
		}
	}
	rec.At = k.Store.Clock.Wall().UTC().Truncate(time.Second)
	rec.Seq++
	k.address(m, rec, p)
	rec.Waiting, st.tries, st.next = m, 0, now
	if !k.save(rec, st) {
		rec.Waiting = nil
	}
	return time.Second
}

// since says how long until something that is to be told is, and notes when it was
// seen first.
func since(first *time.Duration, there bool, now, bundle time.Duration) time.Duration {
	switch {
	case !there:
		*first = 0
		return lookEvery
	case *first == 0:
		*first = max(now, 1)
	}
	return *first + bundle - now
}

func (k *Keeper) address(m *Message, rec *record, p Picture) {
	var b [idBytes]byte
	_, _ = io.ReadFull(k.Rand, b[:]) // without them it is told apart by its number
	m.ID = fmt.Sprintf("%s-%d-%s", rec.Name, rec.Seq, hex.EncodeToString(b[:]))
	m.Receiver, m.Host, m.At, m.Cluster, m.Sentence = rec.Name, k.Host, rec.At, p.Cluster, clip(p.Sentence, maxText)
	m.fit()
}

// deliver sends what waits, and notes what came of it.
func (k *Keeper) deliver(ctx context.Context, rec *record, st *state) {
	wall := k.Store.Clock.Wall().UTC()
	answer, err := k.Send(ctx, &rec.Receiver, rec.Waiting, wall)
	if ctx.Err() != nil {
		return // this host ends; whoever leads next sends it
	}
	if err == nil {
		k.Log.Info("an alert receiver was told", "receiver", rec.Name, "message", rec.Waiting.ID, "answer", answer)
		rec.Waiting, rec.Sent, rec.Failing, rec.Error = nil, wall.Truncate(time.Second), time.Time{}, ""
		st.tries, st.next = 0, 0
		k.save(rec, st)
		return
	}
	st.next = k.Store.Clock.Now() + min(retryMin<<min(st.tries, 20), retryMax)
	st.tries++
	text := clip(oneLine(err.Error()), maxError)
	k.Log.Warn("an alert receiver could not be told", "receiver", rec.Name, "message", rec.Waiting.ID, "error", text)
	if rec.Failing.IsZero() || rec.Error != text {
		if rec.Failing.IsZero() {
			rec.Failing = wall.Truncate(time.Second)
		}
		rec.Error = text
		k.save(rec, st)
	}
}

// condition says that a receiver has not been reached for a while.
func (k *Keeper) condition(rec *record, st *state) {
	failed := !rec.Failing.IsZero()
	lasted := k.Store.Clock.Wall().Sub(rec.Failing)
	switch {
	case failed && (lasted >= toldAfter || lasted < 0 || st.tries > 3):
		st.said = true
		k.Tell(rec.Name, fmt.Sprintf("alert receiver %s cannot be told what is wrong: %s; it is tried again; 'holdfast alert receiver test %s' tries it now", rec.Name, rec.Error, rec.Name))
	case !failed && st.said:
		st.said = false
		k.Tell(rec.Name, "")
	}
}

// save notes what a receiver was told. What cannot be noted, with the control plane
// away or full, is remembered here until it can; false: somebody else was quicker, and
// what they noted counts.
func (k *Keeper) save(rec *record, st *state) bool {
	told := rec.Told
	key := dirTold + rec.Name
	conds := []kv.Cond{{Key: dirReceiver + rec.Name, Mod: rec.mod}, {Key: key, Mod: rec.toldMod}}
	rev, err := k.Store.KV.Commit(conds, []kv.Op{{Key: key, Value: encode(told)}})
	switch {
	case err == nil:
		rec.toldMod, st.unsaved = rev, nil
	case holdfast.IsKind(err, holdfast.Conflict):
		st.unsaved = nil
		return false
	default:
		st.unsaved, st.mod = &told, rec.toldMod
	}
	return true
}

// Run looks and tells until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	ev := k.Store.Clock.NewEvent()
	defer context.AfterFunc(ctx, ev.Set)()
	for ctx.Err() == nil {
		ev.Wait(k.Step(ctx))
	}
}
