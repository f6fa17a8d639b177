// Package lab runs a small data centre on one machine, to try Holdfast out and
// to break it on purpose: some racks of hosts, each host a `holdfast serve` of
// its own with a loopback address, configuration, data directory and disk. It
// sets the cluster up with the same calls that real hosts need (`cluster
// init`, `host join`, `disk add`) and needs no root. Several labs may live
// side by side.
//
// A host's processes, machines and their companions included, are children of
// one keeper process, which stands for the computer: pulling its plug ends
// them all at once (see keeper.go).
package lab

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/client"
	"github.com/holdfast-cloud/holdfast/internal/config"
)

const (
	maxRacks    = 20
	maxPerRack  = 20
	stateFormat = 2
)

// Lab is one lab; it is kept in DIR/lab.json.
type Lab struct {
	Format int    `json:"format"`
	Dir    string `json:"dir"`
	Net    int    `json:"net"` // L in the addresses 127.L.R.H
	Hosts  []Host `json:"hosts"`
	Formed bool   `json:"formed"` // the cluster is set up
	// Network is the lab's own, nil if its hosts share the machine's loopback.
	Network *Network `json:"network,omitempty"`
}

// Host is one host of a lab.
type Host struct {
	Name string `json:"name"`
	Rack string `json:"rack"`
	Addr string `json:"addr"`
	Dir  string `json:"dir"`
	// Netns is the network namespace that the host lives in, "" for the machine's.
	Netns string `json:"netns,omitempty"`
	// Witness: it votes and does nothing else; its rack is WitnessRack.
	Witness bool `json:"witness,omitempty"`
	// Volatile: what it has not synced goes with its power (volatile.go).
	Volatile bool `json:"volatile,omitempty"`
	// Bay: its disk is on a file system of its own (bay.go).
	Bay bool `json:"bay,omitempty"`
	// OwnProgram: it is started from a file of its own (program.go).
	OwnProgram bool `json:"own_program,omitempty"`
}

// WitnessRack is the rack of a lab's witness.
const WitnessRack = "w"

// Config returns where the host's configuration is; Socket, Data, Disk and Log
// likewise.
func (h Host) Config() string { return filepath.Join(h.Dir, "holdfast.yaml") }

// Socket is the host's API socket.
func (h Host) Socket() string { return filepath.Join(h.Dir, "api.sock") }

// Data is the host's data directory.
func (h Host) Data() string { return filepath.Join(h.Dir, "data") }

// Export is the socket where the host offers a volume to its own machines,
// once it does; the volume is named by its identity.
func (h Host) Export(volume string) string {
	id := strings.ReplaceAll(volume, "-", "")
	return filepath.Join(h.Data(), "nbd", id[:min(16, len(id))], "nbd")
}

// Disk is the file that stands for the host's disk.
func (h Host) Disk() string {
	if h.Bay {
		return filepath.Join(h.bay().at, "disk")
	}
	return filepath.Join(h.Dir, "disk")
}

// Log is what the host printed.
func (h Host) Log() string { return filepath.Join(h.Dir, "log") }

// Credential is the directory of the lab's admin credential.
func (l *Lab) Credential() string { return filepath.Join(l.Dir, "admin") }

// API returns the address of a host's HTTPS API.
func (h Host) API() string { return fmt.Sprintf("%s:%d", h.Addr, config.PortAPI) }

// DefaultDir returns where a lab is kept if nothing else is said.
func DefaultDir(getenv func(string) string) string {
	if c, ok := client.ReadCurrent(getenv); ok && c.Dir != "" {
		return c.Dir
	}
	return filepath.Join(filepath.Dir(client.CurrentFile(getenv)), "lab")
}

// plan lays a lab out; addresses come later.
func plan(dir string, racks, perRack int, witness bool) (*Lab, error) {
	if racks < 1 || racks > maxRacks || perRack < 1 || perRack > maxPerRack {
		return nil, holdfast.Errorf(holdfast.Invalid, "a lab has 1 to %d racks with 1 to %d hosts each, not %d with %d", maxRacks, maxPerRack, racks, perRack)
	}
	l := &Lab{Format: stateFormat, Dir: dir}
	for r := range racks {
		rack := string(rune('a' + r))
		for h := 1; h <= perRack; h++ {
			name := fmt.Sprintf("%s%d", rack, h)
			l.Hosts = append(l.Hosts, Host{Name: name, Rack: rack, Dir: filepath.Join(dir, name)})
		}
	}
	if witness {
		name := WitnessRack + "1"
		l.Hosts = append(l.Hosts, Host{Name: name, Rack: WitnessRack, Dir: filepath.Join(dir, name), Witness: true})
	}
	if last := l.Hosts[racks*perRack-1].Socket(); len(last) > 100 {
		return nil, holdfast.Errorf(holdfast.Invalid, "%s is too long a path for sockets to be in it; give a shorter --dir", dir)
	}
	return l, nil
}

