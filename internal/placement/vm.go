package placement

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

// What a host may promise to VMs.
const (
	CPUOvercommit = 4    // virtual CPUs for each of the host's
	VMOverheadMiB = 64   // of memory for each machine beside its guest's
	reserveMinMiB = 256  // the least memory kept for the host itself
	reserveMaxMiB = 4096 // the most; between them a tenth of its memory
)

// VMOptions narrow and steer the placement of a VM.
type VMOptions struct {
	Avoid  map[holdfast.HostID]string // hosts to use only if no other fits, and why
	Prefer holdfast.HostID            // taken if it fits, as when a plan was made before
}

// PlaceVM chooses a host for a VM: alive, not drained, with room for its CPUs
// and memory; if possible one that holds an in-sync replica of its volume, then
// the one with the most memory left. It returns the zero id if none fits.
func PlaceVM(s *cluster.State, vm cluster.VM, o VMOptions) (holdfast.HostID, Why) {
	return Look(s).PlaceVM(vm, o)
}

// PlaceVM is the same, for who has looked already.
func (v *View) PlaceVM(vm cluster.VM, o VMOptions) (holdfast.HostID, Why) {
	if v.rooms == nil {
		v.rooms = newRooms(v)
	}
	return v.placeVM(v.rooms, vm, o)
}

// room is what is left of a host for VMs.
type room struct {
	cpus, cpusTotal int // virtual
	mem, memTotal   int // MiB
}

// rooms is the room of every host that is alive.
type rooms map[holdfast.HostID]*room

func newRooms(v *View) rooms {
	rs := rooms{}
	for _, h := range v.Hosts {
		if h.Up() {
			cpus := h.Alive.CPUs * CPUOvercommit
			mem := h.Alive.MemoryMiB - min(max(h.Alive.MemoryMiB/10, reserveMinMiB), reserveMaxMiB)
			rs[h.ID] = &room{cpus: cpus, cpusTotal: cpus, mem: max(mem, 0), memTotal: max(mem, 0)}
		}
	}
	for _, rec := range v.State.Disks {
		if r := rs[rec.Val.Host]; r != nil && rec.Val.RAM {
			mib := int(rec.Val.Size >> 20)
			r.mem, r.memTotal = r.mem-mib, max(r.memTotal-mib, 0)
		}
	}
	for _, rec := range v.State.VMs {
		if at := occupies(v.State, rec.Val); !at.IsZero() {
			vm, now := rec.Val, v.State.InForce(rec.Val)
			vm.CPUs, vm.MemoryMiB = max(vm.CPUs, now.CPUs), max(vm.MemoryMiB, now.MemoryMiB)
			rs.take(at, vm)
		}
	}
	return rs
}

// MemoryLeft returns how much of a living host's memory, in MiB, neither the
// host itself nor its VMs nor its disks in memory have been promised.
func MemoryLeft(s *cluster.State, host holdfast.HostID) int {
	if r := newRooms(Look(s))[host]; r != nil {
		return max(r.mem, 0)
	}
	return 0
}

// occupies returns the host whose room a VM uses: the one it is assigned to if
// it should be on, else the one where its machine still is.
func occupies(s *cluster.State, vm cluster.VM) holdfast.HostID {
	if !vm.Deleted && vm.Power == cluster.On {
		return vm.Host
	}
	m, ok := s.Machines[vm.ID]
	if ok && m.Val.State != "off" && m.Val.State != "failed" {
		return m.Val.Host
	}
	return holdfast.HostID{}
}

func (rs rooms) take(h holdfast.HostID, vm cluster.VM) {
	if r := rs[h]; r != nil {
		r.cpus -= vm.CPUs
		r.mem -= vm.MemoryMiB + VMOverheadMiB
	}
}

func (rs rooms) clone() rooms {
	out := make(rooms, len(rs))
	for id, r := range rs {
		c := *r
		out[id] = &c
	}
	return out
}

// wakesElsewhere reports whether a VM is to go on with a memory that this host
// can do nothing with.
func wakesElsewhere(h *Host, vm *cluster.VM) bool {
	if vm.Wake.IsZero() {
		return false
	}
	m := vm.WakesFrom()
	return m != nil && m.Kind != h.Alive.Machines
}

// fits says why a VM does not fit a host with that room, or "".
func (r *room) fits(h *Host, vm *cluster.VM) string {
	switch {
	case !h.Up() || r == nil:
		return "not alive"
	case h.Witness:
		return "a witness, which runs no VM"
	case h.Drained:
		return "drained"
	case vm.UEFI() && !h.Alive.UEFI:
		return "has no UEFI firmware; install it there (Debian and Ubuntu: apt install ovmf)"
	case wakesElsewhere(h, vm):
		return fmt.Sprintf("its machines (%s) cannot go on with a memory kept on %s; 'holdfast vm snapshot revert --without-memory' does without it", h.Alive.Machines, vm.WakesFrom().Kind)
	case r.mem < vm.MemoryMiB+VMOverheadMiB:
		return fmt.Sprintf("needs %d MiB of memory, %d of %d MiB left", vm.MemoryMiB+VMOverheadMiB, max(r.mem, 0), r.memTotal)
	case r.cpus < vm.CPUs:
		return fmt.Sprintf("needs %d virtual CPUs, %d of %d left", vm.CPUs, max(r.cpus, 0), r.cpusTotal)
	}
	return ""
}

