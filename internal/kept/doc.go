// Package kept is the copy of the cluster's records that every host keeps in its
// data directory and on its disks, so that the control plane can be rebuilt on any host that is
// left (docs/format/kept.md). It seals and opens copies and puts them on a shelf
// of two places; what a record means it does not know.
package kept

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// Format is the version of a copy's form.
const Format = 20261128

// Bounds of a copy.
const (
	MaxItems = 1 << 20
	MaxBody  = 256 << 20 // bytes of sealed records
	maxHead  = 64 << 10
	maxKey   = 1024
)

// Head is what a copy says in the clear: whose it is, how new, and which key
// opens it.
type Head struct {
	Format      int                `json:"format"`
	Cluster     holdfast.ClusterID `json:"cluster"`
	Name        string             `json:"name"` // of the cluster
	Host        holdfast.HostID    `json:"host"` // that made it
	Incarnation int                `json:"incarnation"`
	Rev         kv.Rev             `json:"revision"` // of the control plane, as of which the records are
	Made        time.Time          `json:"made"`     // by the host's calendar: for people
	// Key is how the cluster key that seals it is found again; without it the
	// copy is sealed under a key that the host keeps beside its identity.
	Key *keyring.Source `json:"key,omitempty"`
	// Open is the key itself, of a copy on a disk of a cluster that has no cluster
	// key: whoever has the disk has all that is on it. Such a copy holds no secret.
	Open []byte `json:"open,omitempty"`
	Salt []byte `json:"salt"` // 32 random bytes: a key for each copy
	// Sum is what a host without the key knows of the records: cluster.SumOf. Copies
	// on disks have none.
	Sum []byte `json:"sum,omitempty"`
}

// Copy is a cluster's records as of one revision, in the order of their keys.
type Copy struct {
	Head
	Items []kv.Item // without leases
}

// Newer reports whether a copy tells of a later state than another: of a later
// incarnation, or of a later revision of the same.
func (h *Head) Newer(than *Head) bool {
	if h.Incarnation != than.Incarnation {
		return h.Incarnation > than.Incarnation
	}
	return h.Rev > than.Rev
}
