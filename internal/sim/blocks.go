package sim

import (
	"encoding/binary"
	"slices"

	"github.com/holdfast-cloud/holdfast"
)

// blockModel is what the blocks of one volume may hold, as its one client
// knows it. Every write has a tag that rises, so a content tells which write it
// is; tag 0 is a block never written, or zeroed.
type blockModel struct {
	blocks   []blockState
	watchers [][][]uint64
}

// watch returns what the blocks may hold from now on until unwatch.
func (m *blockModel) watch() [][]uint64 {
	w := make([][]uint64, len(m.blocks))
	for i := range m.blocks {
		w[i] = slices.Clone(m.blocks[i].now)
	}
	m.watchers = append(m.watchers, w)
	return w
}

// fallBack adds to what the blocks may hold what they may have fallen back to
// before, if the memory of all replicas was lost and the client has not heard.
func (m *blockModel) fallBack(w [][]uint64) {
	for i := range m.blocks {
		for _, tag := range m.blocks[i].floor {
			w[i] = with(w[i], tag)
		}
	}
}

func (m *blockModel) unwatch(w [][]uint64) {
	m.watchers = slices.DeleteFunc(m.watchers, func(x [][]uint64) bool { return &x[0] == &w[0] })
}

// blockState is one block: what it may hold now, and what it may fall back to
// if the memory of all replicas is lost.
type blockState struct {
	now    []uint64 // one entry unless the fate of a write is unknown
	floor  []uint64 // since the last flush; always holds what now holds
	flying []uint64 // of now, those whose writes are under way
}

func newBlockModel(n int) *blockModel {
	m := &blockModel{blocks: make([]blockState, n)}
	for i := range m.blocks {
		m.blocks[i] = blockState{now: []uint64{0}, floor: []uint64{0}}
	}
	return m
}

// clone returns a copy that nobody watches.
func (m *blockModel) clone() *blockModel {
	c := &blockModel{blocks: make([]blockState, len(m.blocks))}
	for i, b := range m.blocks {
		c.blocks[i] = blockState{now: slices.Clone(b.now), floor: slices.Clone(b.floor), flying: slices.Clone(b.flying)}
	}
	return c
}

func with(set []uint64, tag uint64) []uint64 {
	if slices.Contains(set, tag) {
		return set
	}
	return append(set, tag)
}

// submitted notes that a write is under way: from now on its content may be
// seen, and may be what is left.
func (m *blockModel) submitted(b int, tag uint64) {
	s := &m.blocks[b]
	s.now, s.floor, s.flying = with(s.now, tag), with(s.floor, tag), append(s.flying, tag)
	for _, w := range m.watchers {
		w[b] = with(w[b], tag)
	}
}

// acknowledged notes that a write is done: nothing else can be seen.
func (m *blockModel) acknowledged(b int, tag uint64) {
	m.landed(b, tag)
	m.blocks[b].now = []uint64{tag}
}

// landed notes that a write is not under way any more, whatever became of it.
func (m *blockModel) landed(b int, tag uint64) {
	s := &m.blocks[b]
	if i := slices.Index(s.flying, tag); i >= 0 {
		s.flying = slices.Delete(s.flying, i, i+1)
	}
}

// flushed notes that everything is durable; no write was under way.
func (m *blockModel) flushed() {
	for i := range m.blocks {
		s := &m.blocks[i]
		s.floor = slices.Clone(s.now)
	}
}

// lost notes that the memory of all replicas went.
func (m *blockModel) lost() {
	for i := range m.blocks {
		s := &m.blocks[i]
		s.now = slices.Clone(s.floor)
	}
}

// mayRevert notes that the volume may be set back to a snapshot.
func (m *blockModel) mayRevert(may [][]uint64) {
	for i := range m.blocks {
		s := &m.blocks[i]
		for _, tag := range may[i] {
			s.now, s.floor = with(s.now, tag), with(s.floor, tag)
			for _, w := range m.watchers {
				w[i] = with(w[i], tag)
			}
		}
	}
}

// reverted notes that the volume was set back to a snapshot, durably.
func (m *blockModel) reverted(may [][]uint64) {
	for i := range m.blocks {
		m.blocks[i] = blockState{now: slices.Clone(may[i]), floor: slices.Clone(may[i])}
	}
}

// forced notes that the volume is what one replica holds, and may be any of that
// until it was read.
func (m *blockModel) forced(may [][]uint64) {
	m.mayRevert(may)
	m.reverted(may)
}

// read checks a content that was read and learns from it: what was served is
// what the block holds, and writes that were not part of it never come back
// (invariant 11).
func (m *blockModel) read(b int, tag uint64) bool {
	s := &m.blocks[b]
	if !slices.Contains(s.now, tag) {
		return false
	}
	if tag != 0 { // zeroes do not tell which write they are
		gone := func(t uint64) bool { return t > tag && slices.Contains(s.now, t) && !slices.Contains(s.flying, t) }
		s.floor = slices.DeleteFunc(slices.Clone(s.floor), gone)
	}
	s.floor = with(s.floor, tag)
	s.now = []uint64{tag}
	if !slices.Contains(s.flying, tag) {
		for _, t := range s.flying { // it may still come
			s.now = with(s.now, t)
		}
	}
	return true
}

// fillTag writes a block's content for a tag: the volume's number, the address
// and the tag, over and over.
func fillTag(b []byte, vol, block int, tag uint64) {
	if tag == 0 {
		clear(b)
		return
	}
	for i := 0; i < len(b); i += 16 {
		binary.LittleEndian.PutUint64(b[i:], tag)
		binary.LittleEndian.PutUint32(b[i+8:], uint32(block))
		binary.LittleEndian.PutUint32(b[i+12:], uint32(vol))
	}
}

// tagOf reads a block's tag; ok is false if it is not wholly one write's.
func tagOf(b []byte, vol, block int) (tag uint64, ok bool) {
	tag = binary.LittleEndian.Uint64(b)
	var want [holdfast.BlockSize]byte
	fillTag(want[:], vol, block, tag)
	return tag, string(want[:]) == string(b)
}
