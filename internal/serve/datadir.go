// Package serve is one host's process: it reads the configuration, guards the
// data directory, makes the real seams (etcd, TCP, QEMU, NBD, files), builds
// the node over them and serves the API. It is the Backend of that API.
package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// dataFormat is the version of the data directory's layout; docs/format/datadir.md.
const dataFormat = 20261122

// dataDir is an open, locked data directory.
type dataDir struct {
	path string
	lock *os.File
	id   identity
}

// identity is DATA/host.json: who this host is, whatever its address.
type identity struct {
	Format int             `json:"format"`
	Host   holdfast.HostID `json:"host"`
}

// membership is DATA/cluster.json: which cluster the host is in. It is written
// last when a host joins, so that its presence means all else is there.
type membership struct {
	Cluster   holdfast.ClusterID `json:"cluster"`
	Name      string             `json:"name"`
	Endpoints []string           `json:"endpoints"`         // control plane client URLs, as last known
	Member    bool               `json:"member"`            // runs a member of the control plane
	Initial   string             `json:"initial,omitempty"` // etcd's initial cluster, NAME=URL,…
	Witness   bool               `json:"witness,omitempty"` // as what it joined
	// External: the control plane is an etcd that the configuration leads to.
	External bool                  `json:"external,omitempty"`
	Disks    []string              `json:"disks"`         // paths given to Holdfast on this host
	IO       map[string]cluster.IO `json:"io,omitempty"`  // of those that use the page cache otherwise than by default
	RAM      []ramDisk             `json:"ram,omitempty"` // disks in memory, made anew by every life of the process
	// Keys are the SHA-256 of the members' public keys by host, as last known.
	Keys map[string]string `json:"keys,omitempty"`
	// APIs are where the members' APIs answer, as last known.
	APIs []string `json:"apis,omitempty"`
	// Incarnation of the control plane; Etcd and Credential are the names that
	// belong to it, empty in the first: `etcd` and `host`. Ended is a later one
	// that was met, without this host in it.
	Incarnation int    `json:"incarnation,omitempty"`
	Etcd        string `json:"etcd,omitempty"`
	Credential  string `json:"credential,omitempty"`
	Ended       int    `json:"ended,omitempty"`
}

// openDataDir makes or opens a data directory and takes its lock.
func openDataDir(path string, newID func() (holdfast.UUID, error)) (*dataDir, error) {
	if err := os.MkdirAll(filepath.Join(path, "pki"), 0o700); err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "data directory: %w; set data_dir to a directory this user may write", err)
	}
	d := &dataDir{path: path}
	lock, err := os.OpenFile(d.file("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "data directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, holdfast.Errorf(holdfast.Busy, "data directory %s is in use by another process of this host; stop that one first", path)
	}
	d.lock = lock
	if err := d.identify(newID); err != nil {
		lock.Close()
		return nil, err
	}
	return d, nil
}

func (d *dataDir) identify(newID func() (holdfast.UUID, error)) error {
	err := d.read("host.json", &d.id)
	if errors.Is(err, fs.ErrNotExist) {
		u, err := newID()
		if err != nil {
			return err
		}
		d.id = identity{Format: dataFormat, Host: holdfast.HostID{UUID: u}}
		return d.write("host.json", d.id)
	}
	if err != nil {
		return err
	}
	if d.id.Format > dataFormat {
		return holdfast.Errorf(holdfast.Invalid, "data directory %s has format %d, newer than %d, the newest this build knows; run the newer build", d.path, d.id.Format, dataFormat)
	}
	if d.id.Host.IsZero() {
		return holdfast.Errorf(holdfast.Corrupt, "%s names no host; restore it from a backup, or let this computer join anew with an empty data_dir", d.file("host.json"))
	}
	return nil
}

func (d *dataDir) file(parts ...string) string {
	return filepath.Join(append([]string{d.path}, parts...)...)
}

// membership reads cluster.json; nil if the host is in no cluster.
func (d *dataDir) membership() (*membership, error) {
	var m membership
	err := d.read("cluster.json", &m)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && m.Cluster.IsZero() {
		err = holdfast.Errorf(holdfast.Corrupt, "%s names no cluster", d.file("cluster.json"))
	}
	return &m, err
}

func (d *dataDir) read(name string, v any) error {
	b, err := os.ReadFile(d.file(name))
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(v); err != nil {
		return holdfast.Errorf(holdfast.Corrupt, "%s cannot be read: %w; restore it from a backup", d.file(name), err)
	}
	return nil
}

// write replaces a file durably: a crash leaves the old or the new one.
func (d *dataDir) write(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	tmp := d.file(name + ".new")
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "write %s: %w", name, err)
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, d.file(name))
	}
	if err == nil {
		err = syncDir(d.path)
	}
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "write %s: %w", name, err)
	}
	return nil
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *dataDir) close() { d.lock.Close() }
