package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/clock"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/export"
	"github.com/holdfast-cloud/holdfast/internal/history"
)

// blockClient is an initiator: it uses one volume through the export of some
// host, and goes to another host when its session dies. It reads, writes,
// zeroes and flushes, several operations at a time on distinct blocks, and
// holds what it reads against its model.
type blockClient struct {
	s         *simulation
	n         int
	vol       cluster.Volume
	rng       *rand.Rand
	model     *blockModel
	did       *history.Recorder // nil when it was judged
	since0    uint32            // the generation with which that begins
	sinceAt   int64             // and when it begins
	tag       uint64
	gen       uint32
	epoch     holdfast.Epoch // of the last session
	ops       int
	good      int // operations that ended well
	spare     [][]byte
	done      clock.Event
	since     ordered // what was written since the last flush
	lostCache bool    // and it has not been seen yet what is left of that
	marks     *marks
	forced    *forcedOpening // of its volume, as long as it has not been seen what that has left

	lately  []int // blocks that it wrote last, the last one at the end
	readers int   // who look at what it writes
	bursts  int   // in how many it is: then it writes as fast as it can, and makes sure of nothing

	held  bool // it is asked to use no session
	rests bool // and does not

	h        *host
	disk     export.Disk
	refused  error // why no session could be had last
	life     *clockLife
	patience time.Duration // with one operation, in this session
}

// clockLife names the process a session belongs to.
type clockLife struct {
	h     *host
	lives int
}

func (l *clockLife) over() bool { return l.h.agent == nil || l.h.lives != l.lives }

const (
	opPatience   = 20 * time.Second // more than any ejection; then a client gives the session up
	openPatience = 20 * time.Second
	byePatience  = 2 * time.Second // with a session that was given up
	depth        = 8
	think        = 5 * time.Millisecond
	leisure      = 300 * time.Millisecond // the same, when what was asked for is done
	watched      = 25 * time.Millisecond  // and somebody reads what it writes
	hurry        = 500 * time.Microsecond // between two rounds of who is behind
	pace         = 220                    // operations a second of all clients together; after a stall, and for one that stalls, they catch up
)

func newBlockClient(s *simulation, n int, v cluster.Volume) *blockClient {
	c := &blockClient{s: s, n: n, vol: v, rng: s.w.Rand(fmt.Sprint("client ", n)), model: newBlockModel(volumeBlocks), did: new(history.Recorder),
		done: s.c.NewEvent()}
	c.marks = newMarks(c)
	return c
}

func (c *blockClient) wait() { c.done.Wait(clock.Forever) }

func (c *blockClient) run() {
	defer c.done.Set()
	for !c.s.enough() {
		if c.held {
			if !c.rests { // and whoever asked for that may use one
				c.drop()
			}
			c.rests = true
			clock.Sleep(c.s.c, 100*time.Millisecond)
			continue
		}
		c.rests = false
		if c.disk == nil && !c.connect() {
			clock.Sleep(c.s.c, 100*time.Millisecond)
			continue
		}
		if !c.round() {
			c.drop()
		}
		c.keepPace()
	}
	c.drop()
	c.rests = true
}

// rest has the client give up its session, and reports whether it has.
func (c *blockClient) rest(limit time.Duration) bool {
	c.held = true
	for waited := time.Duration(0); waited < limit; waited += 100 * time.Millisecond {
		if c.rests {
			return true
		}
		clock.Sleep(c.s.c, 100*time.Millisecond)
	}
	return false
}

// keepPace lets the time pass until the next round, which is little for who is
// behind the pace.
func (c *blockClient) keepPace() {
	if c.bursts > 0 {
		clock.Sleep(c.s.c, time.Duration(1+c.rng.Int64N(int64(2*hurry))))
		return
	}
	if c.s.o.Steps > 0 && c.s.asked() {
		rest := leisure
		if c.readers > 0 {
			rest = watched
		}
		clock.Sleep(c.s.c, time.Duration(1+c.rng.Int64N(int64(2*rest))))
		return
	}
	ahead := c.s.begun + time.Duration(c.s.done())*time.Second/pace - c.s.c.Now()
	if ahead <= 0 || c.s.groups.rush(c.s.c.Now()) {
		clock.Sleep(c.s.c, time.Duration(1+c.rng.Int64N(int64(2*hurry))))
		return
	}
	clock.Sleep(c.s.c, time.Duration(1+c.rng.Int64N(int64(2*think))))
	clock.Sleep(c.s.c, ahead)
}

