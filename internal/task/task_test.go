package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
)

type random struct{ *rand.Rand }

func (r random) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return len(p), nil
}

// play has two hosts of a world with one control plane.
func play(t *testing.T, f func(w *simclock.World, a, b *Store)) {
	t.Helper()
	w := simclock.NewWorld(1)
	srv := memkv.NewServer(memkv.Config{Clock: w.Clock(), Rand: w.Rand})
	over := false
	var hosts []*simclock.Host
	for i := range 2 {
		hosts = append(hosts, w.Host(string(rune('a'+i)), simclock.Skew{Wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}))
	}
	w.Clock().Go(func() {
		var s [2]*Store
		for i, h := range hosts {
			s[i] = Open(Config{KV: srv.Handle(string(rune('a'+i)), h), Clock: h, Rand: random{rand.New(rand.NewPCG(uint64(i), 1))}, Log: slog.New(slog.DiscardHandler), Host: holdfast.HostID{UUID: holdfast.UUID{byte(i + 1)}}})
		}
		f(w, s[0], s[1])
		for _, x := range s {
			x.Close()
		}
		over = true
	})
	w.Run(2 * Kept)
	w.Close(hosts...)
	if !over {
		t.Error("it did not end")
	}
}

func begin(t *testing.T, s *Store, subject string) (context.Context, *Work) {
	t.Helper()
	ctx, w, err := s.Begin(t.Context(), Task{Kind: "import", Subject: subject, Who: "user ann"})
	if err != nil {
		t.Fatal(err)
	}
	return ctx, w
}

func TestATaskIsToldOfEverywhere(t *testing.T) {
	play(t, func(w *simclock.World, a, b *Store) {
		_, x := begin(t, a, "debian")
		x.At(0.5, 50, 100)
		x.Say("half of it")
		clock.Sleep(w.Clock(), 3*tellEvery)
		got, ok := b.Find(x.ID())
		if !ok || got.State != Running || got.Part != 0.5 || got.Done != 50 || got.Total != 100 || len(got.Log) != 1 || got.Log[0].Text != "half of it" || got.Who != "user ann" || got.Host != a.cfg.Host {
			t.Errorf("under way: %+v", got)
		}
		clock.Sleep(w.Clock(), 3*running) // its host lives
		if got, _ = b.Find(x.ID()); got.State != Running {
			t.Errorf("later: %+v", got)
		}
		done := false
		w.Clock().Go(func() {
			got, ok := b.Await(t.Context(), x.ID(), time.Hour)
			done = ok && got.State == Done && got.Part == 1 && !got.Ended.IsZero()
		})
		clock.Sleep(w.Clock(), time.Second)
		_ = x.End(nil)
		clock.Sleep(w.Clock(), time.Second)
		if !done {
			t.Error("who waited was not told")
		}
		clock.Sleep(w.Clock(), Kept+time.Minute)
		if all := b.All(); len(all) != 0 {
			t.Errorf("not forgotten: %+v", all)
		}
	})
}

func TestHowATaskEnds(t *testing.T) {
	play(t, func(w *simclock.World, a, b *Store) {
		_, fails := begin(t, a, "fails")
		_ = fails.End(holdfast.Errorf(holdfast.NoSpace, "no room"))
		_, stopped := begin(t, a, "stopped")
		_ = stopped.End(fmt.Errorf("import: %w", context.Canceled))
		ctx, unwanted := begin(t, a, "unwanted")
		if err := b.Cancel(unwanted.ID(), "user bob"); err != nil {
			t.Fatal(err)
		}
		clock.Sleep(w.Clock(), time.Second)
		if ctx.Err() == nil {
			t.Error("canceled at another host, it goes on")
		}
		if err := unwanted.End(ctx.Err()); !holdfast.IsKind(err, holdfast.Denied) || !strings.Contains(err.Error(), "canceled by user bob") {
			t.Errorf("what is told of the unwanted: %v", err)
		}
		clock.Sleep(w.Clock(), time.Second)
		for id, want := range map[string]State{fails.ID(): Failed, stopped.ID(): Interrupted, unwanted.ID(): Canceled} {
			if got, _ := b.Find(id); got.State != want || got.Error == "" {
				t.Errorf("%s: %+v", want, got)
			}
			if err := b.Cancel(id, "user bob"); !holdfast.IsKind(err, holdfast.Conflict) {
				t.Errorf("%s: canceled again: %v", want, err)
			}
		}
		if got, _ := b.Find(unwanted.ID()); got.Error != "canceled by user bob" {
			t.Errorf("by whom: %+v", got)
		}
		if err := b.Cancel("00000000", "x"); !holdfast.IsKind(err, holdfast.NotFound) {
			t.Errorf("none: %v", err)
		}
	})
}

