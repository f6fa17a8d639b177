package memexport

import (
	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/export"
)

// kept is a snapshot: the volume's content at a time, without zero pages.
type kept struct {
	export.Snapshot
	pages map[int64][page]byte
}

// Keep makes a snapshot. Writes during it are in it or not.
func (t *Target) Keep(id holdfast.SnapshotID, name string) {
	k := kept{export.Snapshot{ID: id, Name: name}, map[int64][page]byte{}}
	for no := range (t.Size() + page - 1) / page {
		if p := t.pageNow(no); p != [page]byte{} {
			k.pages[no] = p
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, k)
}

// Drop forgets the snapshots of a name.
func (t *Target) Drop(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var left []kept
	for _, k := range t.kept {
		if k.Name != name {
			left = append(left, k)
		}
	}
	t.kept = left
}

func (t *Target) pageNow(no int64) (p [page]byte) {
	if g := t.group(no*page, false); g != nil {
		g.read(no*page%groupSize/page, 0, p[:])
	}
	return p
}

// Snapshots implements export.Keeper.
func (t *Target) Snapshots() ([]export.Snapshot, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []export.Snapshot
	for _, k := range t.kept {
		out = append(out, k.Snapshot)
	}
	return out, nil
}

// Changes implements export.Comparer, by content.
func (d *disk) Changes(since holdfast.SnapshotID, off, n int64, most int) ([]export.Change, error) {
	if off < 0 || n <= 0 || most <= 0 || off > d.Size()-n {
		return nil, holdfast.Errorf(holdfast.Invalid, "changes of %d bytes at %d of %d, at most %d", n, off, d.Size(), most)
	}
	d.t.mu.Lock()
	var was *kept
	for i := range d.t.kept {
		if d.t.kept[i].ID == since {
			was = &d.t.kept[i]
		}
	}
	d.t.mu.Unlock()
	if was == nil {
		return nil, holdfast.Errorf(holdfast.NotFound, "the snapshot is not there any more")
	}
	var out []export.Change
	for pos, end := off, off+n; pos < end; {
		no := pos / page
		step, dirty := min(page-pos%page, end-pos), d.t.pageNow(no) != was.pages[no]
		if k := len(out) - 1; k >= 0 && out[k].Dirty == dirty {
			out[k].Length += step
		} else if len(out) == most {
			break
		} else {
			out = append(out, export.Change{Length: step, Dirty: dirty})
		}
		pos += step
	}
	return out, nil
}
