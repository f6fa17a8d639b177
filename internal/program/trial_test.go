package program_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast/internal/program"
	"github.com/holdfast-cloud/holdfast/internal/program/programtest"
)

// onTrial is a host that has been given the program that this test is, after another.
func onTrial(t *testing.T) (*scene, *program.Trial, string) {
	t.Helper()
	s := newScene(t)
	own := programtest.Itself(t)
	b, err := s.place.Take(t.Context(), "v1.0.0", offer(own))
	if err == nil {
		err = s.place.Exchange(t.Context(), b.Sum)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	trial := s.place.Trial(dir)
	if err := trial.Begin(b); err != nil {
		t.Fatal(err)
	}
	s.stands(programtest.Own, "", "v1.0.0")
	return s, trial, filepath.Join(dir, "upgrade.trial")
}

func wantBack(t *testing.T, want bool) func(bool, error) {
	t.Helper()
	return func(back bool, err error) {
		t.Helper()
		if err != nil || back != want {
			t.Fatalf("back: %v, %v", back, err)
		}
	}
}

func TestAProgramThatEndsAgainAndAgainIsGivenUp(t *testing.T) {
	s, trial, _ := onTrial(t)
	for range 3 {
		wantBack(t, false)(trial.Starts(programtest.Own))
	}
	wantBack(t, true)(trial.Starts(programtest.Own))
	s.stands("v1.0.0", "", "")
	if why := trial.Failed(); !strings.Contains(why, programtest.Own+" was given up: it ended by itself again and again") {
		t.Error(why)
	}
	wantBack(t, false)(trial.Starts(programtest.Own)) // that was that
}

// What was kept before a program that was given up is kept again: there is a way back
// from there still.
func TestTheWayBackIsThereStillAfterOneWasGivenUp(t *testing.T) {
	s := newScene(t)
	give := func(b []byte) *program.Trial {
		x, err := s.place.Take(t.Context(), "v1.0.0", offer(b))
		if err == nil {
			err = s.place.Exchange(t.Context(), x.Sum)
		}
		trial := s.place.Trial(t.TempDir())
		if err == nil {
			err = trial.Begin(x)
		}
		if err != nil {
			t.Fatal(err)
		}
		return trial
	}
	give(programtest.Version(t, "v1.0.5"))
	s.stands("v1.0.5", "", "v1.0.0")
	own := programtest.Itself(t)
	trial := give(own)
	s.stands(programtest.Own, "", "v1.0.5")
	wantBack(t, true)(trial.GiveUp(programtest.Own, errors.New("x")))
	if s.stands("v1.0.5", "", "v1.0.0"); s.files() != "holdfast holdfast.previous" {
		t.Errorf("left: %s", s.files())
	}
	if err := give(own).Pass(programtest.Own); err != nil {
		t.Fatal(err)
	}
	if s.stands(programtest.Own, "", "v1.0.5"); s.files() != "holdfast holdfast.previous" {
		t.Errorf("left: %s", s.files())
	}
}

func TestAProgramThatDoesNotStartIsGivenUpAtOnce(t *testing.T) {
	s, trial, _ := onTrial(t)
	wantBack(t, false)(trial.Starts(programtest.Own))
	wantBack(t, true)(trial.GiveUp(programtest.Own, errors.New("the data directory is of a later format")))
	s.stands("v1.0.0", "", "")
	if why := trial.Failed(); !strings.Contains(why, "later format") {
		t.Error(why)
	}
	if err := trial.Clear(); err != nil || trial.Failed() != "" {
		t.Error(err, trial.Failed())
	}
}

func TestAProgramThatTheProcessCouldNotBecomeIsPutBack(t *testing.T) {
	s, trial, _ := onTrial(t)
	if err := trial.Fail(errors.New("exec format error")); err != nil {
		t.Fatal(err)
	}
	s.stands("v1.0.0", "", "")
	if why := trial.Failed(); !strings.Contains(why, "exec format error") {
		t.Error(why)
	}
}

func TestAProgramThatPassedIsNotGivenUp(t *testing.T) {
	s, trial, file := onTrial(t)
	wantBack(t, false)(trial.Starts(programtest.Own))
	if err := trial.Pass(programtest.Own); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Error(err)
	}
	for range 5 {
		wantBack(t, false)(trial.Starts(programtest.Own))
	}
	wantBack(t, false)(trial.GiveUp(programtest.Own, errors.New("a port is taken")))
	if err := trial.Fail(errors.New("x")); err != nil {
		t.Error(err)
	}
	s.stands(programtest.Own, "", "v1.0.0")
}

// A trial is of one program: another one that is started meanwhile, by hand say, does
// not count, and neither does a file that cannot be read.
func TestATrialIsOfOneProgram(t *testing.T) {
	s, trial, file := onTrial(t)
	for _, text := range []string{
		"", "{", `{"sum":"x","version":"v9"}`, `{"sum":"` + strings.Repeat("0", 64) + `","version":"v9","starts":3}`,
		`{"sum":"` + strings.Repeat("0", 64) + `","starts":-1}`, `{"sum":"` + strings.Repeat("0", 64) + `","starts":99}`,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		wantBack(t, false)(trial.Starts(programtest.Own))
		wantBack(t, false)(trial.GiveUp(programtest.Own, errors.New("x")))
		if err := trial.Pass(programtest.Own); err != nil || trial.Failed() != "" {
			t.Errorf("%q: %v %s", text, err, trial.Failed())
		}
		if now, err := os.ReadFile(file); err != nil || string(now) != text {
			t.Errorf("%q became %q, %v", text, now, err)
		}
	}
	s.stands(programtest.Own, "", "v1.0.0")
}
