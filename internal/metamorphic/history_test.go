package metamorphic

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
)

// opKind is what an operation does.
type opKind uint8

const (
	opWrite opKind = iota
	opBurst        // several writes, trims and zeroes at once, beside each other
	opTrim
	opZero
	opFlush
	opRead
	opSnapshot
	opClone  // a linked clone of a snapshot becomes volume name
	opRevert // the head becomes a snapshot again
	opDrop   // a snapshot goes
	opGrow   // to n blocks
	opDelete // the volume goes
)

// op is one operation. Offsets and lengths are bytes of any alignment.
type op struct {
	kind    opKind
	vol     string
	off, n  int64
	content uint64 // of a write: what data makes the bytes of
	texture texture
	fua     bool
	parts   []op
	snap    string
	name    string // of a clone
	want    []byte // of a read
}

func (o op) String() string {
	switch o.kind {
	case opBurst:
		return fmt.Sprintf("%s: %d at once: %v", o.vol, len(o.parts), o.parts)
	case opFlush:
		return o.vol + ": flush"
	case opSnapshot, opRevert, opDrop:
		return fmt.Sprintf("%s: %s %s", o.vol, map[opKind]string{opSnapshot: "snapshot", opRevert: "revert to", opDrop: "drop"}[o.kind], o.snap)
	case opClone:
		return fmt.Sprintf("%s: clone %s as %s", o.vol, o.snap, o.name)
	case opGrow:
		return fmt.Sprintf("%s: grow to %d blocks", o.vol, o.n)
	case opDelete:
		return o.vol + ": delete"
	}
	verb := map[opKind]string{opWrite: "write", opTrim: "trim", opZero: "zero", opRead: "read"}[o.kind]
	return fmt.Sprintf("%s: %s %d bytes at %d (block %d)", o.vol, verb, o.n, o.off, o.off/blockSize)
}

// texture is what the bytes of a write look like to a compressor.
type texture uint8

const (
	noise   texture = iota // that it cannot shrink
	words                  // that it shrinks well
	striped                // noise and words by turns
	blank                  // zeroes that were written as data
	textures
)

// data makes the bytes of a write.
func (o op) data() []byte {
	b := make([]byte, o.n)
	rng := rand.New(rand.NewPCG(o.content, uint64(o.texture)))
	for i := 0; i < len(b); i += 512 {
		part := b[i:min(i+512, len(b))]
		switch {
		case o.texture == blank:
		case o.texture == words || o.texture == striped && i/512%3 == 0:
			for k := range part {
				part[k] = byte(o.content>>(k%4)) | byte(i>>8)
			}
		default:
			for k := 0; k < len(part); k += 8 {
				var w [8]byte
				binary.LittleEndian.PutUint64(w[:], rng.Uint64())
				copy(part[k:], w[:])
			}
		}
	}
	return b
}

// step is what is done up to a flush of everything, and what must be there then.
type step struct {
	ops    []op
	strike int // before which operation something breaks; negative: it does not
	want   model
}

// history is what is done, whatever it is done to.
type history struct {
	seed   uint64
	blocks int // of the first volume
	steps  []step
}

const firstVolume = "v0"

const (
	maxVolumes   = 4
	maxSnapshots = 4 // of a volume
)

// generator makes a history; the model tells it what is possible.
type generator struct {
	rng         *rand.Rand
	m           model
	made, snaps int
	large       bool
}

// newHistory makes the history of a seed.
func newHistory(seed uint64) *history {
	g := &generator{rng: rand.New(rand.NewPCG(seed, 0x5eed)), m: make(model)}
	h := &history{seed: seed, blocks: 24 + g.rng.IntN(200)}
	if g.large = g.rng.IntN(3) == 0; g.large { // several pages of the map
		h.blocks = 1030 + g.rng.IntN(200)
	}
	g.m[firstVolume] = &modelVolume{firstVolume, make(root, h.blocks), map[string]root{}}
	for range 5 + g.rng.IntN(4) {
		st := step{strike: -1}
		for range 5 + g.rng.IntN(10) {
			o := g.next()
			if o.kind == opRead {
				o.want = g.m[o.vol].head.get(o.off, o.n)
			}
			g.m.apply(o)
			st.ops = append(st.ops, o)
		}
		if g.rng.IntN(3) > 0 {
			st.strike = g.rng.IntN(len(st.ops))
		}
		st.want = g.m.clone()
		h.steps = append(h.steps, st)
	}
	return h
}

