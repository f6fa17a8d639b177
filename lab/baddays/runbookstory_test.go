package baddays

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/config"
	"github.com/holdfast-cloud/holdfast/internal/kv/etcdtest"
	"github.com/holdfast-cloud/holdfast/lab"
)

// story is a lab and the states that it is brought into, one after the other: a
// file of testdata/runbooks.
type story struct {
	name   string
	racks  int // 0: whoever plays it makes the lab
	per    int // hosts in each
	disk   int64
	netns  bool
	needs  []string // probe, fuse, clocks, root, etcd
	long   bool     // only at length
	scenes []scenery
}

// scenery is a state.
type scenery struct {
	name  string
	steps []string
}

func (st story) has(scene string) bool {
	return slices.ContainsFunc(st.scenes, func(sc scenery) bool { return sc.name == scene })
}

// count is how many blocks are played in a story.
func (st story) count(all []block) (n int) {
	for _, b := range all {
		if b.notPlayed == "" && st.has(b.scene) {
			n++
		}
	}
	return n
}

// stories reads testdata/runbooks; its README says how they are written. Each
// scene is in one of them.
func stories(t *testing.T) (out []story) {
	t.Helper()
	files, err := filepath.Glob("testdata/runbooks/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no stories: ", err)
	}
	seen := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		st := story{name: strings.TrimSuffix(filepath.Base(file), ".txt"), per: 1, disk: 1 << 30}
		if line, why := st.read(string(text)); why != "" {
			t.Fatalf("%s: %q: %s", file, line, why)
		}
		for _, sc := range st.scenes {
			if seen[sc.name] {
				t.Errorf("%s: there is another scene %q", file, sc.name)
			}
			seen[sc.name] = true
		}
		out = append(out, st)
	}
	return out
}

// read reads a story, or says why a line of it cannot be.
func (st *story) read(text string) (line, why string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		name, isScene := strings.CutPrefix(line, "scene ")
		options, isLab := strings.CutPrefix(line, "lab ")
		switch {
		case line == "", strings.HasPrefix(line, "#"):
		case isScene:
			st.scenes = append(st.scenes, scenery{name: name})
		case len(st.scenes) > 0:
			last := &st.scenes[len(st.scenes)-1]
			last.steps = append(last.steps, line)
		case !isLab || !st.option(strings.Fields(options)):
			return line, "this is no lab"
		}
	}
	return "", ""
}

func (st *story) option(words []string) bool {
	for _, w := range words {
		switch w {
		case "none", "two", "three", "three-by-two":
			st.racks = map[string]int{"two": 2, "three": 3, "three-by-two": 3}[w]
			if w == "three-by-two" {
				st.per = 2
			}
		case "small-disks":
			st.disk = 250 << 20 // of 125 segments: more than 15 % are kept of a disk that has fewer
		case "netns":
			st.netns = true
		case "at-length":
			st.long = true
		case "probe", "fuse", "clocks", "root", "etcd":
			st.needs = append(st.needs, w)
		default:
			return false
		}
	}
	return true
}

// lab brings the lab of a story up.
func (st story) lab(t *testing.T) *scene {
	t.Helper()
	for _, n := range st.needs {
		switch {
		case n == "fuse":
			needsFUSE(t)
		case n == "root" && os.Getuid() != 0:
			t.Skip("not tested: it needs root")
		}
	}
	if st.netns {
		if err := lab.CanNetns(); err != nil {
			t.Skipf("not tested: %v", err)
		}
	}
	if st.racks == 0 {
		return noLab(t)
	}
	o := lab.Options{Racks: st.racks, PerRack: st.per, DiskSize: st.disk, Netns: st.netns}
	var e *etcdtest.Etcd
	if slices.Contains(st.needs, "etcd") {
		e = etcdtest.StartOf(t, 3, etcdQuota)
		o.Etcd = config.KV{Endpoints: e.URLs, CA: e.CA, Cert: e.Cert, Key: e.Key, Prefix: "lab/"}
	}
	s := newLabOf(t, o)
	s.etcd = e
	for _, h := range s.l.Hosts { // which pages call /dev/sdc
		f, err := os.Create(filepath.Join(h.Dir, "sdc"))
		if err == nil {
			err = f.Truncate(st.disk)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if slices.Contains(st.needs, "probe") {
		s.importProbe()
	}
	return s
}

// noLab is where a page makes a lab itself.
func noLab(t *testing.T) *scene {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "hf")
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, l: &lab.Lab{Dir: filepath.Join(dir, "holdfast", "lab")}}
	if err := os.Mkdir(s.home(), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if l, err := lab.Open(s.l.Dir); err == nil {
			if err := l.Down(true, func(string) string { return dir }); err != nil {
				t.Error("the lab did not end: ", err)
			}
		}
		os.RemoveAll(dir)
	})
	return s
}
