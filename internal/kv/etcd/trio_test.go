package etcd_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/kv"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcd"
	"github.com/holdfast-cloud/holdfast/internal/kv/kvtest"
)

// trio is a cluster of three voters, each a process, that grew from one.
type trio struct {
	*testing.T
	p     *pki
	procs map[string]*process
	urls  []string
}

func newTrio(t *testing.T) *trio {
	x := &trio{T: t, p: newPKI(t), procs: make(map[string]*process)}
	a := x.p.member("a")
	x.procs["a"] = startProcess(t, a)
	x.urls = []string{a.ListenClient}
	st := dial(t, x.p.client("a"), a.ListenClient)
	var ids []uint64
	for _, name := range []string{"b", "c"} {
		cfg := x.p.member(name)
		var id uint64
		within(t, patience, "announcing "+name, func() (err error) {
			id, cfg.InitialCluster, err = st.AddLearner(name, cfg.ListenPeer)
			return err
		})
		within(t, patience, "announcing it twice", func() error {
			again, _, err := st.AddLearner(name, cfg.ListenPeer)
			if err == nil && again != id {
				t.Errorf("announced twice: %x, then %x", id, again)
			}
			return err
		})
		cfg.Join = true
		x.procs[name] = startProcess(t, cfg)
		x.urls = append(x.urls, cfg.ListenClient)
		ids = append(ids, id)
	}
	for _, id := range ids {
		within(t, patience, "promoting", func() error { return st.Promote(id) })
		within(t, patience, "promoting twice", func() error { return st.Promote(id) })
	}
	return x
}

// leader returns the name of the member that leads.
func (x *trio) leader(st *etcd.Store) string {
	x.Helper()
	var name string
	within(x.T, patience, "finding the leader", func() error {
		members, err := st.Members()
		if err != nil {
			return err
		}
		for _, m := range members {
			if m.Learner {
				x.Errorf("%s is still a learner", m.Name)
			}
			if m.Leader {
				name = m.Name
				return nil
			}
		}
		return fmt.Errorf("no leader among %v", members)
	})
	return name
}

// TestThreeMembers has three members grow from one, lose their leader, take it
// back, pass over a frozen one and remove one.
func TestThreeMembers(t *testing.T) {
	t.Parallel()
	x := newTrio(t)
	x.loseLeader()
	x.freezeOne()
	x.removeOne()
}

// loseLeader kills the leader under load and starts it again.
func (x *trio) loseLeader() {
	st := x.dial()
	l := &kvtest.Linear{Clock: clock.System{}, Dir: "lin/"}
	var wg sync.WaitGroup
	for i := range 4 {
		c := dial(x.T, x.p.client("a"), slices.Concat(x.urls[i%3:], x.urls[:i%3])...)
		wg.Go(func() { l.Client(c, i, 100, rand.New(rand.NewPCG(1, uint64(i))), 30*time.Millisecond) })
	}
	rev := x.commit(st, "w/0")
	var lease kv.LeaseID
	within(x.T, patience, "granting a lease", func() (err error) {
		lease, err = st.Grant(time.Hour)
		return err
	})
	w := st.Watch("w/", rev)
	defer w.Close()
	victim := x.leader(st)
	x.procs[victim].kill()
	took := within(x.T, patience, "committing without the leader", func() error {
		_, err := st.Commit(nil, []kv.Op{{Key: "w/1"}})
		return err
	})
	x.Logf("leader %s killed; committed again after %v", victim, took.Round(time.Millisecond))
	within(x.T, patience, "renewing over the change of leader", func() error { return st.Renew(lease) })
	x.follows(st, w, "w/", rev)
	wg.Wait()
	x.Logf("outcomes of commits: %v", l.Check(x.T))
	x.procs[victim] = startProcess(x.T, x.procs[victim].cfg)
	own := dial(x.T, x.p.client("a"), x.procs[victim].cfg.ListenClient)
	within(x.T, patience, "the killed member answering", func() error {
		items, _, err := own.Range("w/")
		if err == nil && len(items) != 2 {
			x.Errorf("it has %d items", len(items))
		}
		return err
	})
}

// commit puts a key, if need be again.
func (x *trio) commit(st *etcd.Store, key string) (rev kv.Rev) {
	x.Helper()
	within(x.T, patience, "committing "+key, func() (err error) {
		rev, err = st.Commit(nil, []kv.Op{{Key: key}})
		return err
	})
	return rev
}

func (x *trio) dial(first ...string) *etcd.Store {
	return dial(x.T, x.p.client("a"), append(first, x.urls...)...)
}

// freezeOne stops a follower's process, the first that the client would ask.
func (x *trio) freezeOne() {
	leader := x.leader(x.dial())
	name := map[string]string{"a": "b", "b": "c", "c": "a"}[leader]
	proc := x.procs[name].cmd.Process
	st := x.dial(x.procs[name].cfg.ListenClient)
	rev := x.commit(st, "f/0")
	w := st.Watch("f/", rev)
	defer w.Close()
	proc.Signal(syscall.SIGSTOP)
	defer proc.Signal(syscall.SIGCONT)
	took := within(x.T, patience, "reading beside a frozen member", func() error {
		_, _, err := st.Range("f/")
		return err
	})
	x.Logf("%s frozen; answered elsewhere after %v", name, took.Round(time.Millisecond))
	x.commit(st, "f/1")
	x.follows(st, w, "f/", rev)
}

// follows checks that a watch of DIR/ shows DIR/1, or breaks and does so when
// it is opened again from where it was.
func (x *trio) follows(st *etcd.Store, w kv.Watcher, dir string, from kv.Rev) {
	x.Helper()
	for limit := time.Now().Add(patience); time.Now().Before(limit); {
		evs, err := w.Next(15 * time.Second)
		if holdfast.IsKind(err, holdfast.Unavailable) {
			w = st.Watch(dir, from)
			defer w.Close()
			continue
		}
		evs = slices.DeleteFunc(evs, func(e kv.Event) bool { return e.Key == dir+"0" }) // put twice
		if len(evs) == 0 && err == nil {
			continue
		}
		if err != nil || evs[0].Key != dir+"1" {
			x.Errorf("the watch shows %v %v", evs, err)
		}
		return
	}
	x.Error("the watch shows nothing, or keeps breaking")
}

// removeOne takes a member out, twice.
func (x *trio) removeOne() {
	st := x.dial()
	var members []etcd.MemberInfo
	within(x.T, patience, "three members", func() (err error) {
		members, err = st.Members()
		return err
	})
	if len(members) != 3 {
		x.Fatal(members)
	}
	i := slices.IndexFunc(members, func(m etcd.MemberInfo) bool { return !m.Leader })
	for range 2 {
		within(x.T, patience, "removing a member", func() error { return st.RemoveMember(members[i].ID) })
	}
	within(x.T, patience, "two members", func() error {
		members, err := st.Members()
		if err == nil && len(members) != 2 {
			err = fmt.Errorf("%v", members)
		}
		return err
	})
	if err := st.Promote(1); !holdfast.IsKind(err, holdfast.NotFound) {
		x.Errorf("promoting a stranger: %v", err)
	}
	if _, _, err := st.AddLearner("d", "http://127.0.0.1:1"); !holdfast.IsKind(err, holdfast.Invalid) {
		x.Errorf("a peer without TLS: %v", err)
	}
}
