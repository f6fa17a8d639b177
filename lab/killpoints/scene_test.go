package killpoints

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/crashpoint"
	"github.com/holdfast-cloud/holdfast/internal/history"
	"github.com/holdfast-cloud/holdfast/lab"
	"github.com/holdfast-cloud/holdfast/lab/observer"
)

const (
	patience  = 4 * time.Minute // for anything to become true; nothing is measured
	diskSize  = 256 << 20       // small, so that checkpoints and the cleaner have work
	orderName = "HOLDFAST_CRASH_ORDER"
	struck    = ".struck"
)

// scene is a lab of a program that kills itself at points.
type scene struct {
	t       *testing.T
	l       *lab.Lab
	dir     string
	binary  string
	order   string // file
	copies  int    // of volumes, where a host may be lost
	made    int    // names so far
	watched *group // the clients whose volume is provoked
	lone    *group // those of a volume of one copy
	fill    filler
}

// newScene builds the program and brings a lab of it up.
func newScene(t *testing.T, racks int) *scene {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "hfkp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &scene{t: t, dir: dir, binary: filepath.Join(dir, "program"), order: filepath.Join(dir, "order"), copies: min(racks, 3)}
	build := exec.Command("go", "build", "-trimpath", "-tags", "crashpoints", "-o", s.binary, "../../cmd/holdfast")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build holdfast: %v\n%s", err, out)
	}
	t.Setenv(orderName, s.order) // of every process of the lab
	getenv := func(key string) string {
		if key == "XDG_STATE_HOME" || key == "HOME" {
			return dir
		}
		return ""
	}
	t.Cleanup(func() {
		if l, err := lab.Open(filepath.Join(dir, "l")); err == nil {
			if err := l.Down(false, getenv); err != nil {
				t.Error("the lab did not end: ", err)
			}
		}
	})
	var progress bytes.Buffer
	begun := time.Now()
	s.l, err = lab.Up(t.Context(), lab.Options{Racks: racks, PerRack: 1, DiskSize: diskSize, Dir: filepath.Join(dir, "l"), Binary: s.binary, Progress: &progress, Getenv: getenv})
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	t.Logf("a lab of %d racks after %.1f s", racks, time.Since(begun).Seconds())
	return s
}

// as is the scene in a subtest.
func (s *scene) as(t *testing.T) *scene {
	c := *s
	s.made += 100 // names of this test
	c.t = t
	return &c
}

// until waits for something to become true; f's words say what is missing.
func (s *scene) until(what string, f func() (bool, string)) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		ok, said := f()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("waited %v for %s, in vain; last heard: %s", patience, what, said)
		}
	}
}

// ask asks any host that answers.
func ask[T any](s *scene, f func(context.Context, *client.Client) (T, error)) (T, error) {
	return lab.Ask(context.Background(), s.l.Hosts, f)
}

func (s *scene) name(what string) string {
	s.made++
	return fmt.Sprintf("%s-%d", what, s.made)
}

func (s *scene) volume(name string, copies int, size int64) v1.Volume {
	s.t.Helper()
	var v v1.Volume
	s.until("volume "+name+" to be made", func() (bool, string) {
		var err error
		v, err = ask(s, func(ctx context.Context, k *client.Client) (v1.Volume, error) {
			return k.CreateVolume(ctx, v1.VolumeSpec{Name: name, Size: size, Copies: copies})
		})
		if err != nil {
			v, err = s.look(name)
		}
		return err == nil, fmt.Sprint(err)
	})
	return v
}

func (s *scene) look(name string) (v1.Volume, error) {
	return ask(s, func(ctx context.Context, k *client.Client) (v1.Volume, error) { return k.Volume(ctx, name) })
}

// group is the clients of one volume.
type group struct {
	*observer.Group
	name string
}

const (
	groupBlocks  = 64
	groupClients = 10 // so that one of them mostly waits for a flush
	groupThink   = 20 * time.Millisecond
)

