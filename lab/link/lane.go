package link

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

// Bounds of what a lane keeps.
const (
	maxWaiting = time.Second // of sending at the lane's rate; beyond it packets are dropped, as by a modem
	maxHeld    = 32 << 20    // bytes under way
)

// lane is one direction of a line. It decides when each packet arrives, and is
// as pure as its source of chance. It belongs to whoever holds the lock of its
// switch.
type lane struct {
	shape Shape
	rng   *rand.Rand
	free  time.Duration // when the line has sent what it has taken
	last  time.Duration // arrival of the last packet: the order stays
	held  int           // bytes under way
	count Count
}

// Count is what became of a lane's packets.
type Count struct {
	Carried int64 `json:"carried"` // taken, arrived or on their way
	Bytes   int64 `json:"bytes"`
	Lost    int64 `json:"lost"`    // by chance
	Dropped int64 `json:"dropped"` // for want of room: more came than the rate takes
}

// offer takes a packet of so many bytes at now, and says when it arrives; ok is
// false if it does not.
func (l *lane) offer(now time.Duration, size int) (due time.Duration, ok bool) {
	if l.shape.Loss > 0 && l.rng.Float64() < l.shape.Loss {
		l.count.Lost++
		return 0, false
	}
	sent := now
	if l.shape.Rate > 0 {
		sent = max(l.free, now) + time.Duration(float64(size)*8/float64(l.shape.Rate)*float64(time.Second))
	}
	if sent-now > maxWaiting || l.held+size > maxHeld {
		l.count.Dropped++
		return 0, false
	}
	l.free = sent
	due = sent + l.shape.Delay
	if l.shape.Jitter > 0 {
		due += time.Duration(l.rng.Int64N(int64(l.shape.Jitter) + 1))
	}
	due = max(due, l.last)
	l.last = due
	l.held += size
	l.count.Carried++
	l.count.Bytes += int64(size)
	return due, true
}

// arrived takes a packet that was offered off the line.
func (l *lane) arrived(size int) { l.held -= size }

// packet is under way.
type packet struct {
	due   time.Duration
	order uint64 // of what is due at once
	data  []byte
	lane  *lane
}

// transit are the packets under way, the next to arrive first. It implements
// heap.Interface.
type transit []packet

func (t transit) Len() int      { return len(t) }
func (t transit) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t transit) Less(i, j int) bool {
	return t[i].due < t[j].due || t[i].due == t[j].due && t[i].order < t[j].order
}

// Push implements heap.Interface.
func (t *transit) Push(x any) { *t = append(*t, x.(packet)) }

// Pop implements heap.Interface.
func (t *transit) Pop() any {
	last := len(*t) - 1
	p := (*t)[last]
	(*t)[last] = packet{}
	*t = (*t)[:last]
	return p
}

// next takes the first packet if it is due, or says how long until it is; -1
// if there is none.
func (t *transit) next(now time.Duration) (p packet, ok bool, wait time.Duration) {
	if len(*t) == 0 {
		return packet{}, false, -1
	}
	if d := (*t)[0].due - now; d > 0 {
		return packet{}, false, d
	}
	return heap.Pop(t).(packet), true, 0
}