// next chooses an operation that is possible.
func (g *generator) next() op {
	names := g.m.names()
	v := g.m[names[g.rng.IntN(len(names))]]
	snap := ""
	if all := v.snapNames(); len(all) > 0 {
		snap = all[g.rng.IntN(len(all))]
	}
	switch k := g.rng.IntN(100); {
	case k < 12:
		return g.burst(v)
	case k < 16:
		return op{kind: opFlush, vol: v.name}
	case k < 24:
		off, n := g.span(v.head.size())
		return op{kind: opRead, vol: v.name, off: off, n: n}
	case k < 38 && len(v.snaps) < maxSnapshots:
		g.snaps++
		return op{kind: opSnapshot, vol: v.name, snap: fmt.Sprintf("s%02d", g.snaps)}
	case k < 44 && snap != "" && len(g.m) < maxVolumes:
		g.made++
		return op{kind: opClone, vol: v.name, snap: snap, name: fmt.Sprintf("v%d", g.made)}
	case k < 49 && snap != "":
		return op{kind: opRevert, vol: v.name, snap: snap}
	case k < 54 && snap != "":
		return op{kind: opDrop, vol: v.name, snap: snap}
	case k >= 54 && k < 58 && len(v.head) < 1400:
		return op{kind: opGrow, vol: v.name, n: int64(len(v.head) + 1 + g.rng.IntN(60))}
	case k >= 58 && k < 60 && v.name != firstVolume:
		return op{kind: opDelete, vol: v.name}
	}
	off, n := g.span(v.head.size())
	return g.change(v.name, off, n)
}

// change writes, trims or zeroes a range.
func (g *generator) change(vol string, off, n int64) op {
	o := op{kind: opWrite, vol: vol, off: off, n: n, fua: g.rng.IntN(8) == 0}
	switch g.rng.IntN(6) {
	case 0:
		o.kind = opTrim
	case 1:
		o.kind = opZero
	default:
		o.content, o.texture = g.rng.Uint64(), texture(g.rng.IntN(int(textures)))
	}
	return o
}

// span chooses a range of any alignment, often where others are.
func (g *generator) span(size int64) (off, n int64) {
	off = g.rng.Int64N(size)
	if g.rng.IntN(2) == 0 {
		off = g.rng.Int64N(min(size, 32*blockSize))
	}
	switch g.rng.IntN(8) {
	case 0, 1:
		n = 1 + g.rng.Int64N(blockSize)
	case 2:
		n = 1 + g.rng.Int64N(90*blockSize)
	default:
		n = 1 + g.rng.Int64N(12*blockSize)
	}
	unit := []int64{1, 512, blockSize, blockSize}[g.rng.IntN(4)]
	off = off / unit * unit
	n = (n + unit - 1) / unit * unit
	return off, min(n, size-off)
}

// burst changes parts of a few blocks at once: they share blocks, no bytes.
func (g *generator) burst(v *modelVolume) op {
	at := g.rng.Int64N(int64(len(v.head))) * blockSize
	window := min(v.head.size()-at, int64(1+g.rng.IntN(4))*blockSize)
	var cuts []int64
	for range 3 + g.rng.IntN(6) {
		cuts = append(cuts, g.rng.Int64N(window+1))
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	o := op{kind: opBurst, vol: v.name}
	for i := 1; i < len(cuts); i++ {
		o.parts = append(o.parts, g.change(v.name, at+cuts[i-1], cuts[i]-cuts[i-1]))
	}
	g.rng.Shuffle(len(o.parts), func(i, k int) { o.parts[i], o.parts[k] = o.parts[k], o.parts[i] })
	return o
}
