package run_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/backup"
	"github.com/holdfast-cloud/holdfast/internal/backup/run"
)

// TestSeveralInOneFileOrPipe: they are of one point, and each is restored by its
// name, with what a second file holds of it, too.
func TestSeveralInOneFileOrPipe(t *testing.T) {
	s := newScene(t)
	path := filepath.Join(s.dir, "both"+backup.Suffix)
	made := s.backUp(run.Job{Volumes: []string{"db", "log"}, File: path, Keep: true})
	if len(made) != 2 || made[0].Snapshot != made[1].Snapshot || made[1].File != path {
		t.Fatalf("%+v", made)
	}
	var pipe bytes.Buffer
	s.backUp(run.Job{Volumes: []string{"db", "log"}, Pipe: &pipe, Base: made[0].Snapshot})
	second := filepath.Join(s.dir, "second"+backup.Suffix)
	if err := os.WriteFile(second, pipe.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	full, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"db", "log"} {
		if got := s.restored(run.Source{Path: path, Volume: name}, "file-"+name); !bytes.Equal(got, content(i+1)) {
			t.Errorf("%s: other bytes came back of a file", name)
		}
		if got := s.restored(run.Source{Path: second, Volume: name}, "second-"+name); !bytes.Equal(got, content(i+1)) {
			t.Errorf("%s: other bytes came back of what goes over the file", name)
		}
		in := bytes.NewReader(append(bytes.Clone(full), pipe.Bytes()...))
		if got := s.restored(run.Source{Pipe: in, Volume: name}, "pipe-"+name); !bytes.Equal(got, content(i+1)) {
			t.Errorf("%s: other bytes came back of a pipe", name)
		}
	}
	for what, c := range map[string]struct {
		from run.Source
		want holdfast.Kind
	}{
		"which of a file":             {run.Source{Path: path}, holdfast.Invalid},
		"which of a pipe":             {run.Source{Pipe: bytes.NewReader(full)}, holdfast.Invalid},
		"one that is not in a file":   {run.Source{Path: path, Volume: "web"}, holdfast.NotFound},
		"one that is not in the pipe": {run.Source{Pipe: bytes.NewReader(full), Volume: "web"}, holdfast.NotFound},
		"a pipe that ends early":      {run.Source{Pipe: bytes.NewReader(full[:len(full)-1]), Volume: "log"}, holdfast.Corrupt},
	} {
		if _, err := c.from.Restore(t.Context(), s.c, client.NewRestore{Name: "none"}); !holdfast.IsKind(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	p := run.Pruning{Dir: s.dir, Keep: backup.Keep{Last: 1}, Client: s.c}
	if gone, err := p.Run(t.Context()); err != nil || len(gone) > 0 {
		t.Errorf("pruning took %d of files that it did not make, %v", len(gone), err)
	}
	// A directory's backups neither go over the files' snapshots nor end them.
	s.backUp(run.Job{Volumes: []string{"db", "log"}})
	if have := s.snapshots("db"); len(have) != 2 {
		t.Errorf("there are %v", have)
	}
}

// TestAFileIsGoneOnWithWhereverItWasCut: as after a process that was killed.
func TestAFileIsGoneOnWithWhereverItWasCut(t *testing.T) {
	s := newScene(t)
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(5, 5))
	cut := 0
	path := filepath.Join(s.dir, "both"+backup.Suffix)
	for i, to := range [][]age.Recipient{nil, {key.Recipient()}} {
		for range 4 {
			j := run.Job{Volumes: []string{"db", "log"}, File: path, Replace: true, Recipients: to}
			was := s.cutOff(j, rnd.Int64N(9<<20))
			made := s.backUp(j)
			if len(made) != 2 || made[0].Resumed != was {
				t.Fatalf("%+v", made)
			}
			if was {
				cut++
			}
			for k, name := range j.Volumes {
				v := "r" + name
				if got := s.restored(run.Source{Path: path, Volume: name, Identities: []age.Identity{key}}, v); !bytes.Equal(got, content(k+1)) {
					t.Errorf("%d, %s: other bytes came back", i, name)
				}
				if err := s.c.DeleteVolume(t.Context(), v); err != nil {
					t.Fatal(err)
				}
			}
			s.nothingLeft(path)
		}
	}
	if cut < 4 {
		t.Errorf("only %d of 8 were cut off", cut)
	}
}

// cutOff makes a backup of which about so many bytes are written; false if it was
// whole before that was noticed.
func (s *scene) cutOff(j run.Job, most int64) bool {
	s.t.Helper()
	ctx, stop := context.WithCancel(s.t.Context())
	defer stop()
	j.Client = s.c
	j.Progress = func(volume string, done, total int64) {
		if volume == "log" {
			done += 5 << 20
		}
		if done > most {
			stop()
		}
	}
	if _, err := j.Run(ctx); err == nil {
		return false
	} else if !errors.Is(err, context.Canceled) {
		s.t.Fatal(err)
	}
	part := j.File + backup.PartSuffix
	st, err := os.Stat(part)
	if err != nil {
		s.t.Fatal(err)
	}
	// What a kill would have left out: the end of what was written.
	if err := os.Truncate(part, max(4096, st.Size()-most%100_000)); err != nil {
		s.t.Fatal(err)
	}
	return true
}

func (s *scene) nothingLeft(path string) {
	s.t.Helper()
	if _, err := os.Stat(path + backup.PartSuffix); err == nil {
		s.t.Errorf("%s%s is left", path, backup.PartSuffix)
	}
	for _, v := range []string{"db", "log"} {
		if have := s.snapshots(v); len(have) > 0 {
			s.t.Errorf("of %s are left %v", v, have)
		}
	}
}

// TestAnInterruptedFileIsNeverLeft: what cannot be gone on with, since other
// things are asked for or its snapshot is gone, is begun anew, and two do not
// write to it.
func TestAnInterruptedFileIsNeverLeft(t *testing.T) {
	s := newScene(t)
	path := filepath.Join(s.dir, "one"+backup.Suffix)
	j := run.Job{Volumes: []string{"db"}, File: path, Replace: true}
	s.cutOff(j, 3<<20)
	other := j
	other.Volumes = []string{"log"}
	if made := s.backUp(other); made[0].Resumed {
		t.Errorf("%+v", made)
	}
	s.nothingLeft(path)
	s.cutOff(j, 3<<20)
	if err := s.c.DeleteSnapshot(t.Context(), "db", s.snapshots("db")[0]); err != nil {
		t.Fatal(err)
	}
	if made := s.backUp(j); made[0].Resumed {
		t.Errorf("%+v", made)
	}
	s.nothingLeft(path)
	if err := os.WriteFile(path+backup.PartSuffix, []byte(strings.Repeat("no backup at all ", 10000)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.backUp(j)
	s.nothingLeft(path)
	j.Progress = func(string, int64, int64) {
		j.Progress = nil
		if _, err := (&run.Job{Client: s.c, Volumes: []string{"log"}, File: path, Replace: true}).Run(t.Context()); !holdfast.IsKind(err, holdfast.Busy) {
			t.Errorf("a second one: %v", err)
		}
	}
	s.backUp(j)
	s.nothingLeft(path)
}
