package keyring

import (
	"io"
	"slices"
	"sync"

	"github.com/holdfast-cloud/holdfast"
)

// Ring is the cluster keys that a host has in its memory. It is safe for
// concurrent use, and never written to a disk.
type Ring struct {
	mu   sync.Mutex
	keys map[ID]Key
}

// NewRing returns an empty ring.
func NewRing() *Ring { return &Ring{keys: make(map[ID]Key)} }

// Add puts a key on the ring, and reports whether it was not there.
func (r *Ring) Add(k Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := k.ID()
	_, had := r.keys[id]
	r.keys[id] = k
	return !had
}

// Get returns a key.
func (r *Ring) Get(id ID) (Key, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, ok := r.keys[id]
	return k, ok
}

// Has reports whether a key is on the ring.
func (r *Ring) Has(id ID) bool {
	_, ok := r.Get(id)
	return ok
}

// Keep drops every key that is not named: those that a rotation has replaced.
func (r *Ring) Keep(ids ...ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.keys {
		if !slices.Contains(ids, id) {
			delete(r.keys, id)
		}
	}
}

// IDs returns the names of the keys on the ring, in order.
func (r *Ring) IDs() []ID {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]ID, 0, len(r.keys))
	for id := range r.keys {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// Unwrap returns the data keys of wrapped ones, by the volume whose blocks they
// seal. Kind Unavailable: a cluster key that is needed is not on the ring.
func (r *Ring) Unwrap(wrapped []Wrapped) (map[holdfast.VolumeID]Key, error) {
	out := make(map[holdfast.VolumeID]Key, len(wrapped))
	for _, w := range wrapped {
		under, ok := r.Get(w.Under)
		if !ok {
			return nil, holdfast.Errorf(holdfast.Unavailable, "cluster key %s is not loaded", w.Under.Short())
		}
		k, err := w.Unwrap(&under)
		if err != nil {
			return nil, err
		}
		out[w.Volume] = k
	}
	return out, nil
}

// Rewrap returns wrapped keys as they are under the cluster key to, which is on
// the ring as are those they are under now.
func (r *Ring) Rewrap(wrapped []Wrapped, to ID, random io.Reader) ([]Wrapped, error) {
	cluster, ok := r.Get(to)
	if !ok {
		return nil, holdfast.Errorf(holdfast.Unavailable, "cluster key %s is not loaded", to.Short())
	}
	data, err := r.Unwrap(wrapped)
	if err != nil {
		return nil, err
	}
	out := make([]Wrapped, len(wrapped))
	for i, w := range wrapped {
		k := data[w.Volume]
		if out[i], err = Wrap(&cluster, w.Volume, &k, random); err != nil {
			return nil, err
		}
	}
	return out, nil
}
