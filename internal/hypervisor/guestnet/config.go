package guestnet

import (
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Config is the content of the process's configuration file. Deny and DNS are
// read again whenever the file changes.
type Config struct {
	Frames string         `json:"frames"` // QEMU's socket
	Dial   string         `json:"dial"`   // where the agent connects to
	Lock   string         `json:"lock"`   // held (flock) while the machine lives
	MAC    string         `json:"mac"`    // of the guest
	Deny   []netip.Prefix `json:"deny"`
	DNS    []netip.Addr   `json:"dns"` // resolvers of this host
}

// maxConfig bounds the file, in bytes.
const maxConfig = 1 << 20

func parseConfig(b []byte) (Config, error) {
	var c Config
	if len(b) > maxConfig {
		return c, holdfast.Errorf(holdfast.Invalid, "the network's configuration has %d bytes, at most %d are read", len(b), maxConfig)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return Config{}, holdfast.Errorf(holdfast.Invalid, "the network's configuration: %w", err)
	}
	if c.Frames == "" || c.Dial == "" || c.Lock == "" {
		return Config{}, holdfast.Errorf(holdfast.Invalid, "the network's configuration lacks a path")
	}
	return c, nil
}

// settings follows the configuration file.
type settings struct {
	path string

	mu   sync.Mutex
	read time.Time
	cfg  Config
}

// now returns the configuration as it stands; a file that cannot be read
// leaves the last one in force.
func (s *settings) now() Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	fi, err := os.Stat(s.path)
	if err != nil || fi.ModTime().Equal(s.read) {
		return s.cfg
	}
	b, err := os.ReadFile(s.path)
	if err != nil {
		return s.cfg
	}
	if c, err := parseConfig(b); err == nil {
		s.cfg, s.read = c, fi.ModTime()
	}
	return s.cfg
}

// HostResolvers returns the IPv4 name servers that this host uses
// (resolv.conf(5)).
func HostResolvers() []netip.Addr {
	b, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	return parseResolvers(string(b))
}

func parseResolvers(s string) []netip.Addr {
	var list []netip.Addr
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil && len(list) < 3 {
			list = append(list, a)
		}
	}
	return list
}