// What a host was at when it was lost is seen to be interrupted; what the cluster does
// goes on.
func TestTasksOfALostHost(t *testing.T) {
	play(t, func(w *simclock.World, a, b *Store) {
		_, x := begin(t, a, "debian")
		drain, err := a.Note(Task{Kind: "drain", Subject: "c1", Ref: "1", Who: "user ann"})
		if err != nil {
			t.Fatal(err)
		}
		x.over.Set() // it is lost without a word
		x.gone.Wait(clock.Forever)
		x.t.State, x.t.Ended = Running, time.Time{}
		if _, err := a.cfg.KV.Commit(nil, []kv.Op{{Key: root + x.ID(), Value: encode(&x.t), Lease: x.t.Lease}}); err != nil {
			t.Fatal(err)
		}
		clock.Sleep(w.Clock(), 2*running)
		if got, _ := b.Find(x.ID()); got.State != Interrupted || got.Error == "" {
			t.Errorf("of a host: %+v", got)
		}
		if got, _ := b.Find(drain.ID); got.State != Running {
			t.Errorf("of the cluster: %+v", got)
		}
		again, err := b.Note(Task{Kind: "drain", Subject: "c1", Ref: "1", Who: "user bob"})
		if err != nil || again.ID != drain.ID || again.Who != "user ann" {
			t.Errorf("asked for again: %+v, %v", again, err)
		}
		rev := b.Rev()
		for range 2 {
			if err := b.Change(drain.ID, func(t *Task) (State, string) { t.Part = 0.5; return Running, "" }); err != nil {
				t.Error(err)
			}
		}
		if b.Rev() != rev+1 {
			t.Errorf("what is not new was written: %d after %d", b.Rev(), rev)
		}
		if err := b.Change(drain.ID, func(t *Task) (State, string) { return Done, "" }); err != nil {
			t.Error(err)
		}
		clock.Sleep(w.Clock(), time.Second)
		if got, _ := a.Find(drain.ID); got.State != Done || got.Part != 1 {
			t.Errorf("over: %+v", got)
		}
		if err := a.Cancel(drain.ID, "x"); !holdfast.IsKind(err, holdfast.Conflict) {
			t.Errorf("canceled though it has ended: %v", err)
		}
	})
}

func TestTasksAreBounded(t *testing.T) {
	play(t, func(w *simclock.World, a, b *Store) {
		_, first := begin(t, a, "first")
		_, second := begin(t, a, "second")
		_ = second.End(errors.New("no"))
		for i := range MaxTasks - 2 {
			if _, err := b.Note(Task{Kind: "drain", Ref: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Note(Task{Kind: "drain", Ref: "more"}); err != nil {
			t.Fatal(err)
		}
		if _, ok := b.Find(second.ID()); ok {
			t.Error("the one that has ended did not make room")
		}
		if _, err := b.Note(Task{Kind: "drain", Ref: "too much"}); !holdfast.IsKind(err, holdfast.NoSpace) {
			t.Errorf("too many: %v", err)
		}
		for i := range 3 * maxLines {
			first.Say(strings.Repeat("é", maxText) + fmt.Sprint(i))
			first.Say(fmt.Sprint(i))
		}
		_ = first.End(errors.New(strings.Repeat("x", 10*maxError)))
		clock.Sleep(w.Clock(), time.Second)
		got, _ := b.Find(first.ID())
		if len(got.Log) != maxLines || got.Log[maxLines-1].Text != fmt.Sprint(3*maxLines-1) || len(got.Log[0].Text) > maxText || len(got.Error) > maxError {
			t.Errorf("%d lines, an error of %d bytes", len(got.Log), len(got.Error))
		}
	})
}

// A control plane that is away for a while interrupts no task.
func TestATaskOutlivesItsLease(t *testing.T) {
	play(t, func(w *simclock.World, a, b *Store) {
		_, x := begin(t, a, "debian")
		if err := a.cfg.KV.Revoke(x.run); err != nil { // as if it had ended meanwhile
			t.Fatal(err)
		}
		clock.Sleep(w.Clock(), time.Second)
		if got, _ := b.Find(x.ID()); got.State != Interrupted {
			t.Errorf("without a lease: %+v", got)
		}
		clock.Sleep(w.Clock(), (renewEach+1)*tellEvery)
		if got, _ := b.Find(x.ID()); got.State != Running {
			t.Errorf("with another: %+v", got)
		}
		_ = x.End(nil)
	})
}

// FuzzTask reads what may stand in a record.
func FuzzTask(f *testing.F) {
	f.Add([]byte(`{"id":"0123abcd","state":"running","part":0.5}`))
	f.Add([]byte(`{"id":"0123abcd","state":"done","part":1,"ended":"2026-03-01T12:00:00Z","log":[{"at":"2026-03-01T12:00:00Z","text":"x"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := decode(root+"0123abcd", b)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.Corrupt) {
				t.Fatal(err)
			}
			return
		}
		again, err := decode(root+x.ID, encode(x))
		if err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		one, _ := json.Marshal(x)
		two, _ := json.Marshal(again)
		if string(one) != string(two) {
			t.Fatalf("%s is not %s", one, two)
		}
	})
}
