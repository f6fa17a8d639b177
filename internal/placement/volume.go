package placement

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// ReservePercent of every disk is kept free for the cleaner.
const ReservePercent = 15

// Constraints narrow a placement.
type Constraints struct {
	Pool    holdfast.PoolID   // whose disks; zero: the default pool
	Only    []holdfast.DiskID // if not empty: no other disks, as for a linked clone
	Exclude []holdfast.HostID
}

// Spot is one place for a replica.
type Spot struct {
	Host holdfast.HostID
	Disk holdfast.DiskID
}

// PlaceVolume chooses disks for a volume's copies: in distinct racks, and where
// there are fewer racks than copies, on distinct hosts; never two on one host.
// It returns fewer spots than copies, with Why.Short, if the cluster has no
// more hosts, and none if nothing fits.
func PlaceVolume(s *cluster.State, blocks uint64, copies int, c Constraints) ([]Spot, Why) {
	p := newDiskPlan(Look(s), blocks, c)
	var spots []Spot
	for range copies {
		best := p.best()
		if best == nil {
			break
		}
		p.take(best)
		spots = append(spots, Spot{Host: best.host.ID, Disk: best.id})
	}
	p.sayShort(copies, len(spots))
	return spots, p.why
}

// PlaceReplica chooses a disk for one more replica of a volume, on a host that
// has none of it but what is going or on a disk that failed, in a rack without
// a usable copy if there is one. Among those a linked clone goes to a disk that
// has, or is being given, what it was cloned from: there it is only what it
// differs by. What replaces a replica that is going is rather put on its disk's
// successor, then on another disk of its host; and it is put nowhere where the
// copies would share more racks than they do.
func PlaceReplica(s *cluster.State, vol cluster.Volume) (Spot, bool, Why) {
	return Look(s).PlaceReplica(vol)
}

// PlaceReplica is the same, for who has looked already.
func (v *View) PlaceReplica(vol cluster.Volume) (Spot, bool, Why) {
	return v.placeReplica(vol, Constraints{})
}

func (v *View) placeReplica(vol cluster.Volume, c Constraints) (Spot, bool, Why) {
	c.Pool = vol.Pool
	p := newDiskPlan(v, vol.Blocks, c)
	p.holds(v, vol, vol.InSync, "in-sync")
	p.holds(v, vol, vol.Others, "stale or unfinished")
	p.beside(v, vol.Origin)
	best := p.best()
	if best == nil {
		p.why.Short = fmt.Sprintf("no other disk%s can take a copy of volume %s", v.inPool(vol.Pool), vol.Name)
		return Spot{}, false, p.why
	}
	if v.Lost(vol) <= 0 && !v.spreads(vol, best) {
		p.why.Short = fmt.Sprintf("no disk in a rack without a copy of volume %s can take one", vol.Name)
		return Spot{}, false, p.why
	}
	p.take(best)
	if p.sameRack {
		p.why.Short = fmt.Sprintf("no rack without a copy of volume %s has room: the new copy shares rack %s with another", vol.Name, best.host.Domain)
	}
	return Spot{Host: best.host.ID, Disk: best.id}, true, p.why
}

// spreads reports whether a copy on a disk keeps the copies on as many racks as
// they are on now, as far as there are enough of them.
func (v *View) spreads(vol cluster.Volume, c *candidate) bool {
	then := v.staying(vol, slices.Concat(vol.InSync, vol.Others))
	s := v.standing(vol, append(then, cluster.Replica{Host: c.host.ID, Disk: c.id}))
	return s.racks >= min(v.standing(vol, v.InSync(vol)).racks, s.hosts)
}

// diskPlan is one search over the disks of the cluster.
type diskPlan struct {
	disks     []*candidate
	usedHosts map[holdfast.HostID]bool
	usedRacks map[holdfast.FaultDomain]bool
	sameRack  bool   // a chosen disk shares its rack with another copy
	pool      string // " in pool fast", or "" for the default one
	why       Why
}

// candidate is a disk that may take a copy.
type candidate struct {
	id     holdfast.DiskID
	host   *Host
	name   string
	near   int   // 2: it succeeds a disk that a replica is going from, 1: it is on that disk's host
	beside bool  // it holds what a clone was made from
	room   int64 // bytes, the scarcer of what is free and what is not promised
}

