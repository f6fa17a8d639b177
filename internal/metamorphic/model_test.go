package metamorphic

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-cloud/holdfast"
)

const blockSize = holdfast.BlockSize

// cell is what one write left in a block, and stays as it is: two roots that
// share a cell share a block. nil was trimmed, zeroed or never written.
type cell [blockSize]byte

var zeroes cell

func (c *cell) bytes() []byte {
	if c == nil {
		return zeroes[:]
	}
	return c[:]
}

// root is the content of a head or of a snapshot.
type root []*cell

// at is a block; what is beyond the end was never written.
func (r root) at(i int) *cell {
	if i < len(r) {
		return r[i]
	}
	return nil
}

func (r root) size() int64 { return int64(len(r)) * blockSize }

// put overwrites a range; nil data is zeroes.
func (r root) put(off, n int64, data []byte) {
	for end := off + n; off < end; {
		i, at := off/blockSize, off%blockSize
		part := min(blockSize-at, end-off)
		switch {
		case data == nil && part == blockSize:
			r[i] = nil
		default:
			c := new(cell)
			copy(c[:], r[i].bytes())
			if data == nil {
				clear(c[at : at+part])
			} else {
				data = data[copy(c[at:at+part], data):]
			}
			r[i] = c
		}
		off += part
	}
}

// get copies a range.
func (r root) get(off, n int64) []byte {
	out := make([]byte, 0, n)
	for end := off + n; off < end; {
		i, at := off/blockSize, off%blockSize
		part := min(blockSize-at, end-off)
		out = append(out, r[i].bytes()[at:at+part]...)
		off += part
	}
	return out
}

// differs tells where content is not what the root holds; -1: nowhere.
func (r root) differs(content []byte) int {
	if len(content) != len(r)*blockSize {
		return min(len(r), len(content)/blockSize)
	}
	for i, c := range r {
		if !bytes.Equal(c.bytes(), content[i*blockSize:(i+1)*blockSize]) {
			return i
		}
	}
	return -1
}

// modelVolume is a volume, or a clone.
type modelVolume struct {
	name  string
	head  root
	snaps map[string]root
}

// model is everything there is, by names that are never used again.
type model map[string]*modelVolume

func (m model) clone() model {
	c := make(model, len(m))
	for name, v := range m {
		c[name] = &modelVolume{v.name, slices.Clone(v.head), maps.Clone(v.snaps)} // snapshots never change
	}
	return c
}

func (m model) names() []string { return slices.Sorted(maps.Keys(m)) }

func (v *modelVolume) snapNames() []string { return slices.Sorted(maps.Keys(v.snaps)) }

// apply does an operation to the model.
func (m model) apply(o op) {
	v := m[o.vol]
	switch o.kind {
	case opWrite:
		v.head.put(o.off, o.n, o.data())
	case opTrim, opZero:
		v.head.put(o.off, o.n, nil)
	case opBurst:
		for _, p := range o.parts {
			m.apply(p)
		}
	case opSnapshot:
		v.snaps[o.snap] = slices.Clone(v.head)
	case opClone:
		m[o.name] = &modelVolume{o.name, slices.Clone(v.snaps[o.snap]), map[string]root{}}
	case opRevert:
		was := len(v.head)
		v.head = append(slices.Clone(v.snaps[o.snap]), make(root, was-len(v.snaps[o.snap]))...)
	case opDrop:
		delete(v.snaps, o.snap)
	case opGrow:
		v.head = append(v.head, make(root, int(o.n)-len(v.head))...)
	case opDelete:
		delete(m, o.vol)
	}
}

// wrongDiff says what is wrong with what changed between two roots, as blocks:
// a block that holds something else must be told, one that was not written must
// not. One that was written with what it held may be either.
func wrongDiff(from, to root, told map[int]bool) string {
	for i := range to {
		a, b := from.at(i), to[i]
		switch {
		case a == b && told[i]:
			return fmt.Sprintf("block %d is told to differ, and was not touched", i)
		case !told[i] && !bytes.Equal(a.bytes(), b.bytes()):
			return fmt.Sprintf("block %d differs, and is not told", i)
		}
	}
	for i := range told {
		if i >= len(to) {
			return fmt.Sprintf("block %d is told to differ, and lies beyond the end", i)
		}
	}
	return ""
}
