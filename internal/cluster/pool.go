package cluster

import (
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// Tier is a speed class of disks. The default pool has none, "": it holds
// whatever was given.
type Tier string

// The tiers.
const (
	RAM Tier = "ram" // memory of the hosts: gone when the process or the power is
	SSD Tier = "ssd"
	HDD Tier = "hdd"
)

// IO says which transfers of a disk go through the host's page cache.
type IO string

// The uses of the page cache (docs/adr/0044).
const (
	Mixed  IO = ""       // writes go past it, reads through it: the default
	Cached IO = "cached" // both go through it
	Direct IO = "direct" // both go past it
)

// DefaultPool is the name of the pool that exists from the beginning. It has
// no record: disks and volumes without a pool are in it.
const DefaultPool = "default"

// Pool is disks of one policy. A volume's replicas stand on disks of its pool
// only.
type Pool struct {
	ID      holdfast.PoolID `json:"id"`
	Name    string          `json:"name"`
	Tier    Tier            `json:"tier"`
	Copies  int             `json:"copies,omitempty"` // of volumes that do not say; 0: as everywhere
	IO      IO              `json:"io,omitempty"`
	Created time.Time       `json:"created"`
	// Deleted: it takes nothing new and goes once nothing is in it.
	Deleted bool `json:"deleted,omitempty"`
}

// Pool returns a pool, also the default one, whose identity is zero.
func (s *State) Pool(id holdfast.PoolID) (Pool, bool) {
	if id.IsZero() {
		return Pool{Name: DefaultPool}, true
	}
	p, ok := s.Pools[id]
	return p.Val, ok
}

// PoolByName finds a pool; "" is the default one.
func (s *State) PoolByName(name string) (Pool, bool) {
	if name == "" || name == DefaultPool {
		return s.Pool(holdfast.PoolID{})
	}
	p, ok := find(s.Pools, func(p *Pool) bool { return p.Name == name })
	return p.Val, ok
}

// PoolName returns a pool's name, or the start of its identity if it has no
// record.
func (s *State) PoolName(id holdfast.PoolID) string {
	if p, ok := s.Pool(id); ok {
		return p.Name
	}
	return id.Short()
}

// InMemory reports whether a pool's disks are memory.
func (s *State) InMemory(id holdfast.PoolID) bool {
	p, _ := s.Pool(id)
	return p.Tier == RAM
}

// SortedPools returns the pools by name, without the default one.
func (s *State) SortedPools() []Versioned[Pool] {
	return sorted(s.Pools, func(a, b *Pool) int { return byName(a.Name, b.Name, a.ID.UUID, b.ID.UUID) })
}

func checkPool(p *Pool) error {
	const what = "pool"
	switch {
	case p.ID.IsZero():
		return bad(what, p.Name, "it has no identifier")
	case holdfast.CheckName(what, p.Name) != nil:
		return holdfast.CheckName(what, p.Name)
	case p.Name == DefaultPool:
		return bad(what, p.Name, "that name belongs to the pool that exists from the beginning")
	case p.Tier != RAM && p.Tier != SSD && p.Tier != HDD:
		return bad(what, p.Name, "tier %q: %q, %q and %q are allowed", p.Tier, RAM, SSD, HDD)
	case p.Copies < 0 || p.Copies > MaxCopies:
		return bad(what, p.Name, "%d copies: 1 to %d are allowed, or 0 for the default", p.Copies, MaxCopies)
	case p.IO != Mixed && p.IO != Cached && p.IO != Direct:
		return bad(what, p.Name, "i/o %q: %q and %q are allowed, or none for the default", p.IO, Cached, Direct)
	case p.Tier == RAM && p.IO != Mixed:
		return bad(what, p.Name, "memory has no page cache: it goes without a choice of i/o")
	}
	return nil
}
