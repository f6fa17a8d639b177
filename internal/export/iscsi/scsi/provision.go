package scsi

import (
	"sync"

	"github.com/holdfast-cloud/holdfast/internal/export"
)

// Thresholds of thin provisioning (SBC-3 §4.7.3.8): when less space is left
// than an initiator asked to be warned of, everybody gets a unit attention.

// thresholdExponent gives the unit of threshold counts: 2^n logical blocks.
const thresholdExponent = 11 // 1 MiB of blocks of 512

// threshold is the one soft threshold of the Logical Block Provisioning page.
type threshold struct {
	on    bool
	once  bool   // SITUA: told to one nexus only
	count uint32 // available space at which to warn, in units
}

// page returns mode page 1Ch, 02h with its one descriptor (SBC-3 §6.5.9).
func (h threshold) page() []byte {
	b := make([]byte, 16+8)
	b[0], b[1] = 0x5c, 0x02
	be.PutUint16(b[2:], uint16(len(b)-4))
	if h.once {
		b[4] |= 0x01
	}
	d := b[16:]
	d[0] = 0x02 // soft, armed for decreasing
	if h.on {
		d[0] |= 0x80
	}
	d[1] = 0x01 // available space
	be.PutUint32(d[4:], h.count)
	return b
}

func (h *threshold) parse(b []byte) {
	h.once, h.on, h.count = b[4]&0x01 != 0, b[16]&0x80 != 0, be.Uint32(b[20:])
}

// spaceWatch remembers when the space was looked at, and whether the
// threshold has been told.
type spaceWatch struct {
	mu    sync.Mutex
	after int
	told  bool
}

// watchEvery is how many changes pass between two looks at the space.
const watchEvery = 64

// watchSpace looks at the space left, now and then.
func (u *Unit) watchSpace() {
	if !u.watching.Load() {
		return
	}
	u.mu.Lock()
	h, d := u.mode.threshold, u.disk
	u.mu.Unlock()
	thin, ok := d.(export.Thin)
	if !ok || !h.on {
		return
	}
	w := &u.space
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.after--; w.after > 0 {
		return
	}
	w.after = watchEvery
	_, left := thin.Space()
	below := left>>u.shift < int64(h.count)<<thresholdExponent
	tell := below && !w.told
	w.told = below
	if !tell {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, st := range u.nexuses {
		st.pending.add(SoftThreshold)
		if h.once {
			return
		}
	}
}

// logSense tells the supported log pages and the Logical Block Provisioning
// page, 0Ch: space left and used (SBC-3 §6.4.4).
func logSense(t *Task) {
	page, sub := t.CDB[2]&0x3f, t.CDB[3]
	var body []byte
	switch {
	case page == 0 && sub == 0:
		body = []byte{0x00, 0x0c}
	case page == 0x0c && sub == 0:
		t.unit.mu.Lock()
		d := t.unit.disk
		t.unit.mu.Unlock()
		if thin, ok := d.(export.Thin); ok {
			used, left := thin.Space()
			body = resource(body, 1, uint64(left)>>t.unit.shift>>thresholdExponent)
			body = resource(body, 2, uint64(used)>>t.unit.shift>>thresholdExponent)
		}
	default:
		t.end(CheckCondition, badCDB(2))
		return
	}
	b := []byte{page, sub, 0, 0}
	be.PutUint16(b[2:], uint16(len(body)))
	t.answer(append(b, body...), uint64(be.Uint16(t.CDB[7:])))
}

func resource(b []byte, parameter uint16, count uint64) []byte {
	b = be.AppendUint16(b, parameter)
	b = append(b, 0x03, 8) // binary list
	b = be.AppendUint32(b, uint32(min(count, 0xffffffff)))
	return append(b, 0x02, 0, 0, 0) // the space may be shared with other units
}