// connect opens a session at a host that serves, and learns whether the memory
// that held unflushed writes was lost since the last one.
func (c *blockClient) connect() bool {
	h := c.s.hosts[c.rng.IntN(len(c.s.hosts))]
	if !h.serving() || h.deceived(c.vol) {
		return false
	}
	life := &clockLife{h, h.lives}
	var d export.Disk
	var err error
	var rec cluster.Volume
	gaveUp := false
	ok := c.s.runOn(h, openPatience, func() {
		t := h.exports.targets[c.vol.ID.String()]
		if t == nil {
			err = holdfast.Errorf(holdfast.Unavailable, "not exported")
			return
		}
		if d, err = c.following(t).Open(false); err != nil {
			return
		}
		// The record as it is now tells the session's cache generation.
		if st, rerr := h.node.Cluster.Refresh(); rerr == nil {
			rec = st.Volumes[c.vol.ID].Val
		} else {
			d.Close()
			err = rerr
		}
		if gaveUp && err == nil {
			d.Close() // as a server does that finds its client gone
		}
	})
	if !ok || err != nil {
		gaveUp, c.refused = true, err
		if err == nil {
			c.refused = holdfast.Errorf(holdfast.Unavailable, "%s does not answer", h.name)
		}
		c.s.note("client %d: no session at %s: %v\n", c.n, h.name, err)
		return false
	}
	c.h, c.disk, c.life = h, d, life
	c.patience = opPatience >> (2 * c.rng.IntN(3)) // some give up before anybody is ejected
	c.s.res.Opened++
	if c.epoch != 0 && rec.Epoch > c.epoch {
		c.s.res.TakeOvers++
	}
	c.epoch = rec.Epoch
	if rec.Generation != c.gen {
		c.s.tell("client %d: unflushed writes may be lost (generation %d → %d)", c.n, c.gen, rec.Generation)
		c.s.res.Lost++
		c.gen = rec.Generation
		c.model.lost()
		c.marks.broken()
		c.lostCache = true
	}
	c.s.note("client %d: session at %s\n", c.n, h.name)
	if c.lostCache && !c.audit() {
		c.drop()
		return false
	}
	return true
}

// drop gives the session up.
func (c *blockClient) drop() {
	if c.disk != nil && !c.life.over() {
		d := c.disk
		c.s.runOn(c.h, byePatience, d.Close)
	}
	c.disk = nil
}

// operation is one request of a round.
type operation struct {
	req   *export.Request
	block int
	tag   uint64
	noted int      // its number in the client's history
	may   []uint64 // of a read: what the block may have held when it was submitted
	err   error
	ended bool
	given bool // given up: whatever comes of it later is not looked at
}

// round submits a few operations at once, and takes their outcomes; it reports
// whether the session is good to go on.
func (c *blockClient) round() bool {
	if c.bursts == 0 && c.rng.IntN(8) == 0 {
		return c.flush()
	}
	n := depth
	if c.bursts == 0 {
		n = 1 + c.rng.IntN(depth)
	}
	blocks := c.rng.Perm(volumeBlocks)[:n]
	var ops []*operation
	for _, b := range blocks {
		o := c.choose(b)
		ops = append(ops, o)
		if o.req.Op == export.Write && c.rng.IntN(4) == 0 { // read it while it is written
			ops = append(ops, c.reading(b))
		}
	}
	good := c.submit(ops)
	for _, o := range ops {
		if o.ended && o.req.Data != nil {
			c.spare = append(c.spare, o.req.Data)
		}
	}
	return good
}

// buffer returns the room for one block, with any content. What an operation
// borrowed comes back when it has ended, and never if it has not.
func (c *blockClient) buffer() []byte {
	if n := len(c.spare); n > 0 {
		b := c.spare[n-1]
		c.spare = c.spare[:n-1]
		return b
	}
	return make([]byte, holdfast.BlockSize)
}

