package volume

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
)

func diskOf(n int) (d holdfast.DiskID)       { d.UUID[0], d.UUID[1] = byte(n), 1; return d }
func hostOf(n int) (h holdfast.HostID)       { h.UUID[0], h.UUID[1] = byte(n), 2; return h }
func replicaOf(n int) (r holdfast.ReplicaID) { r.UUID[0], r.UUID[1] = byte(n), byte(n>>8); return r }

func TestWhoIsRebuiltFirst(t *testing.T) {
	in := func(n int) []cluster.Replica { return make([]cluster.Replica, n) }
	order := []struct {
		what     string
		rec      cluster.Volume
		priority int
	}{
		{"one copy left of two, of a VM with priority", cluster.Volume{Copies: 2, InSync: in(1), Blocks: 5000}, 2},
		{"one copy left, small", cluster.Volume{Copies: 2, InSync: in(1), Blocks: 10}, 1},
		{"one copy left, large", cluster.Volume{Copies: 3, InSync: in(1), Blocks: 5000}, 1},
		{"one copy left, of a clone", cluster.Volume{Copies: 2, InSync: in(1), Blocks: 10, Origin: &cluster.Origin{}}, 2},
		{"two copies left of three", cluster.Volume{Copies: 3, InSync: in(2), Blocks: 10}, 2},
		{"the only copy moves", cluster.Volume{Copies: 1, InSync: in(1), Blocks: 10}, 2},
		{"a copy moves, large", cluster.Volume{Copies: 2, InSync: in(2), Blocks: 1 << 40}, 2},
	}
	for i := range order[1:] {
		if a, b := rankOf(&order[i].rec, order[i].priority), rankOf(&order[i+1].rec, order[i+1].priority); a >= b {
			t.Errorf("%s (%x) does not come before %s (%x)", order[i].what, a, order[i+1].what, b)
		}
	}
}

func TestSeatsAreBoundedPerHostDiskAndLink(t *testing.T) {
	d := &desk{}
	n, got := 0, 0
	ask := func(disk, peer int) bool {
		n++
		ok, _ := d.ask(claim{id: replicaOf(n), taking: true, disk: diskOf(disk), peer: hostOf(peer)}, time.Second)
		if ok {
			got++
		}
		return ok
	}
	first, second := ask(1, 1), ask(1, 1)
	if !first || !second || ask(1, 1) || ask(2, 1) {
		t.Error("a link has not two seats")
	}
	if !ask(1, 2) || ask(1, 3) || !ask(2, 3) {
		t.Error("a disk has not three seats")
	}
	for i := range 20 {
		ask(10+i, 10+i)
	}
	if got != seatsHost {
		t.Errorf("a host has %d seats, want %d", got, seatsHost)
	}
	if ok, _ := d.ask(claim{id: replicaOf(1), disk: diskOf(1), peer: hostOf(1), wake: func() {}}, time.Second); !ok {
		t.Error("a copy that leaves has to wait for those that arrive")
	}
}

func TestWhoNeedsItMostGetsTheSeatThatBecomesFree(t *testing.T) {
	d := &desk{}
	now := time.Second
	ask := func(id int, rank uint64) (bool, int) {
		return d.ask(claim{id: replicaOf(id), taking: true, disk: diskOf(1), peer: hostOf(id), rank: rank, since: now}, now)
	}
	for id := 1; id <= 3; id++ {
		if ok, _ := ask(id, 2<<rankClass); !ok {
			t.Fatalf("%d has no seat", id)
		}
	}
	ask(4, 0x7f<<rankClass) // moves
	ask(5, 1<<rankClass|9)
	if ok, ahead := ask(6, 1<<rankClass|8); ok || ahead != 3 {
		t.Errorf("%d are before the one that needs it most, want those at work, 3", ahead)
	}
	if ok, ahead := ask(4, 0x7f<<rankClass); ok || ahead != 5 {
		t.Errorf("%d are before a move, want 5", ahead)
	}
	d.leave(replicaOf(2), true)
	for _, id := range []int{4, 5} {
		if ok, _ := ask(id, []uint64{4: 0x7f << rankClass, 5: 1<<rankClass | 9}[id]); ok {
			t.Errorf("%d took the seat of one that needs it more", id)
		}
	}
	now += waitIdle + 1
	if ok, _ := ask(5, 1<<rankClass|9); !ok {
		t.Error("a seat is kept for one that does not ask any more")
	}
}

