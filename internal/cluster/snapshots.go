package cluster

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// The snapshots of a volume are too many for one record. They stand in pages
// below the volume's key, which change only in commits that change the volume's
// record too: its revision speaks for all of them.

// MaxSnapshots bounds the snapshots of a volume, hidden ones included.
const MaxSnapshots = 12_000

const (
	pageSnapshots = 250 // in one page: about 60 KB
	freshPage     = 90  // a page with so many takes no new one: then MaxGroup of them fit one commit
	crowd         = 48  // pages from which on neighbours with room for each other are joined
	fullHouse     = 95  // the same in a commit of several volumes, which has less room
	maxPages      = 100 // so that one commit can delete them
	pageDir       = "/snapshots/"
)

// snapPage is the record of one page.
type snapPage struct {
	Volume    holdfast.VolumeID `json:"volume"`
	Snapshots []Snapshot        `json:"snapshots"`
	mod       kv.Rev
}

// pages are those of one volume by number; a picture's never change.
type pages map[int]snapPage

func pageKey(vol holdfast.VolumeID, n int) string {
	return fmt.Sprintf("%s%s%s%06d", dirVolume, vol, pageDir, n)
}

// parsePageKey tells whose page a key names; ok is false if it names none.
func parsePageKey(key string) (vol holdfast.VolumeID, n int, ok bool) {
	id, num, found := strings.Cut(strings.TrimPrefix(key, dirVolume), pageDir)
	if !found {
		return vol, 0, false
	}
	vol, err := volumeID(id)
	if err == nil {
		n, err = strconv.Atoi(num)
	}
	return vol, n, err == nil && n >= 0 && key == pageKey(vol, n)
}

// isPage reports whether a key below dirVolume is not that of a volume.
func isPage(key string) bool { return strings.Contains(key[len(dirVolume):], "/") }

func decodePage(it kv.Item) (vol holdfast.VolumeID, n int, p snapPage, err error) {
	vol, n, ok := parsePageKey(it.Key)
	switch {
	case !ok:
		return vol, n, p, fmt.Errorf("no page of snapshots has such a key")
	case len(it.Value) > kv.MaxValue:
		return vol, n, p, fmt.Errorf("%d bytes, at most %d are allowed", len(it.Value), kv.MaxValue)
	}
	if err = json.Unmarshal(it.Value, &p); err != nil {
		return vol, n, p, err
	}
	if p.mod = it.Mod; p.Volume != vol || len(p.Snapshots) > pageSnapshots {
		return vol, n, p, fmt.Errorf("it is of volume %s and has %d snapshots", p.Volume, len(p.Snapshots))
	}
	for i := range p.Snapshots {
		if p.Snapshots[i].ID.IsZero() {
			return vol, n, p, fmt.Errorf("a snapshot has no identifier")
		}
	}
	return vol, n, p, nil
}

// list is all snapshots of the pages, in the order of their making.
func (ps pages) list() []Snapshot {
	var out []Snapshot
	for _, n := range slices.Sorted(maps.Keys(ps)) {
		out = append(out, ps[n].Snapshots...)
	}
	return out
}

// plan tells what to put and delete so that the pages hold what is wanted. A
// snapshot stays where it is; new ones go to the end. Above so many pages as
// crowd says, neighbours are joined.
func (ps pages) plan(want []Snapshot, crowd int) (put map[int][]Snapshot, del []int) {
	where := make(map[holdfast.SnapshotID]int)
	last := 0
	for n, p := range ps {
		last = max(last, n)
		for i := range p.Snapshots {
			where[p.Snapshots[i].ID] = n
		}
	}
	next := make(map[int][]Snapshot)
	var fresh []Snapshot
	for _, s := range want {
		if n, ok := where[s.ID]; ok {
			next[n] = append(next[n], s)
		} else {
			fresh = append(fresh, s)
		}
	}
	for _, s := range fresh {
		if len(next[last]) >= freshPage {
			last++
		}
		next[last] = append(next[last], s)
	}
	join(next, crowd)
	put = make(map[int][]Snapshot)
	for n, list := range next {
		if !slices.Equal(list, ps[n].Snapshots) {
			put[n] = list
		}
	}
	for n := range ps {
		if len(next[n]) == 0 {
			del = append(del, n)
		}
	}
	slices.Sort(del)
	return put, del
}

// join puts neighbours together while there are many pages, so that there are
// never more than maxPages.
func join(next map[int][]Snapshot, crowd int) {
	nums := slices.Sorted(maps.Keys(next))
	for i := 0; i+1 < len(nums) && len(next) > crowd; i++ {
		a, b := nums[i], nums[i+1]
		if len(next[a])+len(next[b]) <= pageSnapshots {
			next[b] = append(slices.Clip(next[a]), next[b]...)
			delete(next, a)
		}
	}
}

// volumePut is a put or delete of a volume whose pages are to follow.
type volumePut struct {
	id   holdfast.VolumeID
	mod  kv.Rev
	want []Snapshot
}

