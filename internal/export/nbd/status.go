package nbd

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// maxExtents bounds the descriptors of one block status reply, all contexts
// together; a client asks again from where the reply ends.
const maxExtents = 2048

// description is what one context says of a range.
type description struct {
	id   uint32
	runs []stretch
}

// stretch is a run of bytes in one state.
type stretch struct {
	length int64
	state  uint32
}

// blockStatus answers NBD_CMD_BLOCK_STATUS on a goroutine of its own, since
// asking the disk blocks. It is no part of the hot path.
func (sl *slot) blockStatus() {
	s := sl.s
	said, err := sl.describe()
	if endsSession(err) {
		s.end(err)
	}
	sl.finish(false, func(b *batch) bool {
		if err != nil {
			sl.appendError(b, errnoOf(err), err.Error())
			return false
		}
		for i, d := range said {
			flags := uint16(0)
			if i == len(said)-1 {
				flags = chunkDone
			}
			sl.appendStatus(b, flags, d)
		}
		return false
	})
}

// describe asks the disk about every context that the request is about.
func (sl *slot) describe() (out []description, err error) {
	var wanted []uint32
	for i := range uint32(len(sl.s.contexts)) {
		if sl.cmd.only == 0 || sl.cmd.only>>i&1 != 0 {
			wanted = append(wanted, i)
		}
	}
	most := maxExtents / len(wanted)
	if sl.cmd.flags&cfReqOne != 0 {
		most = 1
	}
	for _, i := range wanted {
		c := sl.s.contexts[i]
		runs, err := sl.stretches(c, most)
		if err == nil && len(runs) == 0 {
			err = holdfast.Errorf(holdfast.IO, "the volume does not know what it holds at %d", sl.cmd.off)
		}
		if err != nil {
			return nil, holdfast.Errorf(holdfast.KindOf(err), "%s: %w", clip(c.name), err)
		}
		out = append(out, description{firstContext + i, runs})
	}
	return out, nil
}

// stretches asks the disk about one context.
func (sl *slot) stretches(c context, most int) (out []stretch, err error) {
	disk, off, n := sl.s.disk, int64(sl.cmd.off), int64(sl.cmd.length)
	if c.since.IsZero() {
		extents, err := disk.Extents(off, n, most)
		for _, x := range extents {
			out = append(out, stretch{x.Length, stateOf(x)})
		}
		return out, err
	}
	cmp, can := disk.(export.Comparer)
	if !can {
		return nil, holdfast.Errorf(holdfast.Unavailable, "the volume cannot be compared here")
	}
	changes, err := cmp.Changes(c.since, off, n, most)
	for _, x := range changes {
		state := uint32(0)
		if x.Dirty {
			state = stateDirty
		}
		out = append(out, stretch{x.Length, state})
	}
	return out, err
}

// appendStatus appends what one context says.
func (sl *slot) appendStatus(b *batch, flags uint16, d description) {
	if sl.s.extended {
		sl.chunk(b, flags, chunkStatusExt, 8+16*len(d.runs))
		b.Buf = be.AppendUint32(b.Buf, d.id)
		b.Buf = be.AppendUint32(b.Buf, uint32(len(d.runs)))
		for _, x := range d.runs {
			b.Buf = be.AppendUint64(b.Buf, uint64(x.length))
			b.Buf = be.AppendUint64(b.Buf, uint64(x.state))
		}
		return
	}
	sl.chunk(b, flags, chunkBlockStatus, 4+8*len(d.runs))
	b.Buf = be.AppendUint32(b.Buf, d.id)
	for _, x := range d.runs {
		b.Buf = be.AppendUint32(b.Buf, uint32(x.length))
		b.Buf = be.AppendUint32(b.Buf, x.state)
	}
}

func stateOf(x export.Extent) uint32 {
	if x.Hole {
		return stateHole | stateZero
	}
	return 0
}
