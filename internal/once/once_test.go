package once

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/clock/simclock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/memkv"
)

// play has two hosts of a world with one control plane.
func play(t *testing.T, f func(w *simclock.World, a, b *Log)) {
	w := simclock.NewWorld(1)
	srv := memkv.NewServer(memkv.Config{Clock: w.Clock(), Rand: w.Rand})
	var logs [2]*Log
	var hosts []*simclock.Host
	for i := range logs {
		name := string(rune('a' + i))
		h := w.Host(name, simclock.Skew{Wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)})
		hosts = append(hosts, h)
		logs[i] = &Log{KV: srv.Handle(name, h), Clock: h}
	}
	w.Clock().Go(func() { f(w, logs[0], logs[1]) })
	w.Run(2 * Kept)
	w.Close(hosts...)
}

func sum(s string) [sha256.Size]byte { return sha256.Sum256([]byte(s)) }

func TestARequestIsDoneOnce(t *testing.T) {
	over := false
	play(t, func(w *simclock.World, a, b *Log) {
		c, was, err := a.Begin("ann", "k", sum("make x"))
		if c == nil || was != nil || err != nil || c.Again {
			t.Fatalf("first: %+v, %+v, %v", c, was, err)
		}
		clock.Sleep(w.Clock(), 3*running) // it takes its time, and its host lives
		for _, l := range []*Log{a, b} {
			if _, _, err := l.Begin("ann", "k", sum("make x")); !holdfast.IsKind(err, holdfast.Busy) {
				t.Errorf("while it is under way: %v", err)
			}
			if _, _, err := l.Begin("ann", "k", sum("make y")); !holdfast.IsKind(err, holdfast.Invalid) {
				t.Errorf("another request: %v", err)
			}
		}
		if other, _, err := b.Begin("bob", "k", sum("make y")); err != nil {
			t.Errorf("the same key of somebody else: %v", err)
		} else {
			other.Release()
		}
		if err := c.Finish(201, "/v1/x/1"); err != nil {
			t.Fatal(err)
		}
		clock.Sleep(w.Clock(), Kept/2)
		for _, l := range []*Log{a, b} {
			if c, was, err := l.Begin("ann", "k", sum("make x")); c != nil || err != nil || was.Status != 201 || was.Where != "/v1/x/1" {
				t.Errorf("done: %+v, %+v, %v", c, was, err)
			}
		}
		clock.Sleep(w.Clock(), Kept)
		c, was, err = b.Begin("ann", "k", sum("make y"))
		if c == nil || was != nil || err != nil || c.Again {
			t.Fatalf("forgotten: %+v, %+v, %v", c, was, err)
		}
		c.Release()
		over = true
	})
	if !over {
		t.Error("it did not end")
	}
}

func TestWhatNobodyKnowsIsDoneAgain(t *testing.T) {
	over := false
	play(t, func(w *simclock.World, a, b *Log) {
		c, _, err := a.Begin("ann", "k", sum("make x"))
		if err != nil {
			t.Fatal(err)
		}
		at := c.At
		c.end() // its host is lost
		clock.Sleep(w.Clock(), running/2)
		if _, _, err := b.Begin("ann", "k", sum("make x")); !holdfast.IsKind(err, holdfast.Busy) {
			t.Errorf("while it may be under way: %v", err)
		}
		clock.Sleep(w.Clock(), 2*running)
		if _, _, err := b.Begin("ann", "k", sum("make y")); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("another request: %v", err)
		}
		again, _, err := b.Begin("ann", "k", sum("make x"))
		if err != nil || !again.Again || !again.At.Equal(at) {
			t.Fatalf("after the loss: %+v, %v", again, err)
		}
		if err := c.note(201, "late"); !holdfast.IsKind(err, holdfast.Conflict) {
			t.Errorf("the lost one writes: %v", err)
		}
		again.Release()
		if c, _, err = b.Begin("ann", "k", sum("make y")); err != nil || c.Again {
			t.Errorf("released: %+v, %v", c, err)
		} else {
			c.Release()
		}
		over = true
	})
	if !over {
		t.Error("it did not end")
	}
}

func TestKeysAreBounded(t *testing.T) {
	over := false
	play(t, func(_ *simclock.World, a, b *Log) {
		h := sha256.Sum256([]byte("ann\x00k"))
		lot := root + hex.EncodeToString(h[:1]) + "/"
		for i := range most {
			if _, err := a.KV.Commit(nil, []kv.Op{{Key: lot + fmt.Sprint(i), Value: []byte(`{"sum":"1"}`)}}); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := b.Begin("ann", "k", sum("make x")); !holdfast.IsKind(err, holdfast.NoSpace) {
			t.Errorf("one more: %v", err)
		}
		if _, err := a.KV.Commit(nil, []kv.Op{{Key: lot + "7", Delete: true}}); err != nil {
			t.Fatal(err)
		}
		c, _, err := b.Begin("ann", "k", sum("make x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Finish(201, ""); err != nil {
			t.Fatal(err)
		}
		if _, was, err := a.Begin("ann", "k", sum("make x")); err != nil || was == nil { // it is one of them
			t.Errorf("what is remembered: %+v, %v", was, err)
		}
		over = true
	})
	if !over {
		t.Error("it did not end")
	}
}

func TestARecordThatCannotBeReadIsAnError(t *testing.T) {
	over := false
	play(t, func(_ *simclock.World, a, _ *Log) {
		h := sha256.Sum256([]byte("ann\x00k"))
		name := hex.EncodeToString(h[:])
		if _, err := a.KV.Commit(nil, []kv.Op{{Key: root + name[:2] + "/" + name, Value: []byte("{")}}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := a.Begin("ann", "k", sum("make x")); !holdfast.IsKind(err, holdfast.Corrupt) {
			t.Error(err)
		}
		over = true
	})
	if !over {
		t.Error("it did not end")
	}
}