// pageOps returns the operations on the pages of the volumes that t puts and
// deletes.
func (t *Txn) pageOps() ([]kv.Op, error) {
	var ops []kv.Op
	most := crowd
	if len(t.vols) > 1 {
		most = fullHouse
	}
	for _, v := range t.vols {
		if len(v.want) > MaxSnapshots {
			return nil, holdfast.Errorf(holdfast.Invalid, "a volume can have %d snapshots, no more; delete some", MaxSnapshots)
		}
		if t.c.unchanged(v) {
			continue
		}
		ps, err := t.c.pagesAt(v)
		if err != nil {
			return nil, err
		}
		put, del := ps.plan(v.want, most)
		for _, n := range slices.Sorted(maps.Keys(put)) {
			b, err := json.Marshal(snapPage{Volume: v.id, Snapshots: put[n]})
			if err != nil {
				return nil, holdfast.Errorf(holdfast.Invalid, "snapshots of volume %s: %w", v.id.Short(), err)
			}
			ops = append(ops, kv.Op{Key: pageKey(v.id, n), Value: b})
		}
		for _, n := range del {
			ops = append(ops, kv.Op{Key: pageKey(v.id, n), Delete: true})
		}
	}
	return ops, nil
}

// unchanged reports whether what is wanted is the picture's own list.
func (c *Client) unchanged(v volumePut) bool {
	at, ok := c.State().Volumes[v.id]
	have := at.Val.Snapshots
	return ok && at.Mod == v.mod && len(have) == len(v.want) && (len(have) == 0 || &have[0] == &v.want[0])
}

// pagesAt returns the pages as they are while the volume's record stands at the
// revision that the change is conditional on.
func (c *Client) pagesAt(v volumePut) (pages, error) {
	if v.mod == 0 {
		return nil, nil
	}
	st := c.State()
	if at, ok := st.Volumes[v.id]; ok && at.Mod == v.mod {
		return st.pages[v.id], nil
	}
	rec, ps, err := c.readVolume(v.id)
	if holdfast.IsKind(err, holdfast.NotFound) || err == nil && rec.Mod != v.mod {
		err = holdfast.Errorf(holdfast.Conflict, "volume %s was changed by somebody else; read it again and retry", v.id.Short())
	}
	return ps, err
}

// readVolume reads a volume's record and pages as of one revision.
func (c *Client) readVolume(id holdfast.VolumeID) (v Versioned[Volume], ps pages, err error) {
	k := volumeKind()
	key := k.key(id.String())
	items, _, err := c.st.Range(key)
	if err != nil {
		return v, nil, err
	}
	ps = make(pages)
	for _, it := range items {
		switch {
		case it.Key == key:
			v.Mod = it.Mod
			v.Val, err = decode(k, it.Key, it.Value)
		case isPage(it.Key):
			var n int
			var p snapPage
			_, n, p, err = decodePage(it)
			ps[n] = p
		}
		if err != nil {
			return v, nil, holdfast.Errorf(holdfast.Corrupt, "%s cannot be read: %w", it.Key, err)
		}
	}
	if v.Mod == 0 {
		return v, nil, holdfast.Errorf(holdfast.NotFound, "volume %s does not exist", id.Short())
	}
	v.Val.Snapshots = ps.list()
	return v, ps, nil
}

// putPage paints a page; attach gives the volumes what has changed.
func (p *painter) putPage(it kv.Item, old *State) {
	vol, n, _ := parsePageKey(it.Key)
	if last, ok := old.pages[vol][n]; ok && last.mod == it.Mod { // as it was read before
		p.pagesOf(vol)[n] = last
		p.good(it.Key)
		return
	}
	_, _, page, err := decodePage(it)
	if err != nil {
		p.bad(it.Key, fmt.Errorf("snapshots: %w", err))
		if last, ok := old.pages[vol][n]; ok {
			p.pagesOf(vol)[n] = last
		}
		return
	}
	p.pagesOf(vol)[n] = page
	p.good(it.Key)
}

func (p *painter) removePage(key string) {
	if vol, n, ok := parsePageKey(key); ok {
		delete(p.pagesOf(vol), n)
	}
}

// pagesOf returns a volume's pages to be changed.
func (p *painter) pagesOf(vol holdfast.VolumeID) pages {
	own(p, "pages", &p.s.pages)
	if !p.pages[vol] {
		p.pages[vol] = true
		ps := maps.Clone(p.s.pages[vol])
		if ps == nil {
			ps = make(pages)
		}
		p.s.pages[vol] = ps
	}
	return p.s.pages[vol]
}

// attach gives every volume that was painted, or whose pages were, its
// snapshots.
func (p *painter) attach(old *State) {
	for id := range p.pages {
		if len(p.s.pages[id]) == 0 {
			delete(p.s.pages, id)
		}
		v, ok := p.s.Volumes[id]
		if !ok {
			continue
		}
		own(p, dirVolume, &p.s.Volumes)
		v.Val.Snapshots = p.s.pages[id].list()
		p.s.Volumes[id] = v
	}
	for id := range p.volumes {
		if v, ok := p.s.Volumes[id]; ok && !p.pages[id] {
			v.Val.Snapshots = old.Volumes[id].Val.Snapshots
			p.s.Volumes[id] = v
		}
	}
}
