package health

import (
	"fmt"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// inMemory says that a volume's pool is memory, or "".
func (b *board) inMemory(vol cluster.Volume) string {
	if b.v.State.InMemory(vol.Pool) {
		return " (pool " + b.v.State.PoolName(vol.Pool) + " is memory, and its hosts were restarted or lost power)"
	}
	return ""
}

// pools finds pools that have too few racks for the copies their volumes want,
// and says what a pool in memory does not promise.
func (b *board) pools() {
	for _, rec := range b.v.State.SortedPools() {
		pool := rec.Val
		want, volumes := pool.Copies, 0
		for _, vol := range b.v.Volumes {
			if vol.Pool == pool.ID {
				want = max(want, vol.Copies)
				volumes++
			}
		}
		if want == 0 {
			want = min(2, b.dataRacks()) // what a volume would get
		}
		racks := b.racksOf(pool)
		if racks < want {
			severity := Info
			if volumes > 0 {
				severity = Warning
			}
			b.cause("pool-racks/"+pool.Name, severity, fmt.Sprintf("pool %s has disks in %s, too few for %s, each in a rack of its own: add disks to it in other racks",
				pool.Name, count(racks, "rack", "racks"), count(want, "copy", "copies")), time.Time{})
		}
		if pool.Tier == cluster.RAM && volumes > 0 {
			b.cause("pool-in-memory/"+pool.Name, Info, fmt.Sprintf("pool %s is memory: a flush there means in memory of every in-sync copy, and what loses power or is restarted on all its hosts at once loses %s",
				pool.Name, count(volumes, "volume", "volumes")), time.Time{})
		}
	}
}

// dataRacks counts the racks with more than a witness.
func (b *board) dataRacks() (n int) {
	for _, r := range b.v.Racks {
		if !r.Witness() {
			n++
		}
	}
	return n
}

// racksOf counts the racks in which a pool has a disk, whether the rack is
// there now or not: what is away stands under its own cause.
func (b *board) racksOf(pool cluster.Pool) int {
	racks := map[holdfast.FaultDomain]bool{}
	for _, d := range b.v.State.Disks {
		if h := b.v.Host(d.Val.Host); h != nil && d.Val.Pool == pool.ID {
			racks[h.Domain] = true
		}
	}
	return len(racks)
}