func TestASeatOfALostHostBecomesFree(t *testing.T) {
	d := &desk{}
	for id := 1; id <= 3; id++ {
		d.ask(claim{id: replicaOf(id), taking: true, disk: diskOf(1), peer: hostOf(id)}, 0)
	}
	if ok, _ := d.ask(claim{id: replicaOf(4), taking: true, disk: diskOf(1), peer: hostOf(4)}, seatIdle); ok {
		t.Error("a seat was given away while its owner may still need it")
	}
	if ok, _ := d.ask(claim{id: replicaOf(4), taking: true, disk: diskOf(1), peer: hostOf(4)}, seatIdle+1); !ok {
		t.Error("a seat of one that does not ask any more is kept for ever")
	}
}

func TestWhoWaitsLongGoesFirst(t *testing.T) {
	d := &desk{}
	ask := func(id int, rank uint64, now time.Duration) bool {
		ok, _ := d.ask(claim{id: replicaOf(id), taking: true, disk: diskOf(1), peer: hostOf(id), rank: rank, since: now}, now)
		return ok
	}
	for id := 1; id <= seatsDisk; id++ {
		ask(id, 1<<rankClass, 0)
	}
	large := uint64(1<<rankClass | 1<<30)
	now := time.Duration(0)
	for ; now <= ageFirst; now += waitIdle {
		for id := 1; id <= seatsDisk; id++ {
			ask(id, 1<<rankClass, now)
		}
		ask(10, large, now)
	}
	d.leave(replicaOf(1), true)
	if ask(11, 1<<rankClass, now) || !ask(10, large, now) {
		t.Error("a large volume starves while small ones come")
	}
}

// rebuildWorld plays the loss of a host with many volumes: hosts give and take
// copies, by the same steps as joiners do, each at a rate that its link and the
// target's disk share.
type rebuildWorld struct {
	t     *testing.T
	now   time.Duration
	desks []*desk // by host
	jobs  []*rebuildJob
	slow  map[[2]int]float64 // bytes a second of a link
	dead  map[int]bool
	most  int
}

type rebuildJob struct {
	id             int
	from, to       int
	rank           uint64
	left           float64
	since          time.Duration
	seated, done   bool
	stuck          bool
	began, ended   time.Duration
	again          time.Duration
	asked          int
	interruptions  int
	originalLength float64
}

const rebuildTick = 200 * time.Millisecond

func (w *rebuildWorld) step() {
	w.now += rebuildTick
	for _, j := range w.jobs {
		switch {
		case j.done || w.now < j.again:
		case w.dead[j.to] || w.dead[j.from]:
			if j.seated || j.stuck {
				j.seated, j.stuck, j.left = false, false, j.originalLength
				j.interruptions++
				if !w.dead[j.from] {
					w.desks[j.from].released(replicaOf(j.id))
				}
			}
			j.again = w.now + 3*time.Second
		case j.seated:
			w.ask(j) // keeps it
		default:
			ok := j.stuck
			if !ok {
				ok, _ = w.desks[j.from].ask(claim{id: replicaOf(j.id), disk: diskOf(j.to), peer: hostOf(j.to), rank: j.rank, since: j.since, wake: func() {}}, w.now)
			}
			if !ok {
				continue
			}
			if granted, ahead := w.ask(j); granted {
				w.desks[j.from].granted(replicaOf(j.id))
				j.seated, j.stuck, j.began = true, false, w.now
			} else {
				j.stuck = w.desks[j.from].refuse(replicaOf(j.id), ahead, w.now)
			}
		}
	}
	at, links := make(map[int]int), make(map[[2]int]int)
	n := 0
	for _, j := range w.jobs {
		if j.seated {
			n++
			at[j.to]++
			links[[2]int{j.from, j.to}]++
		}
	}
	w.most = max(w.most, n)
	for _, j := range w.jobs {
		if !j.seated {
			continue
		}
		link := [2]int{j.from, j.to}
		if at[j.to] > seatsDisk || links[link] > seatsLink {
			w.t.Fatalf("at %v: %d copies come to host %d, %d of them on one link", w.now, at[j.to], j.to, links[link])
		}
		rate := 100e6 / float64(at[j.to])
		if s := w.slow[link]; s > 0 {
			rate = min(rate, s/float64(links[link]))
		}
		if j.left -= rate * rebuildTick.Seconds(); j.left <= 0 {
			j.done, j.seated, j.ended = true, false, w.now
			w.desks[j.to].leave(replicaOf(j.id), true)
			w.desks[j.from].released(replicaOf(j.id))
		}
	}
}

func (w *rebuildWorld) ask(j *rebuildJob) (bool, int) {
	j.asked++
	return w.desks[j.to].ask(claim{id: replicaOf(j.id), taking: true, disk: diskOf(j.to), peer: hostOf(j.from), rank: j.rank, since: j.since}, w.now)
}

func (w *rebuildWorld) left() (n int) {
	for _, j := range w.jobs {
		if !j.done {
			n++
		}
	}
	return n
}

