package serve

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/config"
	"github.com/holdfast-cloud/holdfast/internal/disk"
	"github.com/holdfast-cloud/holdfast/internal/disk/filedisk"
	"github.com/holdfast-cloud/holdfast/internal/disk/ramdisk"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// ramDisk is a disk in memory that every life of the process makes anew.
type ramDisk struct {
	Path string          `json:"path"` // "ram1", "ram2", … on this host
	Size int64           `json:"size"` // bytes
	Pool holdfast.PoolID `json:"pool"`
	// Were are the identities under which it may have a record.
	Were []holdfast.DiskID `json:"were"`
}

// AddDisk implements httpapi.Disks.
func (h *Host) AddDisk(ctx context.Context, n httpapi.NewDisk) (cluster.Disk, error) {
	m, err := h.member()
	if err != nil {
		return cluster.Disk{}, err
	}
	if err := h.mayHave(n); err != nil {
		return cluster.Disk{}, err
	}
	if n.RAM > 0 {
		return h.addMemory(m, n)
	}
	if n.Size > 0 {
		if err := filedisk.Create(n.Path, n.Size); err != nil {
			return cluster.Disk{}, err
		}
	}
	m.taking.Lock() // nobody opens it before it is known
	defer m.taking.Unlock()
	if err := h.letGo(m, n.Path); err != nil {
		return cluster.Disk{}, err
	}
	d, err := h.formatFile(m, n)
	if err != nil {
		return d, err
	}
	if err := m.node.Make.AddDisk(d); err != nil {
		return d, err
	}
	err = h.remember(m, func(ms *membership) {
		if !slices.Contains(ms.Disks, n.Path) { // it may stand where another stood
			ms.Disks = append(ms.Disks, n.Path)
		}
		if n.Pool.IO != cluster.Mixed {
			ms.IO = cloned(ms.IO)
			ms.IO[n.Path] = n.Pool.IO
		}
	})
	if err != nil {
		return d, err
	}
	return d, h.openDisk(m, n.Path)
}

// mayHave looks whether this host takes such disks at all.
func (h *Host) mayHave(n httpapi.NewDisk) error {
	if h.cfg.Witness {
		return errWitnessDisk(h.cfg.Name)
	}
	if n.RAM == 0 && !strings.HasPrefix(n.Path, "/") {
		return holdfast.Errorf(holdfast.Invalid, "disk %q: give an absolute path", n.Path)
	}
	return nil
}

// letGo ends the use of a disk that is none of the cluster's any more, because it
// was taken back while this host was away, when one is to be added in its place.
// It must have been wiped: whoever did that knows that nothing on it is needed.
func (h *Host) letGo(m *member, path string) error {
	st, err := m.node.Cluster.Refresh()
	if err != nil {
		return err
	}
	m.mu.Lock()
	i := slices.IndexFunc(m.stores, func(o opened) bool { return o.path == path })
	if i < 0 {
		m.mu.Unlock()
		return nil
	}
	o := m.stores[i]
	m.mu.Unlock()
	id := o.Identity().Disk
	if !placement.Unknown(st, id) {
		return nil // it is in use, which is said when it is opened
	}
	if err := store.Wiped(o.dev); err != nil {
		return err
	}
	m.node.Volumes.RemoveStore(id)
	return h.retireDisk(m, cluster.Disk{ID: id, Host: h.dir.id.Host, Path: path})
}

func cloned[K comparable, V any](in map[K]V) map[K]V {
	out := make(map[K]V, len(in)+1)
	for k, v := range in {
		out[k] = v
	}
	return out
}

// cacheOf is the use of the page cache that a pool asks for.
func cacheOf(io cluster.IO) filedisk.Cache {
	switch io {
	case cluster.Cached:
		return filedisk.Both
	case cluster.Direct:
		return filedisk.Neither
	}
	return filedisk.Reads
}

// formatFile formats a file or device, in the way it will be used.
func (h *Host) formatFile(m *member, n httpapi.NewDisk) (cluster.Disk, error) {
	dev, err := filedisk.Open(n.Path, filedisk.Options{Cache: cacheOf(n.Pool.IO)})
	if err != nil {
		return cluster.Disk{}, err
	}
	defer dev.Close()
	d := cluster.Disk{Path: n.Path, Pool: n.Pool.ID}
	return d, h.format(m, dev, &d)
}