// Open reads a lab that was made before: kind NotFound if there is none, Conflict
// if an earlier version of Holdfast made it, which can only be ended,
// Corrupt if it cannot be read.
func Open(dir string) (*Lab, error) {
	l, err := read(dir)
	if err == nil && l.Format != stateFormat {
		return nil, holdfast.Errorf(holdfast.Conflict, "the lab in %s was made by an earlier version of Holdfast; end it with 'holdfast lab down --wipe --dir %s', then make a new one", dir, dir)
	}
	return l, err
}

// read is Open for a lab that is to be ended, whichever version made it.
func read(dir string) (*Lab, error) {
	b, err := os.ReadFile(filepath.Join(dir, "lab.json"))
	if os.IsNotExist(err) {
		return nil, holdfast.Errorf(holdfast.NotFound, "there is no lab in %s; make one with 'holdfast lab up'", dir)
	}
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	var l Lab
	if err := json.Unmarshal(b, &l); err != nil || l.Format < 1 || l.Format > stateFormat || len(l.Hosts) == 0 {
		return nil, holdfast.Errorf(holdfast.Corrupt, "%s/lab.json cannot be read; remove the directory once its processes are gone", dir)
	}
	l.Dir = dir
	return &l, nil
}

// save writes lab.json so that it is either the old or the new one.
func (l *Lab) save() error {
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	return replace(filepath.Join(l.Dir, "lab.json"), b)
}

func replace(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	return nil
}

// makeCurrent lets other commands find the lab.
func (l *Lab) makeCurrent(getenv func(string) string) error {
	c := client.Current{Dir: l.Dir}
	for _, h := range l.Hosts {
		c.Sockets = append(c.Sockets, h.Socket())
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return replace(client.CurrentFile(getenv), b)
}

// Rack returns the hosts of a rack.
func (l *Lab) Rack(name string) ([]Host, error) {
	var out []Host
	var racks []string
	for _, h := range l.Hosts {
		if h.Rack == name {
			out = append(out, h)
		}
		if len(racks) == 0 || racks[len(racks)-1] != h.Rack {
			racks = append(racks, h.Rack)
		}
	}
	if len(out) == 0 {
		return nil, holdfast.Errorf(holdfast.NotFound, "the lab has no rack %q; its racks are %s", name, strings.Join(racks, ", "))
	}
	return out, nil
}

// Portal is where the host answers iSCSI initiators.
func (h Host) Portal() string { return net.JoinHostPort(h.Addr, strconv.Itoa(config.PortISCSI)) }

// writeConfig writes the configuration of a host: the same keys that a real
// one has.
func (h Host) writeConfig(etcd config.KV) error {
	text := fmt.Sprintf(`# Host %s of a lab. See docs/protocol/config.md for the keys.
name: %s
rack: %s
data_dir: %s
socket: %s
advertise: %s
`, h.Name, h.Name, h.Rack, quote(h.Data()), quote(h.Socket()), h.Addr)
	if h.Witness {
		text += "witness: true\n"
	} else {
		text += fmt.Sprintf("publish_addr: %s\niscsi: %s\n", h.Addr, h.Portal())
	}
	if etcd.External() {
		text += "kv:\n  endpoints:\n"
		for _, u := range etcd.Endpoints {
			text += "    - " + quote(u) + "\n"
		}
		text += fmt.Sprintf("  ca: %s\n  cert: %s\n  key: %s\n  prefix: %s\n", quote(etcd.CA), quote(etcd.Cert), quote(etcd.Key), quote(etcd.Prefix))
		if etcd.User != "" {
			text += fmt.Sprintf("  user: %s\n  password_file: %s\n", quote(etcd.User), quote(etcd.PasswordFile))
		}
	}
	if err := os.MkdirAll(h.Dir, 0o700); err != nil {
		return holdfast.Errorf(holdfast.IO, "lab: %w", err)
	}
	return replace(h.Config(), []byte(text))
}

// quote makes a path a YAML value (single quotes, doubled inside).
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