func newRebuildWorld(t *testing.T, hosts, volumes int) *rebuildWorld {
	w := &rebuildWorld{t: t, slow: make(map[[2]int]float64), dead: make(map[int]bool)}
	for range hosts {
		w.desks = append(w.desks, &desk{})
	}
	r := rand.New(rand.NewPCG(7, 7))
	for i := range volumes {
		from := r.IntN(hosts)
		to := (from + 1 + r.IntN(hosts-1)) % hosts
		blocks := uint64(2000 + r.IntN(60000))
		rank := rankOf(&cluster.Volume{Copies: 2, InSync: make([]cluster.Replica, 1), Blocks: blocks}, i%3)
		if i%5 == 4 {
			rank = rankOf(&cluster.Volume{Copies: 2, InSync: make([]cluster.Replica, 2), Blocks: blocks}, 2) // a move
		}
		w.jobs = append(w.jobs, &rebuildJob{id: i + 1, from: from, to: to, rank: rank, left: float64(blocks) * 4096, originalLength: float64(blocks) * 4096})
	}
	return w
}

// TestTheLossOfAHostWith500Volumes: not all at once, not one by one; nobody
// starves; redundancy before moves; the disks are kept busy.
func TestTheLossOfAHostWith500Volumes(t *testing.T) {
	for _, slow := range []bool{false, true} {
		t.Run(fmt.Sprint("slow=", slow), func(t *testing.T) {
			const hosts = 6
			w := newRebuildWorld(t, hosts, 500)
			if slow {
				for to := range hosts {
					w.slow[[2]int{0, to}] = 5e6 // host 0 is at the end of a slow line
				}
			}
			bytes := make([]float64, hosts)
			for _, j := range w.jobs {
				if !slow || j.from != 0 {
					bytes[j.to] += j.originalLength
				}
			}
			least := time.Duration(slices.Max(bytes) / 100e6 * float64(time.Second))
			others := func() (n int) {
				for _, j := range w.jobs {
					if !j.done && j.from != 0 {
						n++
					}
				}
				return n
			}
			fast := time.Duration(0)
			for w.left() > 0 && w.now < 4*time.Hour {
				w.step()
				if fast == 0 && others() == 0 {
					fast = w.now
				}
			}
			if n := w.left(); n > 0 {
				t.Fatalf("%d are not done after %v", n, w.now)
			}
			if w.most < hosts || w.most > hosts*seatsDisk {
				t.Errorf("%d at the same time", w.most)
			}
			if !slow && w.now > least*3/2 {
				t.Errorf("they took %v; the busiest disk needs %v", w.now, least)
			}
			if slow && fast > 2*least {
				t.Errorf("those that could be fast took %v beside slow ones; the busiest disk needs %v", fast, least)
			}
			lastRedundancy, firstMove := make([]time.Duration, hosts), make([]time.Duration, hosts)
			asked := 0
			for _, j := range w.jobs {
				asked += j.asked
				if j.rank>>rankClass == 0x7f {
					if firstMove[j.to] == 0 || j.began < firstMove[j.to] {
						firstMove[j.to] = j.began
					}
				} else {
					lastRedundancy[j.to] = max(lastRedundancy[j.to], j.began)
				}
			}
			if perSecond := float64(asked) / w.now.Seconds(); perSecond > 300 {
				t.Errorf("hosts asked each other %.0f times a second", perSecond)
			}
			t.Logf("took %v (at least %v, fast ones %v), at most %d at once, %d questions; last begun %v, first move %v", w.now, least, fast, w.most, asked, lastRedundancy, firstMove)
		})
	}
}

// TestHostsGoAwayInTheMiddle: their rebuilds begin again when they are back, and
// the others do not wait for them.
func TestHostsGoAwayInTheMiddle(t *testing.T) {
	const hosts = 4
	w := newRebuildWorld(t, hosts, 200)
	r := rand.New(rand.NewPCG(1, 2))
	interrupted := 0
	for w.left() > 0 && w.now < 4*time.Hour {
		w.step()
		if w.now%(20*time.Second) == 0 && w.now < 10*time.Minute {
			h := r.IntN(hosts)
			if w.dead[h] = !w.dead[h]; !w.dead[h] {
				w.desks[h] = &desk{} // what it knew is gone
				for _, j := range w.jobs {
					if j.from == h {
						j.seated, j.stuck = false, false
					}
				}
			}
		} else if w.now >= 10*time.Minute {
			clear(w.dead)
		}
	}
	for _, j := range w.jobs {
		interrupted += j.interruptions
	}
	if n := w.left(); n > 0 || interrupted == 0 {
		t.Errorf("%d are not done after %v; %d were interrupted", n, w.now, interrupted)
	}
}