// format makes a store of a device, under a new identity.
func (h *Host) format(m *member, dev disk.Device, d *cluster.Disk) error {
	u, err := newUUID()
	if err != nil {
		return err
	}
	d.ID, d.Host, d.Size = holdfast.DiskID{UUID: u}, h.dir.id.Host, dev.Geometry().Size
	o := h.storeOptions()
	o.SegmentBytes = segmentsFor(d.Size)
	return store.Format(dev, store.Identity{Cluster: m.ms.Load().Cluster, Disk: d.ID, Host: d.Host}, o)
}

// segmentsFor is the size of segments on a disk that is too small for those of
// 16 MiB: so that it has 64 of them. 0: the default.
func segmentsFor(size int64) int64 {
	const least, usual = 512 << 10, 16 << 20
	n := int64(least)
	for n < usual && n*2*64 <= size {
		n *= 2
	}
	if n == usual {
		return 0
	}
	return n
}

func (h *Host) storeOptions() store.Options {
	every, err := config.ParsePeriod(h.cfg.ScrubEvery)
	if err != nil { // it was checked; a configuration that came another way is not
		every = 0
	}
	return store.Options{Clock: clock.System{}, Rand: rand.Reader, Log: h.log, ScrubEvery: every, ScrubRate: int64(h.cfg.ScrubRate)}
}

// openDisk takes a file or device of this host into use.
func (h *Host) openDisk(m *member, path string) error {
	io := m.ms.Load().IO[path]
	dev, err := filedisk.Open(path, filedisk.Options{Cache: cacheOf(io)})
	if err != nil {
		return err
	}
	return h.openStore(m, dev, path)
}

// openAgain is openDisk for a disk that could not be opened when the process
// began; gone says that it is none of this host any more.
func (h *Host) openAgain(m *member, path string) (gone bool, err error) {
	m.taking.Lock()
	defer m.taking.Unlock()
	m.mu.Lock()
	gone = !slices.Contains(m.ms.Load().Disks, path)
	used := slices.ContainsFunc(m.stores, func(o opened) bool { return o.path == path }) // another was put in its place
	m.mu.Unlock()
	if gone || used {
		return gone, nil
	}
	return false, h.openDisk(m, path)
}

// openStore takes a formatted device into use, and closes it if that fails.
func (h *Host) openStore(m *member, dev disk.Device, path string) error {
	o := h.storeOptions()
	o.Expect = ofCluster(m.ms.Load().Cluster, path)
	st, err := store.Open(dev, o)
	if err != nil {
		dev.Close()
		return err
	}
	m.mu.Lock()
	m.stores = append(m.stores, opened{st, dev, path})
	for _, each := range m.stores {
		each.SetMapMemory(int64(h.cfg.MapMemory) / int64(len(m.stores)))
	}
	m.mu.Unlock()
	m.node.AddStore(st)
	return nil
}

// addMemory gives memory of this host to the cluster as a disk.
func (h *Host) addMemory(m *member, n httpapi.NewDisk) (cluster.Disk, error) {
	if err := h.hasMemory(m, n.RAM); err != nil {
		return cluster.Disk{}, err
	}
	r := ramDisk{Path: h.freeMemoryName(m), Size: n.RAM, Pool: n.Pool.ID}
	d, dev, err := h.newMemory(m, r)
	if err != nil {
		return d, err
	}
	r.Were = []holdfast.DiskID{d.ID}
	// Written down first: an entry without a record is dropped at the next start.
	err = h.remember(m, func(ms *membership) { ms.RAM = append(slices.Clone(ms.RAM), r) })
	if err == nil {
		err = m.node.Make.AddDisk(d)
	}
	if err != nil {
		dev.Close()
		return d, err
	}
	return d, h.openStore(m, dev, r.Path)
}

// hasMemory looks whether so many bytes of this host's memory are left for a disk.
func (h *Host) hasMemory(m *member, bytes int64) error {
	st, err := m.node.Cluster.Refresh()
	if err != nil {
		return err
	}
	if left := int64(placement.MemoryLeft(st, h.dir.id.Host)) << 20; bytes > left {
		return holdfast.Errorf(holdfast.NoSpace, "host %s has %d MiB of memory left beside itself, its VMs and its disks in memory; %d MiB are too many",
			h.cfg.Name, left>>20, bytes>>20)
	}
	return nil
}