// rank orders hosts that fit: lower is better, compared in order.
type rank struct {
	avoided      int
	away, nearly int   // volumes of which the host has no in-sync copy, and not even another
	memLeft      int64 // negated parts per million
}

// seats are the hosts that have copies of a VM's volumes: they are few, and are
// found once for all the hosts that are looked at.
type seats struct {
	vols    int // that the VM needs, those that do not exist counted
	missing int // of them
	at      []seat
}

type seat struct {
	host        holdfast.HostID
	inSync, any int // volumes of which it has a usable copy
}

func (v *View) seatsOf(vm cluster.VM) (s seats) {
	vols, missing := v.VolumesOf(vm)
	s.vols, s.missing = len(vols)+len(missing), len(missing)
	for i := range vols {
		vol := &vols[i]
		for n, r := range vol.InSync {
			if !hostAmong(vol.InSync[:n], r.Host, v) && v.Usable(r) {
				x := s.of(r.Host)
				x.inSync, x.any = x.inSync+1, x.any+1
			}
		}
		for n, r := range vol.Others {
			if !hostAmong(vol.InSync, r.Host, v) && !hostAmong(vol.Others[:n], r.Host, v) && v.Usable(r) {
				s.of(r.Host).any++
			}
		}
	}
	return s
}

// hostAmong reports whether a host has a usable one of some replicas.
func hostAmong(rs []cluster.Replica, host holdfast.HostID, v *View) bool {
	return slices.ContainsFunc(rs, func(r cluster.Replica) bool { return r.Host == host && v.Usable(r) })
}

// of is a host's seat, a new one if it has none.
func (s *seats) of(host holdfast.HostID) *seat {
	i := slices.IndexFunc(s.at, func(x seat) bool { return x.host == host })
	if i < 0 {
		i = len(s.at)
		s.at = append(s.at, seat{host: host})
	}
	return &s.at[i]
}

// away is of how many volumes a host has no in-sync copy, and nearly of how many
// not even another.
func (s *seats) away(host holdfast.HostID) (away, nearly int) {
	for i := range s.at {
		if x := &s.at[i]; x.host == host {
			return s.vols - x.inSync, s.vols - x.any
		}
	}
	return s.vols, s.vols
}

func (s *seats) rankOf(r *room, h *Host, vm *cluster.VM, o VMOptions) rank {
	var k rank
	if len(o.Avoid) > 0 && o.Avoid[h.ID] != "" {
		k.avoided = 1
	}
	k.away, k.nearly = s.away(h.ID)
	left := int64(r.mem - vm.MemoryMiB - VMOverheadMiB)
	k.memLeft = -left * 1_000_000 / int64(max(r.memTotal, 1))
	return k
}

func compareRank(a, b rank) int {
	return cmp.Or(cmp.Compare(a.avoided, b.avoided), cmp.Compare(a.away, b.away),
		cmp.Compare(a.nearly, b.nearly), cmp.Compare(a.memLeft, b.memLeft))
}

func (v *View) placeVM(rs rooms, vm cluster.VM, o VMOptions) (holdfast.HostID, Why) {
	var why Why
	var best *Host
	var bestRank rank
	seats := v.seatsOf(vm)
	for _, h := range v.Hosts {
		r := rs[h.ID]
		if reason := r.fits(h, &vm); reason != "" {
			why.reject(h.Name, reason)
			continue
		}
		k := seats.rankOf(r, h, &vm, o)
		if h.ID == o.Prefer {
			k = rank{avoided: k.avoided - 2} // before every other
		}
		if best == nil || compareRank(k, bestRank) < 0 {
			best, bestRank = h, k
		}
	}
	if best == nil {
		why.Short = fmt.Sprintf("no host has room for VM %s", vm.Name)
		if vm.UEFI() && !slices.ContainsFunc(v.Hosts, func(h *Host) bool { return h.Up() && h.Alive.UEFI }) {
			why.Short = fmt.Sprintf("no host that answers can start VM %s", vm.Name)
		}
		return holdfast.HostID{}, why
	}
	why.Chosen = append(why.Chosen, chosenText(rs[best.ID], &seats, best, &vm))
	if a := o.Avoid[best.ID]; a != "" {
		why.Short = fmt.Sprintf("host %s is to be avoided (%s), no other fits", best.Name, a)
	}
	return best.ID, why
}

func chosenText(r *room, s *seats, h *Host, vm *cluster.VM) string {
	text := fmt.Sprintf("%s, %d MiB of memory left", h.Name, r.mem-vm.MemoryMiB-VMOverheadMiB)
	vols := s.vols - s.missing
	away, _ := s.away(h.ID)
	switch {
	case vols == 0:
		return text
	case away == 0 && vols == 1:
		return text + ", holds an in-sync copy of its volume"
	case away == 0:
		return text + fmt.Sprintf(", holds in-sync copies of its %d volumes", vols)
	case vols == 1:
		return text + ", its volume is reached over the network"
	default:
		return text + fmt.Sprintf(", %d of its %d volumes are reached over the network", away, vols)
	}
}
