package program_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/program"
	"github.com/holdfast-cloud/holdfast/internal/program/programtest"
)

func TestMain(m *testing.M) {
	programtest.Main()
	os.Exit(m.Run())
}

func built(t *testing.T, says string) []byte { return programtest.Build(t, says) }

func sumOf(b []byte) string { return programtest.Sum(b) }

// scene is a directory with a program in its place.
type scene struct {
	*testing.T
	dir, path string
	place     *program.Place
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{T: t, dir: t.TempDir()}
	s.path = filepath.Join(s.dir, "holdfast")
	if err := os.WriteFile(s.path, built(t, "holdfast version v1.0.0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.place = program.Open(s.path)
	return s
}

// offer is a whole program.
func offer(b []byte) program.Offer {
	return program.Offer{Sum: sumOf(b), Size: int64(len(b)), Body: bytes.NewReader(b)}
}

// files are the names in the directory.
func (s *scene) files() string {
	s.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		s.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

// stands checks what is in the place, in its versions: what runs next, what was taken
// in, and what was kept.
func (s *scene) stands(disk, next, previous string) {
	s.Helper()
	d, derr := s.place.Disk(s.Context())
	n, nerr := s.place.Next(s.Context())
	p, perr := s.place.Previous(s.Context())
	for _, e := range []error{derr, nerr, perr} {
		if e != nil && !holdfast.IsKind(e, holdfast.NotFound) {
			s.Fatal(e)
		}
	}
	got, want := [3]string{d.Version, n.Version, p.Version}, [3]string{disk, next, previous}
	if got != want {
		s.Fatalf("in its place, next and previous: %q, want %q", got, want)
	}
}

func TestAProgramIsTakenInExchangedAndBroughtBack(t *testing.T) {
	s := newScene(t)
	s.stands("v1.0.0", "", "")
	later := built(t, "holdfast version v1.1.0\n")
	b, err := s.place.Take(t.Context(), "v1.0.0", offer(later))
	if err != nil || b.Version != "v1.1.0" || b.Sum != sumOf(later) {
		t.Fatal(b, err)
	}
	s.stands("v1.0.0", "v1.1.0", "") // nothing has changed yet
	if found, err := s.place.Find(t.Context(), b.Sum); err != nil || found != b {
		t.Fatal(found, err)
	}
	if err := s.place.Exchange(t.Context(), b.Sum); err != nil {
		t.Fatal(err)
	}
	s.stands("v1.1.0", "", "v1.0.0")
	if st, err := os.Stat(s.path); err != nil || st.Mode() != 0o755 {
		t.Fatal(st, err)
	}
	if err := s.place.Exchange(t.Context(), b.Sum); err != nil { // it is there already, and what was kept stays
		t.Fatal(err)
	}
	s.stands("v1.1.0", "", "v1.0.0")
	was, err := s.place.Previous(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.place.Exchange(t.Context(), was.Sum); err != nil {
		t.Fatal(err)
	}
	s.stands("v1.0.0", "", "")
	if err := s.place.Exchange(t.Context(), b.Sum); !holdfast.IsKind(err, holdfast.NotFound) {
		t.Fatal(err)
	}
	if s.files() != "holdfast" {
		t.Errorf("left: %s", s.files())
	}
}

// short is a reader that breaks off.
type short struct{ io.Reader }

func (s short) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	if err == io.EOF {
		err = errors.New("connection reset")
	}
	return n, err
}

// endless is a program without end.
type endless struct{ n int64 }

func (e *endless) Read(b []byte) (int, error) {
	e.n += int64(len(b))
	return len(b), nil
}

// TestWhatIsNoProgramForHereIsRefusedAndLeavesNothing: whatever is sent, the program
// stays what it is, and nothing is left beside it.
func TestWhatIsNoProgramForHereIsRefusedAndLeavesNothing(t *testing.T) {
	good := built(t, "holdfast version v1.1.0\n")
	with := func(at int, value byte) []byte { b := bytes.Clone(good); b[at] = value; return b }
	foreign := with(18, 183) // e_machine: arm64 here, or amd64 there
	if good[18] == 183 {
		foreign = with(18, 62)
	}
	for _, c := range []struct {
		what string
		o    program.Offer
		kind holdfast.Kind
		says string
	}{
		{"another hash", program.Offer{Sum: sumOf([]byte("x")), Size: int64(len(good)), Body: bytes.NewReader(good)}, holdfast.Invalid, "it was damaged on its way"},
		{"no hash", program.Offer{Size: 1, Body: bytes.NewReader(good)}, holdfast.Invalid, "is no SHA-256"},
		{"a hash in capitals", program.Offer{Sum: strings.ToUpper(sumOf(good)), Body: bytes.NewReader(good)}, holdfast.Invalid, "small letters"},
		{"shorter than announced", program.Offer{Sum: sumOf(good), Size: int64(len(good)) + 1, Body: bytes.NewReader(good)}, holdfast.Invalid, "cut short"},
		{"a connection that breaks", program.Offer{Sum: sumOf(good), Size: -1, Body: short{bytes.NewReader(good)}}, holdfast.Invalid, "connection reset"},
		{"announced too large", program.Offer{Sum: sumOf(good), Size: program.MaxSize + 1, Body: &endless{}}, holdfast.Invalid, "more than 256 MiB"},
		{"without end", program.Offer{Sum: sumOf(good), Size: -1, Body: &endless{}}, holdfast.Invalid, "more than 256 MiB"},
		{"nothing", offer(nil), holdfast.Invalid, "there is no program"},
		{"text", offer([]byte("#!/bin/sh\necho holdfast version v1.1.0\n")), holdfast.Invalid, "does not begin as one (ELF)"},
		{"an archive", offer(append([]byte("\x1f\x8b\x08"), make([]byte, 100)...)), holdfast.Invalid, "not a package or an archive"},
		{"a few bytes", offer([]byte("\x7fELF")), holdfast.Invalid, "does not begin as one"},
		{"32 bits", offer(with(4, 1)), holdfast.Invalid, "32 bits"},
		{"an object file", offer(with(16, 1)), holdfast.Invalid, "a part of one"},
		{"a foreign processor", offer(foreign), holdfast.Invalid, "this host needs one for"},
		{"a processor of which nobody has heard", offer(with(18, 250)), holdfast.Invalid, "does not know (ELF machine"},
		{"cut short before it was hashed", offer(good[:4096]), holdfast.Invalid, "does not run here"},
		{"one that fails", offer(built(t, "")), holdfast.Invalid, "does not run here"},
		{"another program", offer(built(t, "GNU bash, version 5.2\n")), holdfast.Invalid, "is not Holdfast"},
		{"one that says too much", offer(built(t, "holdfast version v1.1.0"+strings.Repeat("1", 1<<16))), holdfast.Invalid, "is not Holdfast"},
		{"one that says control characters", offer(built(t, "holdfast version v1\x1b[2J\n")), holdfast.Invalid, "is not Holdfast"},
		{"an older one", offer(built(t, "holdfast version v0.9.0\n")), holdfast.Conflict, "--back"},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := newScene(t)
			_, err := s.place.Take(t.Context(), "v1.0.0", c.o)
			if !holdfast.IsKind(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("kind %v: %v", holdfast.KindOf(err), err)
			}
			if e, ok := c.o.Body.(*endless); ok && e.n > program.MaxSize+1<<20 {
				t.Errorf("%d bytes were read", e.n)
			}
			if s.stands("v1.0.0", "", ""); s.files() != "holdfast" {
				t.Errorf("left: %s", s.files())
			}
		})
	}
}

func TestAnOlderProgramIsTakenWhereOneIsWanted(t *testing.T) {
	s := newScene(t)
	o := offer(built(t, "holdfast version v0.9.0\n"))
	o.Back = true
	if _, err := s.place.Take(t.Context(), "v1.0.0", o); err != nil {
		t.Fatal(err)
	}
	s.stands("v1.0.0", "v0.9.0", "")
}

// blocked is a program that does not go on coming until it is let.
type blocked struct {
	begun, let chan struct{}
	r          io.Reader
}

func (b *blocked) Read(p []byte) (int, error) {
	select {
	case b.begun <- struct{}{}:
	default:
	}
	<-b.let
	return b.r.Read(p)
}

func TestOneProgramIsTakenAtATime(t *testing.T) {
	s := newScene(t)
	good := built(t, "holdfast version v1.1.0\n")
	slow := &blocked{begun: make(chan struct{}), let: make(chan struct{}), r: bytes.NewReader(good)}
	done := make(chan error)
	go func() {
		_, err := s.place.Take(t.Context(), "v1.0.0", program.Offer{Sum: sumOf(good), Size: -1, Body: slow})
		done <- err
	}()
	<-slow.begun
	if _, err := s.place.Take(t.Context(), "v1.0.0", offer(good)); !holdfast.IsKind(err, holdfast.Busy) {
		t.Error(err)
	}
	if err := s.place.Exchange(t.Context(), sumOf(good)); !holdfast.IsKind(err, holdfast.Busy) {
		t.Error(err)
	}
	close(slow.let)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s.stands("v1.0.0", "v1.1.0", "")
}

// What a process left that died while it took a program in goes with the next one.
func TestWhatIsLeftOfADeadUploadGoes(t *testing.T) {
	s := newScene(t)
	if err := os.WriteFile(s.path+".upload-123", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.place.Take(t.Context(), "v1.0.0", offer(built(t, "holdfast version v1.1.0\n"))); err != nil {
		t.Fatal(err)
	}
	if s.files() != "holdfast holdfast.next" {
		t.Errorf("left: %s", s.files())
	}
}

// TestADirectoryThatCannotBeWritten tells what to do instead.
func TestADirectoryThatCannotBeWritten(t *testing.T) {
	place := program.Open("/proc/self/holdfast")
	good := built(t, "holdfast version v1.1.0\n")
	if _, err := place.Take(t.Context(), "v1.0.0", offer(good)); err == nil || !strings.Contains(err.Error(), "--from-disk") {
		t.Error(err)
	}
}

// A process is the build of its file, whatever became of that file's name.
func TestWhatRunsIsKnownByItsFile(t *testing.T) {
	s := newScene(t)
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.place.Running("v7")
	if err != nil || b.Version != "v7" || b.Sum != sumOf(own) {
		t.Error(b, err)
	}
}
