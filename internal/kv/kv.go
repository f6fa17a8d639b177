// Package kv is the seam to the cluster's brain: a small linearizable map with
// compare-and-commit, watches and leases. Implementations: kv/etcd (embedded
// or external), kv/memkv; conformance: kv/kvtest.
//
// Every call returns within CallTimeout by the host's clock; none takes a
// context (docs/adr/0002).
package kv

import "time"

// CallTimeout bounds every call.
const CallTimeout = 5 * time.Second

// MaxValue is the largest value, and MaxOps the most operations and the most
// conditions of one commit.
const (
	MaxValue = 256 << 10
	MaxOps   = 120
)

// Rev is a revision of the whole map; every commit that changes something has a
// higher one than those before.
type Rev int64

// LeaseID names a lease; zero is none.
type LeaseID int64

// Item is one key with its value.
type Item struct {
	Key   string
	Value []byte
	Mod   Rev     // revision of the last change
	Lease LeaseID // the key goes when the lease ends
}

// Cond is a condition of a commit: Key was last changed at Mod. Mod zero means
// that the key does not exist.
type Cond struct {
	Key string
	Mod Rev
}

// Op is a change: a put, or a delete if Delete is set. One commit may name a
// key only once.
type Op struct {
	Key    string
	Value  []byte
	Lease  LeaseID
	Delete bool
}

// Event is one change seen by a watch.
type Event struct {
	Item    // for a delete: Key and Mod alone
	Deleted bool
}

// Store is the map. Errors have kind Unavailable (nothing happened; retry),
// Unknown (a commit may or may not have happened; read before acting),
// Conflict (a condition failed; nothing happened), NotFound (the lease is
// gone) or Closed.
type Store interface {
	// Range returns all items whose key starts with prefix, in key order, as
	// of one revision not older than the call.
	Range(prefix string) ([]Item, Rev, error)
	// RangeAt is Range as of the revision at. Kind Gap means that it was lost to
	// compaction; kind Invalid that there is no such revision yet.
	RangeAt(prefix string, at Rev) ([]Item, error)
	// Commit applies ops atomically if every condition holds.
	Commit(conds []Cond, ops []Op) (Rev, error)
	// Watch streams the changes below prefix after revision from.
	Watch(prefix string, from Rev) Watcher
	// Grant makes a lease that ends ttl (whole seconds, at least 1; the store
	// may round up) after the last renewal.
	Grant(ttl time.Duration) (LeaseID, error)
	// Renew extends a lease by its ttl, counted from not before the call.
	Renew(id LeaseID) error
	// Revoke ends a lease and deletes its keys.
	Revoke(id LeaseID) error
	Close() error
}

// Watcher is one stream of changes. It belongs to one task.
type Watcher interface {
	// Next returns the next changes, in order, or none if timeout passes
	// first. All changes of one commit come in one batch. Kind Gap means that
	// changes were lost to compaction: Range again and watch from there; kind
	// Unavailable means that the stream broke likewise.
	Next(timeout time.Duration) ([]Event, error)
	Close()
}
