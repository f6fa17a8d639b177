package killpoints

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/crashpoint"
	"github.com/holdfast-cloud/holdfast/internal/export/nbd"
	"github.com/holdfast-cloud/holdfast/lab"
)

func isNotFound(err error) bool { return holdfast.IsKind(err, holdfast.NotFound) }

// kill has a process kill itself at a passage of a point while clients write,
// starts it again and verifies everything.
func (s *scene) kill(p crashpoint.Point, passage int) killed {
	s.t.Helper()
	s.lone = s.begin(1)
	s.watched = s.begin(s.copies)
	volumes := []string{s.watched.name, s.lone.name}
	s.whole(volumes...)
	provoke, pid := s.provocation(p)
	defer s.revoke()
	begun := time.Now()
	s.command(p, passage, pid)
	for i := 0; !s.struck(); i++ {
		if time.Since(begun) > patience {
			s.t.Errorf("%s was not passed %d times within %v", p, passage, patience)
			break
		}
		provoke(i)
	}
	after := time.Since(begun).Seconds()
	s.whole(volumes...)
	s.goesOn(s.watched)
	s.goesOn(s.lone)
	k := killed{Point: p, Passage: passage, After: after}
	for _, g := range []*group{s.watched, s.lone} {
		k.Flushes += s.end(g)
		k.Operations += g.Done()
		k.Connections += g.Dials()
	}
	s.whole(volumes...)
	if s.copies > 1 {
		s.equal(s.watched.name)
	}
	s.fill.verify(s)
	for _, name := range volumes {
		s.remove(name)
	}
	return k
}

// equal has all copies of a volume compared.
func (s *scene) equal(name string) {
	s.t.Helper()
	s.until("the copies of volume "+name+" to be compared", func() (bool, string) {
		r, err := ask(s, func(ctx context.Context, k *client.Client) (v1.VerifyResult, error) {
			return k.Verify(ctx, name, func(float64) {})
		})
		if err == nil && !r.Equal {
			s.t.Errorf("the copies of volume %s differ in %d blocks", name, r.Differ)
		}
		return err == nil && len(r.Copies) >= s.copies, fmt.Sprint(len(r.Copies), " copies ", err)
	})
}

// provocation is what has a point passed, and by which process; 0: by any.
func (s *scene) provocation(p crashpoint.Point) (provoke func(i int), pid int) {
	own := s.pid(s.holder(s.lone.name)) // whose disk nobody else makes good
	step, _, _ := strings.Cut(string(p), ":")
	switch {
	case step == "commit" || step == "checkpoint" || step == "cleaner":
		return func(int) { s.fill.more(s) }, own
	case step == "recovery":
		return func(int) { s.again(s.holder(s.lone.name), 0) }, 0
	case step == "take-over":
		return func(i int) { s.takeOver(way(p, i)) }, 0
	case step == "resync":
		return s.rejoin, 0
	case step == "revert":
		return func(int) { s.revert() }, 0
	case step == "delete":
		return func(int) { s.brief() }, 0
	}
	return func(int) { s.snapshot(s.watched.name) }, 0
}

// again kills a host's process and starts it after a while, if it does not kill
// itself in that.
func (s *scene) again(h lab.Host, after time.Duration) {
	s.t.Helper()
	if err := lab.KillServe([]lab.Host{h}); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(after); time.Now().Before(end) && !s.struck(); {
		time.Sleep(10 * time.Millisecond)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.l.StartHosts(ctx, s.binary, []lab.Host{h}) }()
	for {
		select {
		case err := <-ended:
			if err != nil && !s.struck() {
				s.t.Log(err) // it is tried again
			}
			return
		case <-time.After(20 * time.Millisecond):
			if s.struck() {
				cancel()
			}
		}
	}
}

// The ways to lose a writer.
const (
	asItIs = iota
	ahead  // when another member lacks what it was sent
	alone  // of a stream, with more on its disk than all others have, and back when one of them has opened the volume
	ways
)

// way is the one in which a point of a take-over is passed, or each in turn.
func way(p crashpoint.Point, i int) int {
	switch p {
	case crashpoint.TakeoverFilled:
		return ahead
	case crashpoint.MemberCut:
		return alone
	}
	return i % ways
}

// takeOver kills the writer of the watched volume, or of the filler.
func (s *scene) takeOver(way int) {
	s.t.Helper()
	name := s.watched.name
	if way == alone {
		s.fill.more(s)
		name = s.fill.name
	}
	v, err := s.look(name)
	if err != nil || s.host(v.Writer).Name == "" {
		time.Sleep(50 * time.Millisecond)
		return
	}
	w, others := s.host(v.Writer), s.others(v.Writer)
	const behind = 300 * time.Millisecond
	switch way {
	case asItIs:
		s.again(w, time.Second)
	case ahead:
		s.freeze(others[:1])
		time.Sleep(behind) // what is written meanwhile it lacks
		if err := errors.Join(lab.KillServe([]lab.Host{w}), lab.Thaw(others[:1])); err != nil {
			s.t.Fatal(err)
		}
		s.again(w, time.Second)
	case alone:
		streamed := make(chan struct{})
		go func() { s.fill.more(s); close(streamed) }()
		time.Sleep(behind)
		s.freeze(others)
		time.Sleep(4 * behind) // batches of its log are full, and written, that nobody else has
		if err := errors.Join(lab.KillServe([]lab.Host{w}), lab.Thaw(others)); err != nil {
			s.t.Fatal(err)
		}
		<-streamed
		s.fill.more(s) // opens it
		s.again(w, 0)
		s.orStruck(func() bool { return s.isWhole(s.fill.name) })
	}
	s.settled()
}