func newDiskPlan(v *View, blocks uint64, c Constraints) *diskPlan {
	p := &diskPlan{usedHosts: map[holdfast.HostID]bool{}, usedRacks: map[holdfast.FaultDomain]bool{}}
	if blocks == 0 || blocks > holdfast.MaxVolumeBlocks {
		p.why.Short = fmt.Sprintf("a volume of %d blocks is out of range: 1 to %d", blocks, uint64(holdfast.MaxVolumeBlocks))
		return p
	}
	p.pool = v.inPool(c.Pool)
	promised := v.promisedBytes()
	size := int64(blocks) * holdfast.BlockSize
	for _, h := range v.Hosts {
		if reason := refusesReplicas(h, c); reason != "" {
			p.why.reject(h.Name, reason)
			continue
		}
		for _, d := range disksOf(v, h) {
			cand, reason := judgeDisk(h, d, size, promised[d.Disk], c)
			switch rec, known := v.State.Disks[d.Disk]; {
			case !known:
				reason = "not the cluster's any more"
			case rec.Val.Host != h.ID: // where nobody would look for the replica once the disk is back
				reason = "of host " + v.HostName(rec.Val.Host)
			case rec.Val.Pool != c.Pool:
				reason = "in pool " + v.State.PoolName(rec.Val.Pool)
			case reason == "" && rec.Val.Evacuate:
				reason = "being evacuated"
			}
			cand.name = diskName(v, h.Name, d.Disk)
			if reason != "" {
				p.why.reject(cand.name, reason)
				continue
			}
			p.disks = append(p.disks, cand)
		}
	}
	return p
}

func refusesReplicas(h *Host, c Constraints) string {
	switch {
	case !h.Up():
		return "not alive"
	case h.Witness:
		return "a witness, which has no disk"
	case h.Drained:
		return "drained"
	case slices.Contains(c.Exclude, h.ID):
		return "excluded"
	case len(h.Alive.Disks) == 0:
		return "has no disk in use"
	}
	return ""
}

// disksOf returns the disks that a host reports, in order of path.
func disksOf(v *View, h *Host) []cluster.DiskUse {
	out := slices.Clone(h.Alive.Disks)
	slices.SortStableFunc(out, func(a, b cluster.DiskUse) int {
		return cmp.Or(cmp.Compare(v.State.Disks[a.Disk].Val.Path, v.State.Disks[b.Disk].Val.Path),
			cmp.Compare(a.Disk.String(), b.Disk.String()))
	})
	return out
}

func diskName(v *View, host string, id holdfast.DiskID) string {
	if d, ok := v.State.Disks[id]; ok && d.Val.Path != "" {
		return host + ":" + d.Val.Path
	}
	return host + ":" + id.Short()
}

func judgeDisk(h *Host, d cluster.DiskUse, size, promised int64, c Constraints) (*candidate, string) {
	reserve := d.Total / 100 * ReservePercent
	cand := &candidate{id: d.Disk, host: h, room: min(d.Free-reserve, d.Total-reserve-promised)}
	switch {
	case d.Error != "":
		return cand, "not in use: " + d.Error
	case len(c.Only) > 0 && !slices.Contains(c.Only, d.Disk):
		return cand, "not asked for"
	case size > d.Total-reserve:
		return cand, fmt.Sprintf("%s is more than the disk's %s less its reserve", bytesText(size), bytesText(d.Total))
	case d.Full:
		return cand, "full: only its reserve is left"
	case d.Free <= reserve:
		return cand, fmt.Sprintf("only %s free, its reserve is %s", bytesText(d.Free), bytesText(reserve))
	}
	return cand, ""
}

// promisedBytes sums the sizes of the volumes on each disk, as if all were full.
func (v *View) promisedBytes() map[holdfast.DiskID]int64 {
	if v.promised != nil {
		return v.promised
	}
	sum := map[holdfast.DiskID]int64{}
	for _, vol := range v.Volumes {
		for _, set := range [][]cluster.Replica{vol.InSync, vol.Others} {
			for _, r := range set {
				sum[r.Disk] += int64(vol.Blocks) * holdfast.BlockSize
			}
		}
	}
	v.promised = sum
	return sum
}

