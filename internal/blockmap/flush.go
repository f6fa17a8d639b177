package blockmap

import "github.com/holdfast-cloud/holdfast"

// Flush encodes up to limit dirty pages of r, children before parents. For each
// it asks alloc, which is told the page's level, for a PageID that no page has and
// a buffer of size bytes, and encodes the page there. It returns whether no dirty page is left; if one is,
// call it again. The bytes are the caller's to write; when they can be read
// back, it calls Landed. On a failed write the checkpoint has failed: nothing
// below r can be loaded again.
//
// On an error of alloc the pages encoded before keep their PageIDs.
func (r *Root) Flush(limit int, alloc func(level, size int) (PageID, []byte, error)) (done bool, err error) {
	return r.m.p.flush(r.m.top, r.m.level, 0, &limit, alloc)
}

func (p *Pages) flush(s slot, level int, base uint64, limit *int, alloc func(int, int) (PageID, []byte, error)) (bool, error) {
	if s.page == 0 || p.nodes[s.page].id != 0 {
		return true, nil
	}
	if in := p.nodes[s.page].inner; in != nil {
		for i := range in {
			if done, err := p.flush(in[i], level-1, base+uint64(i)*span(level-1), limit, alloc); !done || err != nil {
				return false, err
			}
		}
	}
	if *limit <= 0 {
		return false, nil
	}
	*limit--
	n := &p.nodes[s.page]
	size := encodedSize(n)
	id, b, err := alloc(level, size)
	if err != nil {
		return false, err
	}
	if id == 0 || id > MaxPageID || p.byID[id] != 0 || len(b) < size {
		return false, holdfast.Errorf(holdfast.Invalid, "block map: page id %d with a buffer of %d of %d bytes is unusable or in use", id, len(b), size)
	}
	p.encode(b[:size], id, s, level, base)
	n.id, n.landing = id, true
	p.dirty -= n.bytes()
	p.landing = append(p.landing, s.page)
	p.byID[id] = s.page
	return true, nil
}

// Landed says that all pages that Flush has encoded so far can be read back
// through their PageIDs: from now on they may be evicted.
func (p *Pages) Landed() {
	for _, h := range p.landing {
		p.nodes[h].landing = false
	}
	p.landing = p.landing[:0]
}

// AppendRoot appends the RootSize bytes from which OpenRoot makes r again. The
// root must have been flushed; else the error has kind Invalid.
func (r *Root) AppendRoot(b []byte) ([]byte, error) {
	s := r.m.top
	if s.page != 0 && r.m.p.nodes[s.page].id == 0 {
		return b, holdfast.Errorf(holdfast.Invalid, "block map: the root has dirty pages; flush it first")
	}
	b = le.AppendUint64(b, r.m.blocks)
	b = le.AppendUint64(b, uint64(s.max))
	return le.AppendUint64(b, r.m.p.word(s)), nil
}

// OpenRoot makes a root from the bytes of AppendRoot. Its pages are loaded when
// they are needed; see also Absent. Bad bytes give kind Corrupt.
func (p *Pages) OpenRoot(b []byte) (*Root, error) {
	if len(b) != RootSize {
		return nil, holdfast.Errorf(holdfast.Corrupt, "block map root: %d bytes, need %d", len(b), RootSize)
	}
	blocks, max, w := le.Uint64(b), holdfast.LSN(le.Uint64(b[8:])), le.Uint64(b[16:])
	if blocks == 0 || blocks > holdfast.MaxVolumeBlocks {
		return nil, holdfast.Errorf(holdfast.Corrupt, "block map root: %d blocks, allowed are 1 to %d", blocks, uint64(holdfast.MaxVolumeBlocks))
	}
	level := levelFor(blocks)
	s, id, ok := parseWord(max, w, level)
	if !ok {
		return nil, holdfast.Errorf(holdfast.Corrupt, "block map root: %#x with highest LSN %v is no page and no hole", w, max)
	}
	if id != 0 {
		h, err := p.refer(&Miss{ID: id, Level: level, max: max})
		if err != nil {
			return nil, err
		}
		s.page = h
	}
	return &Root{mapping{p: p, top: s, level: level, blocks: blocks}}, nil
}