func (s *scene) others(name string) (out []lab.Host) {
	for _, h := range s.l.Hosts {
		if h.Name != name {
			out = append(out, h)
		}
	}
	return out
}

// freeze stops hosts' processes.
func (s *scene) freeze(hosts []lab.Host) {
	s.t.Helper()
	if err := lab.FreezeServe(hosts); err != nil {
		s.t.Fatal(err)
	}
}

// rejoin kills a member of the watched volume that does not write it, and keeps a
// snapshot that it does not get, before it is back.
func (s *scene) rejoin(i int) {
	v, err := s.look(s.watched.name)
	if err != nil {
		return
	}
	for _, r := range v.Replicas {
		if r.Host == v.Writer {
			continue
		}
		if err := lab.KillServe([]lab.Host{s.host(r.Host)}); err != nil {
			s.t.Fatal(err)
		}
		s.orStruck(func() bool { v, err := s.look(s.watched.name); return err == nil && v.State != "ok" })
		s.keep(s.watched.name, fmt.Sprintf("missed-%d", i))
		s.again(s.host(r.Host), 0)
		break
	}
	s.settled()
}

// settled waits until the watched clients go on at whoever has opened their volume,
// and that has all its copies, or a process has killed itself.
func (s *scene) settled() {
	was := s.watched.Done()
	s.orStruck(func() bool { return s.watched.Done() > was+20 })
	s.orStruck(func() bool { return s.isWhole(s.watched.name) })
}

// orStruck waits until something is so, or a process has killed itself.
func (s *scene) orStruck(f func() bool) {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end) && !s.struck() && !f(); {
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *scene) isWhole(name string) bool {
	v, err := s.look(name)
	for _, r := range v.Replicas {
		if !r.InSync || !r.Alive {
			return false
		}
	}
	return err == nil && v.State == "ok"
}

// keep keeps a snapshot, and drop lets it go; they may fail.
func (s *scene) keep(volume, name string) error {
	_, err := ask(s, func(ctx context.Context, k *client.Client) (v1.Snapshot, error) {
		return k.Snapshot(ctx, volume, v1.SnapshotSpec{Name: name})
	})
	return err
}

func (s *scene) drop(volume, name string) error {
	_, err := ask(s, func(ctx context.Context, k *client.Client) (struct{}, error) {
		return struct{}{}, k.DeleteSnapshot(ctx, volume, name)
	})
	return err
}

// snapshot keeps a snapshot of a volume in use and lets it go when that has changed.
func (s *scene) snapshot(volume string) {
	name := s.name("snapshot")
	if s.keep(volume, name) == nil {
		was := s.watched.Done()
		s.orStruck(func() bool { return s.watched.Done() > was+10 })
		if s.drop(volume, name) != nil {
			return
		}
	}
	time.Sleep(20 * time.Millisecond)
}

// revert sets a volume back that nobody uses: afterwards it is all old or all new,
// and old if that was said to be done.
func (s *scene) revert() {
	s.t.Helper()
	name := s.name("reverted")
	s.volume(name, s.copies, 1<<20)
	older, newer := bytes.Repeat([]byte{'o'}, 1<<20), bytes.Repeat([]byte{'n'}, 1<<20)
	err := s.write(name, older)
	if err == nil {
		err = s.keep(name, "before")
	}
	if err == nil {
		err = s.write(name, newer)
	}
	if err != nil {
		return // a process killed itself in what precedes it
	}
	_, err = ask(s, func(ctx context.Context, k *client.Client) (struct{}, error) {
		return struct{}{}, k.Revert(ctx, name, v1.RevertSpec{Snapshot: "before"})
	})
	s.orStruck(func() bool { return true })
	s.whole(name)
	got := make([]byte, 1<<20)
	s.until("volume "+name+" to be read", func() (bool, string) {
		rerr := s.read(name, got)
		return rerr == nil, fmt.Sprint(rerr)
	})
	if !bytes.Equal(got, older) && (err == nil || !bytes.Equal(got, newer)) {
		s.t.Errorf("a volume that was set back (%v) is neither what it was before nor what it is to be", err)
	}
	s.remove(name)
}

// brief makes a volume and deletes it.
func (s *scene) brief() {
	s.t.Helper()
	name := s.name("brief")
	s.volume(name, s.copies, 8<<20)
	_ = s.write(name, bytes.Repeat([]byte{'b'}, 8<<20)) // a process may kill itself in it
	_, _ = ask(s, func(ctx context.Context, k *client.Client) (struct{}, error) {
		return struct{}{}, k.DeleteVolume(ctx, name)
	})
	s.orStruck(func() bool { _, err := s.look(name); return isNotFound(err) })
	s.whole()
	s.remove(name)
}

// open opens a volume, at its writer's host if that lets us in.
func (s *scene) open(name string) (c *nbd.Client, err error) {
	v, err := s.look(name)
	if err != nil {
		return nil, err
	}
	doors := s.others(v.Writer)
	rand.Shuffle(len(doors), func(i, j int) { doors[i], doors[j] = doors[j], doors[i] })
	if h := s.host(v.Writer); h.Name != "" {
		doors = append([]lab.Host{h}, doors...)
	}
	for _, h := range doors {
		if c, err = nbd.Dial("unix", h.Export(v.ID), "", nil); err == nil {
			return c, nil
		}
	}
	return nil, err
}

// write writes a volume from its beginning and flushes.
func (s *scene) write(name string, b []byte) error {
	c, err := s.open(name)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err = c.WriteAt(b, 0); err == nil {
		err = c.Flush()
	}
	return err
}

func (s *scene) read(name string, b []byte) error {
	c, err := s.open(name)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.ReadAt(b, 0)
	return err
}
