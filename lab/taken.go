package lab

import (
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
)

// takenDir holds a file for each loopback network of a lab of this computer, with the
// lab's directory: that no port of it is in use says little while its hosts are down.
type takenDir string

// firstMinute is how long a network is a lab's that is not written down yet.
const firstMinute = time.Minute

// openTaken has nobody else choose a network until done is called.
func openTaken() (t takenDir, done func(), err error) {
	t = takenDir(filepath.Join(os.TempDir(), "holdfast-lab-networks-"+strconv.Itoa(os.Getuid())))
	if err := os.MkdirAll(string(t), 0o700); err != nil {
		return "", nil, holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(string(t), "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			f.Close()
		}
	}
	if err != nil {
		return "", nil, holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	return t, func() { f.Close() }, nil
}

func (t takenDir) file(network int) string { return filepath.Join(string(t), strconv.Itoa(network)) }

// by is the directory of the lab that has a network; "": none has.
func (t takenDir) by(network int) string {
	st, err := os.Stat(t.file(network))
	if err != nil {
		return ""
	}
	dir, err := os.ReadFile(t.file(network))
	if err != nil {
		return ""
	}
	if _, err := os.Stat(filepath.Join(string(dir), "lab.json")); err != nil && time.Since(st.ModTime()) > firstMinute {
		return ""
	}
	return string(dir)
}

func (t takenDir) take(network int, dir string) error {
	if err := os.WriteFile(t.file(network), []byte(dir), 0o600); err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	return nil
}
