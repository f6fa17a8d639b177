package run_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/backup"
	"github.com/holdfast-cloud/holdfast/internal/backup/run"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/httpapi/apitest"
)

// scene is a cluster in memory with two volumes, and a directory.
type scene struct {
	t   *testing.T
	c   *client.Client
	b   *apitest.Backend
	dir string

	socket string
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, b: apitest.Three(), dir: t.TempDir()}
	server := httpapi.New(httpapi.Options{Backend: s.b, Version: "test"})
	s.socket = filepath.Join(t.TempDir(), "s")
	if err := server.ServeUnix(s.socket); err != nil {
		t.Fatal(err)
	}
	s.c = client.Socket(s.socket)
	t.Cleanup(func() { s.c.Close(); server.Close(context.Background()) })
	for i, name := range []string{"db", "log"} {
		v, err := s.c.CreateVolume(t.Context(), v1.VolumeSpec{Name: name, Size: 5 << 20})
		if err != nil {
			t.Fatal(err)
		}
		s.b.Content[s.id(v)] = content(i + 1)
	}
	return s
}

// content is what the n-th volume holds; it cannot be compressed.
func content(n int) []byte {
	b := make([]byte, 5<<20)
	rnd := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

func (s *scene) id(v v1.Volume) holdfast.VolumeID {
	id, err := holdfast.ParseUUID(v.ID)
	if err != nil {
		s.t.Fatal(err)
	}
	return holdfast.VolumeID{UUID: id}
}

func (s *scene) backUp(j run.Job) []run.Made {
	s.t.Helper()
	j.Client = s.c
	if j.File == "" && j.Pipe == nil {
		j.Dir = s.dir
	}
	made, err := j.Run(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return made
}

func (s *scene) snapshots(volume string) (names []string) {
	s.t.Helper()
	list, err := s.c.Snapshots(s.t.Context(), volume)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, x := range list {
		names = append(names, x.Name)
	}
	return names
}

func (s *scene) restored(from run.Source, name string) []byte {
	s.t.Helper()
	v, err := from.Restore(s.t.Context(), s.c, client.NewRestore{Name: name})
	if err != nil {
		s.t.Fatal(err)
	}
	return s.b.Content[s.id(v)]
}

func TestADirectoryKeepsTheSnapshotThatTheNextOneNeeds(t *testing.T) {
	s := newScene(t)
	for i, want := range []string{"full", "incremental", "incremental", "full"} {
		made := s.backUp(run.Job{Volumes: []string{"db"}, FullAfter: 2})
		if len(made) != 1 || made[0].Kind != want {
			t.Fatalf("backup %d: %+v", i, made)
		}
		if have := s.snapshots("db"); len(have) != 1 || have[0] != made[0].Snapshot || !strings.HasPrefix(have[0], run.Prefix) {
			t.Errorf("after backup %d there are %v", i, have)
		}
	}
	if got := s.restored(run.Source{Path: s.dir}, "again"); !bytes.Equal(got, content(1)) {
		t.Error("other bytes came back")
	}
	if got := s.restored(run.Source{Path: s.dir, At: "3"}, "third"); !bytes.Equal(got, content(1)) {
		t.Error("other bytes came back of the third")
	}
	if err := s.c.DeleteSnapshot(t.Context(), "db", s.snapshots("db")[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := (&run.Job{Client: s.c, Dir: s.dir, Volumes: []string{"db"}, Incremental: true}).Run(t.Context()); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Errorf("a difference to nothing: %v", err)
	}
	if made := s.backUp(run.Job{Volumes: []string{"db"}}); made[0].Kind != "full" {
		t.Errorf("without its snapshot: %+v", made)
	}
	p := run.Pruning{Dir: s.dir, Keep: backup.Keep{Last: 1}, Client: s.c}
	gone, err := p.Run(t.Context())
	if err != nil || len(gone) != 4 {
		t.Errorf("%d pruned, %v", len(gone), err)
	}
	if have := s.snapshots("db"); len(have) != 1 {
		t.Errorf("pruning left %v", have)
	}
}

func TestSeveralAreBackedUpAtOnePoint(t *testing.T) {
	s := newScene(t)
	made := s.backUp(run.Job{Volumes: []string{"db", "log"}})
	if len(made) != 2 || made[0].Snapshot != made[1].Snapshot {
		t.Fatalf("%+v", made)
	}
	for i, m := range made {
		if got := s.restored(run.Source{Path: s.dir, Volume: m.Volume}, "r"+m.Volume); !bytes.Equal(got, content(i+1)) {
			t.Errorf("%s: other bytes came back", m.Volume)
		}
	}
	if _, err := (&run.Source{Path: s.dir}).Restore(t.Context(), s.c, client.NewRestore{Name: "which"}); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Errorf("which of them: %v", err)
	}
}

// TestWhatWasInterruptedIsGoneOnWith: at the point at which it was begun, also if
// only some of the volumes of one point were done.
func TestWhatWasInterruptedIsGoneOnWith(t *testing.T) {
	s := newScene(t)
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range [][]age.Recipient{nil, {key.Recipient()}} {
		made := s.backUp(run.Job{Volumes: []string{"db", "log"}, Full: true, Recipients: to})
		b, err := os.ReadFile(made[1].File)
		if err != nil {
			t.Fatal(err)
		}
		s.interrupted(made[1].File)
		again := s.backUp(run.Job{Volumes: []string{"db", "log"}, Full: true, Recipients: to})
		if len(again) != 1 || !again[0].Resumed || again[0].Snapshot != made[1].Snapshot || again[0].File != made[1].File {
			t.Fatalf("%+v", again)
		}
		name := "plain"
		if to != nil {
			name = "sealed"
		}
		if got := s.restored(run.Source{Path: made[1].File, Identities: []age.Identity{key}}, name); !bytes.Equal(got, content(2)) {
			t.Errorf("%s: other bytes came back", name)
		}
		// One that has not even a header is nothing; one without its snapshot is
		// begun anew.
		if err := os.WriteFile(filepath.Join(s.dir, "db.20261122-120000.full"+backup.Suffix+backup.PartSuffix), b[:100], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(made[0].File+backup.PartSuffix, b[:len(b)/3], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.c.DeleteSnapshot(t.Context(), "log", made[1].Snapshot); err != nil {
			t.Fatal(err)
		}
		if third := s.backUp(run.Job{Volumes: []string{"db", "log"}, Full: true, Recipients: to}); len(third) != 2 || third[0].Resumed || third[0].Snapshot == made[0].Snapshot {
			t.Errorf("%+v", third)
		}
		if left, _ := filepath.Glob(filepath.Join(s.dir, "*"+backup.PartSuffix)); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// TestAShortFaultTakesNothingAway: a host that does not answer when an
// interrupted backup is to be gone on with is no reason to throw it away.
func TestAShortFaultTakesNothingAway(t *testing.T) {
	s := newScene(t)
	made := s.backUp(run.Job{Volumes: []string{"db"}})
	part := s.interrupted(made[0].File)
	away := s.broken(func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/snapshots/")
	})
	if _, err := (&run.Job{Client: away, Dir: s.dir, Volumes: []string{"db"}}).Run(t.Context()); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Errorf("a host does not answer: %v", err)
	}
	if _, err := os.Stat(part); err != nil {
		t.Errorf("what was interrupted is gone: %v", err)
	}
	if again := s.backUp(run.Job{Volumes: []string{"db"}}); len(again) != 1 || !again[0].Resumed {
		t.Errorf("%+v", again)
	}
}

// TestAPointThatIsNotFoundAgainIsLetGo: nothing is left of snapshots that no
// backup is made of.
func TestAPointThatIsNotFoundAgainIsLetGo(t *testing.T) {
	s := newScene(t)
	away := s.broken(func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/snapshots/")
	})
	if _, err := (&run.Job{Client: away, Dir: s.dir, Volumes: []string{"db", "log"}}).Run(t.Context()); !holdfast.IsKind(err, holdfast.Unavailable) {
		t.Errorf("a host does not answer: %v", err)
	}
	if left := append(s.snapshots("db"), s.snapshots("log")...); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestAFileIsNotBelievedWhichSnapshotIsItsOwn: who can write to a directory of
// backups cannot have snapshots deleted that were not made for backups.
func TestAFileIsNotBelievedWhichSnapshotIsItsOwn(t *testing.T) {
	s := newScene(t)
	if _, err := s.c.Snapshot(t.Context(), "db", v1.SnapshotSpec{Name: "monday"}); err != nil {
		t.Fatal(err)
	}
	made := s.backUp(run.Job{Volumes: []string{"db"}, Snapshot: "monday"})
	b, err := os.ReadFile(made[0].File)
	if err != nil {
		t.Fatal(err)
	}
	r, err := backup.NewReader(bytes.NewReader(b), nil)
	if err != nil {
		t.Fatal(err)
	}
	h := r.Header()
	h.Snapshot.Kept = true
	var forged bytes.Buffer
	w, err := backup.NewWriter(&forged, h, nil)
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = os.WriteFile(made[0].File, forged.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.backUp(run.Job{Volumes: []string{"db"}, Full: true})
	p := run.Pruning{Dir: s.dir, Keep: backup.Keep{Last: 1}, Client: s.c}
	if gone, err := p.Run(t.Context()); err != nil || len(gone) != 1 {
		t.Errorf("%d pruned, %v", len(gone), err)
	}
	if have := s.snapshots("db"); !slices.Contains(have, "monday") {
		t.Errorf("there are %v", have)
	}
}

// interrupted has a whole backup be one that was interrupted.
func (s *scene) interrupted(path string) (part string) {
	s.t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path+backup.PartSuffix, b[:len(b)*2/3], 0o600)
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return path + backup.PartSuffix
}

// broken is a client whose requests are not answered if bad says so.
func (s *scene) broken(bad func(*http.Request) bool) *client.Client {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		s.t.Fatal(err)
	}
	to := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.socket)
	}}
	proxy := &httputil.ReverseProxy{Transport: to, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: "holdfast"})
	}}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if bad(r) {
			panic(http.ErrAbortHandler) // it breaks off
		}
		proxy.ServeHTTP(w, r)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	c := client.Socket(path)
	s.t.Cleanup(func() { c.Close(); server.Close(); <-done; to.CloseIdleConnections() })
	return c
}

func TestToAFileAndAPipe(t *testing.T) {
	s := newScene(t)
	path := filepath.Join(s.dir, "one"+backup.Suffix)
	s.backUp(run.Job{Volumes: []string{"db"}, File: path, Keep: true})
	base := s.snapshots("db")
	if len(base) != 1 {
		t.Fatal(base)
	}
	if _, err := (&run.Job{Client: s.c, Volumes: []string{"db"}, File: path}).Run(t.Context()); !holdfast.IsKind(err, holdfast.Exists) {
		t.Errorf("it is there already: %v", err)
	}
	var pipe bytes.Buffer
	s.backUp(run.Job{Volumes: []string{"db"}, Pipe: &pipe, Base: base[0]})
	if have := s.snapshots("db"); !slices.Equal(have, base) {
		t.Errorf("a pipe left %v", have)
	}
	full, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	in := bytes.NewReader(append(full, pipe.Bytes()...))
	if got := s.restored(run.Source{Pipe: in}, "again"); !bytes.Equal(got, content(1)) {
		t.Error("other bytes came back")
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, "*")); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}
