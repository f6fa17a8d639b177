package drill

import (
	"context"
	"fmt"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/lab/diary"
	"github.com/holdfast-cloud/holdfast/lab/observer"
)

const (
	watchBlocks  = 96 // of each group's volume: few, so that clients meet
	watchClients = 4
	watchThink   = 40 * time.Millisecond
	watchSize    = 4 << 20
	firstFlushes = 20 // of each guest before anything is broken
	// Clones lie where their image does: with several images guests are everywhere.
	guestsOfImage = 2
)

// watched is a volume with a group of clients.
type watched struct {
	number int
	round  int
	name   string
	id     string
	shared bool
	ended  bool // its clients, and the judge has been asked
	g      *observer.Group
}

// prepare makes guests, groups and fio's volume, and waits until all of them work.
func (t *torture) prepare(ctx context.Context) error {
	var names []string
	for i := range t.o.Guests {
		g := &probeGuest{d: t.drill, from: fmt.Sprintf("torture-probe-%d", i/guestsOfImage+1)}
		if err := g.image(ctx); err != nil {
			return err
		}
		vm, err := t.cloud.haveVM(ctx, v1.VMSpec{Name: fmt.Sprintf("torture-%d", i+1), Image: g.from, MemoryMiB: 32})
		if err != nil {
			return err
		}
		names, t.vms = append(names, vm.Name), append(t.vms, vm)
	}
	t.diary = diary.Follow(t.o.Lab, names...)
	for i := range t.o.Groups {
		w := &watched{number: i, shared: i%2 == 1}
		if err := t.begin(ctx, w); err != nil {
			return err
		}
		t.watch = append(t.watch, w)
	}
	var err error
	if t.fio, err = t.startFio(ctx); err != nil {
		return err
	}
	for _, vm := range t.vms {
		err := t.cloud.until(ctx, bootTimeout, "guest "+vm.Name+" to write", func(context.Context) (bool, string, error) {
			n := t.diary.Flushed(vm.Name)
			return n >= firstFlushes, fmt.Sprintf("it has flushed %d", n), nil
		})
		if err != nil {
			return err
		}
	}
	return t.whole(ctx)
}

// begin makes a new volume for a group and starts the clients.
func (t *torture) begin(ctx context.Context, w *watched) error {
	w.round++
	w.name = fmt.Sprintf("torture-watch-%d-%d", w.number+1, w.round)
	spec := v1.VolumeSpec{Name: w.name, Size: watchSize}
	if w.number%4 >= 2 {
		spec.Compress = "auto"
	}
	return t.observe(ctx, w, spec)
}

// observe makes a volume for a group and starts its clients.
func (t *torture) observe(ctx context.Context, w *watched, spec v1.VolumeSpec) error {
	v, err := t.cloud.haveVolume(ctx, spec)
	if err == nil && w.shared {
		err = t.cloud.setVolume(ctx, v.ID, v1.VolumeSet{Shared: &w.shared})
	}
	if err != nil {
		return err
	}
	w.id = v.ID
	w.ended = false
	w.g = observer.Start(observer.Options{Name: w.name, Doors: observer.Doors(t.o.Lab.Hosts, v.ID), Records: observer.Cluster(t.o.Lab.Hosts, v.ID),
		Blocks: watchBlocks, Clients: watchClients, Shared: w.shared, Seed: t.o.Seed + uint64(100*w.number+w.round), Think: watchThink, Begun: t.begun})
	return nil
}

// rotate judges what each group has seen, and gives it a new volume: a history that
// is too long cannot be judged.
func (t *torture) rotate(ctx context.Context) error {
	for _, w := range t.watch {
		if err := t.finish(ctx, w); err != nil {
			return err
		}
		if err := t.unmake(ctx, w.name); err != nil {
			return err
		}
		if err := t.begin(ctx, w); err != nil {
			return err
		}
	}
	return t.whole(ctx)
}

// finish ends a group's clients, if they have not ended.
func (t *torture) finish(ctx context.Context, w *watched) error {
	if w.ended {
		return nil
	}
	stopping, cancel := context.WithTimeout(ctx, goOnWithin)
	defer cancel()
	if err := w.g.Stop(stopping); err != nil {
		return err
	}
	if v, err := t.cloud.volume(ctx, w.id); err == nil {
		t.mu.Lock()
		t.report.TakeOvers += int(v.Epoch)
		t.mu.Unlock()
	}
	t.judge(w)
	return nil
}

// judge has what a group saw judged beside all else.
func (t *torture) judge(w *watched) {
	g := w.g
	w.ended = true
	t.judges.Go(func() {
		r := g.Judge()
		for _, bad := range r.Wrong {
			t.accuse("%s", bad)
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.report.Observed = append(t.report.Observed, r)
	})
}

func (t *torture) stopWatching(ctx context.Context) error {
	for _, w := range t.watch {
		if err := t.finish(ctx, w); err != nil {
			return err
		}
	}
	t.judges.Wait()
	return t.good()
}

// volumeNames are the volumes that are in use.
func (t *torture) volumeNames() (out []string) {
	for _, w := range t.watch {
		out = append(out, w.name)
	}
	for _, vm := range t.vms {
		out = append(out, vm.Name)
	}
	return append(out, fioVolume)
}

// end ends whoever still works.
func (t *torture) end() {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for _, w := range t.watch {
		if !w.ended {
			_ = w.g.Stop(gone) // something failed, which is told
			t.judge(w)
		}
	}
	t.judges.Wait()
	if t.fio != nil {
		t.fio.kill()
	}
	if t.diary != nil {
		t.diary.Close()
	}
}
