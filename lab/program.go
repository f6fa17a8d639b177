package lab

import (
	"io"
	"os"
	"path/filepath"

	"github.com/holdfast-cloud/holdfast"
)

// Program is the host's own program, where the hosts of a lab have one each, as
// computers do. It is what an upgrade exchanges.
func (h Host) Program() string { return filepath.Join(h.Dir, "holdfast") }

// program is what the host is started with.
func (h Host) program(binary string) string {
	if h.OwnProgram {
		return h.Program()
	}
	return binary
}

// install gives the host a program of its own.
func (h Host) install(binary string) error {
	from, err := os.Open(binary)
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	defer from.Close()
	to, err := os.OpenFile(h.Program(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err == nil {
		_, err = io.Copy(to, from)
		if cerr := to.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: the program of host %s: %w", h.Name, err)
	}
	return nil
}