// holds marks the hosts of existing replicas as taken, and the racks of those
// that can be used. A replica that is going takes only its disk, and so does one
// on a failed disk of a host that is alive. A lost one is nowhere.
func (p *diskPlan) holds(v *View, vol cluster.Volume, replicas []cluster.Replica, what string) {
	for _, r := range replicas {
		if v.State.Lost(r) {
			continue
		}
		if going := v.Going(vol, r); going || v.Up(r.Host) && !v.Usable(r) {
			p.leaves(v, r, going)
			continue
		}
		if !p.usedHosts[r.Host] {
			p.why.reject(v.HostName(r.Host), "holds a copy already ("+what+")")
		}
		p.usedHosts[r.Host] = true
		if h := v.Host(r.Host); h != nil && v.Usable(r) {
			p.usedRacks[h.Domain] = true
		}
	}
}

// leaves takes a replica's disk out of the choice, and marks what is near it.
func (p *diskPlan) leaves(v *View, r cluster.Replica, going bool) {
	p.disks = slices.DeleteFunc(p.disks, func(c *candidate) bool { return c.id == r.Disk })
	if !going {
		return
	}
	next := v.State.Disks[r.Disk].Val.Successor
	for _, c := range p.disks {
		switch {
		case c.id == next:
			c.near = 2
		case c.host.ID == r.Host:
			c.near = max(c.near, 1)
		}
	}
}

// beside marks the disks that have a usable replica of what a clone was made
// from, or are to get one.
func (p *diskPlan) beside(v *View, o *cluster.Origin) {
	if o == nil {
		return
	}
	rec := v.State.Volumes[o.Volume].Val
	for _, r := range slices.Concat(rec.InSync, rec.Others) {
		for _, c := range p.disks {
			c.beside = c.beside || c.id == r.Disk && !rec.Deleted
		}
	}
}

// best returns the disk with the most room in an unused rack, else on an
// unused host, else nil; one near what is replaced, then one beside a clone's
// origin, comes before more room.
// Ties go to the first in the order of the cluster.
func (p *diskPlan) best() *candidate {
	var best *candidate
	bestFresh := false
	for _, c := range p.disks {
		if p.usedHosts[c.host.ID] {
			continue
		}
		fresh := !p.usedRacks[c.host.Domain]
		better := best == nil
		switch {
		case better:
		case fresh != bestFresh:
			better = fresh
		case c.near != best.near:
			better = c.near > best.near
		case c.beside != best.beside:
			better = c.beside
		default:
			better = c.room > best.room
		}
		if better {
			best, bestFresh = c, fresh
		}
	}
	return best
}

func (p *diskPlan) take(c *candidate) {
	text := fmt.Sprintf("%s in rack %s, %s not promised", c.name, c.host.Domain, bytesText(max(c.room, 0)))
	if c.beside {
		text += ", beside what it was cloned from"
	}
	if p.usedRacks[c.host.Domain] {
		p.sameRack = true
		text += ", no other rack is left"
	}
	p.usedHosts[c.host.ID] = true
	p.usedRacks[c.host.Domain] = true
	p.why.Chosen = append(p.why.Chosen, text)
}

func (p *diskPlan) sayShort(copies, got int) {
	switch {
	case p.why.Short != "":
	case got < copies:
		p.why.Short = fmt.Sprintf("%s asked for, room%s on %s", count(copies, "copy", "copies"), p.pool, count(got, "host", "hosts"))
	case p.sameRack:
		p.why.Short = fmt.Sprintf("%s in %s: some share a rack", count(copies, "copy", "copies"), count(len(p.usedRacks), "rack", "racks"))
	}
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// bytesText prints a size in the largest binary unit that keeps it readable.
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	f, u := float64(n), 0
	for f >= 1024 && u < len(units)-1 {
		f, u = f/1024, u+1
	}
	if u == 0 || f >= 100 || f == float64(int64(f)) {
		return fmt.Sprintf("%.0f %s", f, units[u])
	}
	return fmt.Sprintf("%.1f %s", f, units[u])
}