func (h *Host) freeMemoryName(m *member) string {
	disks := m.ms.Load().RAM
	for i := 1; ; i++ {
		name := fmt.Sprintf("ram%d", i)
		if !slices.ContainsFunc(disks, func(r ramDisk) bool { return r.Path == name }) {
			return name
		}
	}
}

// newMemory makes an empty disk in memory, which goes when its device is
// closed.
func (h *Host) newMemory(m *member, r ramDisk) (cluster.Disk, disk.Device, error) {
	d := cluster.Disk{Path: r.Path, Pool: r.Pool, RAM: true}
	mem, err := ramdisk.New(r.Size)
	if err != nil {
		return d, nil, err
	}
	dev, err := mem.Open()
	if err != nil {
		mem.Free()
		return d, nil, err
	}
	once := freed{dev, mem}
	if err := h.format(m, once, &d); err != nil {
		once.Close()
		return d, nil, err
	}
	return d, once, nil
}

// freed is a disk in memory that is given back when it is closed.
type freed struct {
	disk.Device
	mem *ramdisk.Memory
}

// Close implements disk.Device.
func (f freed) Close() error {
	if err := f.Device.Close(); err != nil {
		return err
	}
	return f.mem.Free()
}

// renewAgain is how long a host waits before it tries again to replace the
// records of its disks in memory.
const renewAgain = time.Second

// renewMemory makes the disks in memory that this host had in its last life
// anew: empty, and under new identities, so that nobody takes them for what
// they were. They are not used before the records say so.
func (h *Host) renewMemory(m *member) {
	disks := m.ms.Load().RAM
	for _, r := range disks {
		for !h.renewed(m, r.Path) {
			select {
			case <-m.done:
				return
			case <-time.After(renewAgain):
			}
		}
	}
}

// renewed tries to make a disk in memory anew, and reports whether there is
// nothing left to do.
func (h *Host) renewed(m *member, path string) bool {
	what := "disk/" + path
	d, err := h.renew(m, path)
	switch {
	case err == nil:
		h.rememberMemory(m, path, []holdfast.DiskID{d.ID})
		h.log.Info("a disk in memory begins empty", "path", path, "disk", d.ID.Short(), "bytes", d.Size)
	case holdfast.IsKind(err, holdfast.NotFound):
		h.rememberMemory(m, path, nil)
	default:
		h.log.Warn("a disk in memory is not in use yet", "path", path, "error", err)
		m.node.Condition(what, "error", "disk "+path+" of host "+h.cfg.Name+" is not in use: "+err.Error())
		return false
	}
	m.node.Condition(what, "", "")
	return true
}

// renew makes a disk in memory anew. Kind NotFound: it was taken back.
func (h *Host) renew(m *member, path string) (d cluster.Disk, err error) {
	if _, err := m.node.Cluster.Refresh(); err != nil {
		return d, err
	}
	disks := m.ms.Load().RAM
	r := disks[slices.IndexFunc(disks, func(r ramDisk) bool { return r.Path == path })]
	d, dev, err := h.newMemory(m, r)
	if err != nil {
		return d, err
	}
	// Every identity that may come to have a record is written down before.
	if err = h.rememberMemory(m, path, append(slices.Clone(r.Were), d.ID)); err == nil {
		err = m.node.Make.RenewDisk(d, r.Were...)
	}
	if err != nil {
		dev.Close()
		return d, err
	}
	return d, h.openStore(m, dev, path)
}

// rememberMemory writes down under which identities a disk in memory may have
// a record; under none it is forgotten.
func (h *Host) rememberMemory(m *member, path string, were []holdfast.DiskID) error {
	err := h.remember(m, func(ms *membership) {
		ms.RAM = slices.Clone(ms.RAM)
		i := slices.IndexFunc(ms.RAM, func(r ramDisk) bool { return r.Path == path })
		switch {
		case i < 0:
		case were == nil:
			ms.RAM = slices.Delete(ms.RAM, i, i+1)
		default:
			ms.RAM[i].Were = were
		}
	})
	if err != nil {
		h.log.Warn("a disk in memory could not be written down", "path", path, "error", err)
	}
	return err
}
