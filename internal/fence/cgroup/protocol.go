package cgroup

import (
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// maxLine bounds a line of the protocol, in bytes.
const maxLine = 256

// maxPet bounds a deadline.
const maxPet = 24 * time.Hour

// command is a parsed line; pet is negative for disarm.
type command struct{ pet time.Duration }

func (c command) String() string {
	if c.pet < 0 {
		return "disarm\n"
	}
	return "pet " + strconv.FormatInt(int64(c.pet), 10) + "\n"
}

func parseCommand(line string) (command, error) {
	line = strings.TrimSuffix(line, "\n")
	if line == "disarm" {
		return command{pet: -1}, nil
	}
	if arg, ok := strings.CutPrefix(line, "pet "); ok {
		n, err := strconv.ParseInt(arg, 10, 64)
		if err == nil && n >= 0 && time.Duration(n) <= maxPet {
			return command{pet: time.Duration(n)}, nil
		}
	}
	return command{}, holdfast.Errorf(holdfast.Invalid, "%.40q is not a watchdog command", line)
}

// parseAnswer turns the watchdog's answer into what Pet returns.
func parseAnswer(line string) error {
	switch line = strings.TrimSuffix(line, "\n"); line {
	case "ok":
		return nil
	case "fired":
		return holdfast.Errorf(holdfast.Fenced, "the watchdog was not petted in time and has acted on this host's machines; decide about each")
	default:
		return holdfast.Errorf(holdfast.Invalid, "the watchdog answered %.60q", line)
	}
}
