package serve

import (
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/disk"
	"github.com/holdfast-cloud/holdfast/internal/disk/filedisk"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// opened is a store in use, and the device below it.
type opened struct {
	*store.Store
	dev  disk.Device
	path string
}

// reopenDisk closes a store that was given up and opens its disk anew, by its
// path: a device that went and came back is another one to the system. A disk in
// memory is its device. Kind NotFound: it is no disk of this host any more.
func (h *Host) reopenDisk(m *member, was *store.Store) (*store.Store, error) {
	_ = was.Close() // why it was given up is known
	m.mu.Lock()
	i := slices.IndexFunc(m.stores, func(o opened) bool { return o.Store == was })
	if i < 0 {
		m.mu.Unlock()
		return nil, holdfast.Errorf(holdfast.NotFound, "disk %s is not in use", was.Identity().Disk.Short())
	}
	o, io := m.stores[i], m.ms.Load().IO[m.stores[i].path]
	m.mu.Unlock()
	if _, memory := o.dev.(freed); !memory {
		_ = o.dev.Close() // may have been closed by an attempt before
		dev, err := filedisk.Open(o.path, filedisk.Options{Cache: cacheOf(io)})
		if err != nil {
			return nil, err
		}
		o.dev = dev
	}
	so := h.storeOptions()
	so.Expect = func(id store.Identity) error {
		if id != was.Identity() {
			return holdfast.Errorf(holdfast.Conflict, "at %s there is another disk now", o.path)
		}
		return nil
	}
	st, err := store.Open(o.dev, so)
	m.mu.Lock()
	defer m.mu.Unlock()
	if i = slices.IndexFunc(m.stores, func(o opened) bool { return o.Store == was }); i < 0 && err == nil {
		_ = st.Close()
		_ = o.dev.Close()
		err = holdfast.Errorf(holdfast.NotFound, "disk %s was taken back", was.Identity().Disk.Short())
	}
	if i >= 0 {
		m.stores[i].dev = o.dev
	}
	if err != nil {
		return nil, err
	}
	st.SetMapMemory(int64(h.cfg.MapMemory) / int64(len(m.stores)))
	m.stores[i].Store = st
	return st, nil
}
