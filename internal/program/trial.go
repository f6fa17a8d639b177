package program

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/upgrade"
)

const (
	trialFile = "upgrade.trial"
	trialMax  = 64 << 10 // bytes of it that are read
	// maxStarts is how often a program is started on trial: one that ends by itself as
	// often as that is given up.
	maxStarts = 3
)

// Trial is a program that a host has just become, until the host is alive with it. If
// it is not, the one before it is put back: nobody may be there to do that. It stands
// in the host's data directory (docs/format/datadir.md).
type Trial struct {
	path string
	p    *Place
}

// trial is what its file holds.
type trial struct {
	Sum     string `json:"sum"`
	Version string `json:"version"`
	Starts  int    `json:"starts"`
	Failed  string `json:"failed,omitempty"` // why it was given up
}

// Trial returns the trial of a host with that data directory.
func (p *Place) Trial(dir string) *Trial { return &Trial{filepath.Join(dir, trialFile), p} }

// Begin puts a program on trial.
func (t *Trial) Begin(b upgrade.Build) error { return t.write(trial{Sum: b.Sum, Version: b.Version}) }

// Starts counts a start of this process. If it is on trial and has been started too
// often, what was before it is put back, and back is true: the process is to become
// that.
func (t *Trial) Starts(version string) (back bool, err error) {
	x, ok := t.mine(version)
	if !ok {
		return false, nil
	}
	if x.Starts++; x.Starts > maxStarts {
		return t.GiveUp(version, errors.New("it ended by itself again and again"))
	}
	return false, t.write(x)
}

// GiveUp puts back what was before this process if that is on trial, and notes why:
// then back is true, and the process is to become it.
func (t *Trial) GiveUp(version string, why error) (back bool, err error) {
	x, ok := t.mine(version)
	if !ok {
		return false, nil
	}
	if err := t.p.undo(); err != nil {
		return false, err
	}
	x.Failed = why.Error()
	return true, t.write(x)
}

// Fail is GiveUp where the process did not even become the program on trial.
func (t *Trial) Fail(why error) error {
	x, ok := t.read()
	if !ok || x.Failed != "" {
		return nil
	}
	x.Failed = why.Error()
	return errors.Join(t.p.undo(), t.write(x))
}

// Pass ends the trial of this process.
func (t *Trial) Pass(version string) error {
	if _, ok := t.mine(version); !ok {
		return nil
	}
	t.p.settle()
	return t.Clear()
}

// Failed says which program was given up last, and why; "": none was.
func (t *Trial) Failed() string {
	x, ok := t.read()
	if !ok || x.Failed == "" {
		return ""
	}
	return x.Version + " was given up: " + x.Failed
}

// mine reads the trial if it is that of this process.
func (t *Trial) mine(version string) (trial, bool) {
	x, ok := t.read()
	if !ok || x.Failed != "" {
		return x, false
	}
	b, err := t.p.Running(version)
	return x, err == nil && b.Sum == x.Sum
}

// read is the file; what cannot be read is no trial.
func (t *Trial) read() (x trial, ok bool) {
	f, err := os.Open(t.path)
	if err != nil {
		return x, false
	}
	defer f.Close()
	return readTrial(f)
}

// readTrial reads what a file of a trial holds.
func readTrial(r io.Reader) (x trial, ok bool) {
	err := json.NewDecoder(io.LimitReader(r, trialMax)).Decode(&x)
	return x, err == nil && CheckSum(x.Sum) == nil && x.Starts >= 0 && x.Starts <= maxStarts
}

func (t *Trial) write(x trial) error {
	b, err := json.Marshal(x)
	if err == nil {
		err = os.WriteFile(t.path+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(t.path+".new", t.path)
	}
	if err = errors.Join(err, syncDir(t.path)); err != nil {
		return holdfast.Errorf(holdfast.IO, "note that a program is on trial: %w", err)
	}
	return nil
}

// Clear forgets a trial, also one that failed.
func (t *Trial) Clear() error {
	if err := os.Remove(t.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return holdfast.Errorf(holdfast.IO, "note that a trial is over: %w", err)
	}
	return nil
}