func (c *blockClient) choose(b int) *operation {
	o := &operation{block: b}
	off := int64(b) * holdfast.BlockSize
	switch k := c.rng.IntN(10); {
	case k < 5 || c.bursts > 0:
		c.tag++
		o.tag = c.tag
		data := c.buffer()
		fillTag(data, c.n, b, o.tag)
		o.req = &export.Request{Op: export.Write, Off: off, Length: int64(len(data)), Data: data, FUA: c.rng.IntN(10) == 0 && c.bursts == 0}
		c.submitted(b, o.tag)
	case k < 6:
		o.req = &export.Request{Op: export.Zero, Off: off, Length: holdfast.BlockSize}
		c.submitted(b, 0)
	default:
		return c.reading(b)
	}
	return o
}

func (c *blockClient) submitted(b int, tag uint64) {
	c.model.submitted(b, tag)
	c.s.groups.submitted(c, b, tag)
	c.logged(b, tag)
}

func (c *blockClient) reading(b int) *operation {
	return &operation{block: b, may: slices.Clone(c.model.blocks[b].now),
		req: &export.Request{Op: export.Read, Off: int64(b) * holdfast.BlockSize, Length: holdfast.BlockSize, Data: c.buffer()}}
}

// submit hands the operations to the session and waits for all of them.
func (c *blockClient) submit(ops []*operation) bool {
	ev := c.s.c.NewEvent()
	left := len(ops)
	for _, o := range ops {
		c.ops++
		c.note(o)
		o.req.Done = func(_ *export.Request, err error) {
			if o.given {
				return
			}
			o.err, o.ended = err, true
			c.outcome(o)
			if left--; left == 0 {
				ev.Set()
			}
		}
	}
	defer c.giveUp(ops)
	if c.life.over() {
		return false
	}
	d := c.disk
	for _, o := range ops {
		o.req.Alone = true // its task waits for nothing else
		c.h.agent.Go(func() { d.Submit(o.req) })
	}
	for waited := time.Duration(0); left > 0; waited += 100 * time.Millisecond {
		if c.life.over() || waited > c.patience {
			return false
		}
		ev.Wait(100 * time.Millisecond)
	}
	for _, o := range ops {
		if o.err != nil && !holdfast.IsKind(o.err, holdfast.NoSpace) {
			return false
		}
	}
	return true
}

// giveUp waits no longer for what has not ended.
func (c *blockClient) giveUp(ops []*operation) {
	for _, o := range ops {
		if !o.ended {
			o.given = true
			c.outcome(o)
		}
	}
}

// outcome takes what came of an operation, at that moment. The fate of a write
// that failed or was given up is unknown: the model allows both.
func (c *blockClient) outcome(o *operation) {
	c.s.note("client %d: op %d block %d tag %d: %v %v\n", c.n, o.req.Op, o.block, o.tag, o.ended, o.err)
	good := o.ended && o.err == nil
	if good {
		c.good++
	}
	switch o.req.Op {
	case export.Write, export.Zero:
		if good {
			c.model.acknowledged(o.block, o.tag)
			c.s.groups.acknowledged(c, o.block, o.tag)
			c.landedInLog(o.block, o.tag)
			c.remember(o.block)
			c.s.members.acknowledged(c, o.req.FUA)
		} else {
			c.model.landed(o.block, o.tag)
		}
	case export.Read:
		if good {
			c.check(o)
		}
	}
	c.noteEnd(o, good)
}

func (c *blockClient) check(o *operation) {
	b := o.block
	tag, ok := tagOf(o.req.Data, c.n, b)
	if !ok {
		c.s.fail("client %d: block %d holds bytes that nobody wrote there (invariant 2)", c.n, b)
		return
	}
	if may := c.model.blocks[b]; !c.model.read(b, tag) && !slices.Contains(o.may, tag) {
		c.s.fail("client %d: block %d reads write %d, it may only hold %v (invariants 1, 6, 11)", c.n, b, tag, may.now)
	}
}

func (c *blockClient) flush() bool {
	o := &operation{block: -1, req: &export.Request{Op: export.Flush}}
	good := c.submit([]*operation{o})
	if o.ended && o.err == nil {
		c.model.flushed()
		c.marks.flushed()
		c.since = ordered{}
		c.s.members.acknowledged(c, true)
	}
	return good
}
