package serve

import (
	"slices"

	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/disk"
	"github.com/holdfast-cloud/holdfast/internal/disk/filedisk"
	"github.com/holdfast-cloud/holdfast/internal/httpapi"
	"github.com/holdfast-cloud/holdfast/internal/placement"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// wouldAdd says what disk AddDisk would add, or why it would not. It reads what is
// at the path and writes nothing.
func (h *Host) wouldAdd(m *member, n httpapi.NewDisk) (d cluster.Disk, err error) {
	if err := h.mayHave(n); err != nil {
		return d, err
	}
	d = cluster.Disk{Host: h.dir.id.Host, Path: n.Path, Pool: n.Pool.ID, RAM: n.RAM > 0}
	if d.ID.UUID, err = newUUID(); err != nil {
		return d, err
	}
	switch {
	case d.RAM:
		d.Path, d.Size = h.freeMemoryName(m), n.RAM
		return d, h.hasMemory(m, n.RAM)
	case n.Size > 0:
		d.Size = n.Size
		return d, filedisk.MayCreate(n.Path, n.Size)
	}
	d.Size, err = h.isWiped(m, n)
	return d, err
}

// isWiped looks at a disk that is to be added, alone, and returns its size.
func (h *Host) isWiped(m *member, n httpapi.NewDisk) (size int64, err error) {
	m.taking.Lock()
	defer m.taking.Unlock()
	m.mu.Lock()
	var dev disk.Device // in use, of no disk of the cluster any more: see letGo
	if i := slices.IndexFunc(m.stores, func(o opened) bool { return o.path == n.Path }); i >= 0 && placement.Unknown(m.node.Cluster.State(), m.stores[i].Identity().Disk) {
		dev = m.stores[i].dev
	}
	m.mu.Unlock()
	if dev == nil {
		f, err := filedisk.Open(n.Path, filedisk.Options{Cache: cacheOf(n.Pool.IO)})
		if err != nil {
			return 0, err
		}
		defer f.Close()
		dev = f
	}
	return dev.Geometry().Size, store.Wiped(dev)
}