// begin makes a new volume and has clients write it.
func (s *scene) begin(copies int) *group {
	s.t.Helper()
	name := s.name("watched")
	v := s.volume(name, copies, 1<<20)
	g := &group{name: name, Group: observer.Start(observer.Options{Name: name, Doors: observer.Doors(s.l.Hosts, v.ID), Records: observer.Cluster(s.l.Hosts, v.ID),
		Blocks: groupBlocks, Clients: groupClients, Seed: uint64(s.made), Think: groupThink, Begun: time.Now()})}
	s.goesOn(g)
	return g
}

// goesOn waits until the clients have been answered some more.
func (s *scene) goesOn(g *group) {
	s.t.Helper()
	was := g.Done()
	s.until("the clients of volume "+g.name+" to go on", func() (bool, string) { return g.Done() > was+20, fmt.Sprint(g.Done(), " operations") })
}

// end has the clients read everything and judges what they saw.
func (s *scene) end(g *group) (flushes int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := g.Stop(ctx); err != nil {
		s.t.Errorf("volume %s: %v", g.name, err)
	}
	for _, wrong := range g.Judge().Wrong {
		s.t.Error(wrong)
	}
	for _, op := range g.Ops() {
		if op.Kind == history.Flush && op.Return != 0 {
			flushes++
		}
	}
	return flushes
}

// whole waits until every host is there and a volume has all its copies.
func (s *scene) whole(volumes ...string) {
	s.t.Helper()
	s.until("the cluster to be whole", func() (bool, string) {
		if err := s.l.StartHosts(context.Background(), s.binary, s.l.Hosts); err != nil { // who was killed may just be ending
			return false, err.Error()
		}
		st, err := ask(s, func(ctx context.Context, k *client.Client) (v1.Status, error) { return k.Status(ctx) })
		if err != nil || st.Counts.HostsAlive != len(s.l.Hosts) || st.CanLose.Unknown != "" {
			return false, fmt.Sprint(st.Sentence, err)
		}
		for _, name := range volumes {
			v, err := s.look(name)
			n := 0
			for _, r := range v.Replicas {
				if r.InSync && r.Alive {
					n++
				}
			}
			if err != nil || v.State != "ok" || n < v.Copies {
				return false, fmt.Sprintf("volume %s has %d copies of %d, %v", name, n, v.Copies, err)
			}
		}
		return true, ""
	})
}

// remove deletes a volume and waits until it is gone.
func (s *scene) remove(name string) {
	s.t.Helper()
	s.until("volume "+name+" to be gone", func() (bool, string) {
		_, err := ask(s, func(ctx context.Context, k *client.Client) (struct{}, error) {
			return struct{}{}, k.DeleteVolume(ctx, name)
		})
		if err != nil {
			_, err = s.look(name)
		}
		return isNotFound(err), fmt.Sprint(err)
	})
}

// holder is the host of a volume's only copy.
func (s *scene) holder(name string) lab.Host {
	v, err := s.look(name)
	if err != nil || len(v.Replicas) == 0 {
		s.t.Fatalf("volume %s: %v", name, err)
	}
	return s.host(v.Replicas[0].Host)
}

func (s *scene) host(name string) lab.Host {
	for _, h := range s.l.Hosts {
		if h.Name == name {
			return h
		}
	}
	return lab.Host{}
}

// pid is that of a host's own process.
func (s *scene) pid(h lab.Host) int {
	want := strings.Join([]string{s.binary, "serve", "--config", h.Config(), ""}, "\x00")
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && string(b) == want {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			return pid
		}
	}
	s.t.Fatalf("host %s has no process", h.Name)
	return 0
}

// command orders a process, or with 0 any, to kill itself.
func (s *scene) command(p crashpoint.Point, passage, pid int) {
	s.t.Helper()
	tmp := s.order + ".new"
	err := os.WriteFile(tmp, fmt.Appendf(nil, "%d %d %s\n", passage, pid, p), 0o600)
	if err = errors.Join(err, os.Rename(tmp, s.order)); err != nil {
		s.t.Fatal(err)
	}
}

// struck reports whether a process has killed itself.
func (s *scene) struck() bool {
	_, err := os.Stat(s.order + struck)
	return err == nil
}

// revoke takes an order back, whatever became of it.
func (s *scene) revoke() {
	for _, path := range []string{s.order, s.order + struck} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.t.Error(err)
		}
	}
}
