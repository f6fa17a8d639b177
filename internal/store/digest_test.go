package store

import (
	"fmt"
	"slices"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

// digests folds a whole root.
func digests(p *Pin, root, against holdfast.SnapshotID, upto holdfast.LSN) (all []Digest, err error) {
	at := uint64(0)
	for more := true; more; {
		var out []Digest
		if out, at, more, err = p.Digests(root, against, upto, at); err != nil {
			return nil, err
		}
		all = append(all, out...)
	}
	return all, nil
}

// sameDigests compares all roots of two pins, each with what it descends from
// and by itself.
func sameDigests(p, q *Pin) error {
	roots := append(p.Roots(), PinnedRoot{Parent: p.Parent()})
	for _, k := range roots {
		for _, against := range []holdfast.SnapshotID{{}, k.Parent} {
			a, err := digests(p, k.ID, against, p.LSN())
			if err != nil {
				return err
			}
			b, err := digests(q, k.ID, against, p.LSN())
			if err != nil {
				return err
			}
			if !slices.Equal(a, b) {
				return fmt.Errorf("root %s against %s: the digests are %v and %v", k.ID, against, a, b)
			}
		}
	}
	return nil
}

// headDigests folds the head of a volume as it is.
func (v *vol) headDigests(upto holdfast.LSN) (out []Digest) {
	v.b.t.Helper()
	v.b.run(func() (err error) {
		p := v.r().Pin()
		defer p.Release()
		out, err = digests(p, holdfast.SnapshotID{}, holdfast.SnapshotID{}, upto)
		return err
	})
	return out
}

// TestADigestTellsEveryDifference: content, LSN, a zero that never was, and
// what was never written each show, in the stretch where they are.
func TestADigestTellsEveryDifference(t *testing.T) {
	b := newBed(t, 50)
	play := func(n byte, odd func(v *vol)) []Digest {
		v := b.create(n, 3000)
		if odd == nil {
			odd = func(v *vol) { v.write(700, 7); v.zero(1500, 700) }
		}
		v.write(5, 1, 2, 3)
		odd(v)
		v.write(2999, 9)
		v.stable()
		out := v.headDigests(v.state().Prefix)
		v.b.gone(v)
		return out
	}
	at := func(ds []Digest) (out []uint64) {
		for _, d := range ds {
			out = append(out, d.Addr)
		}
		return out
	}
	base := play(1, nil)
	if want := []uint64{0, 512, 1024, 1536, 2048, 2560}; !slices.Equal(at(base), want) {
		t.Fatalf("stretches %v, want %v", at(base), want)
	}
	if n := base[2].Blocks + base[3].Blocks + base[4].Blocks; n != 700 {
		t.Errorf("%d of 700 zeros are told", n)
	}
	for what, c := range map[string]struct {
		odd   func(v *vol)
		where []uint64
	}{
		"another content":     {func(v *vol) { v.write(700, 8); v.zero(1500, 700) }, []uint64{512}},
		"another address":     {func(v *vol) { v.write(701, 7); v.zero(1500, 700) }, []uint64{512}},
		"another stretch":     {func(v *vol) { v.write(100, 7); v.zero(1500, 700) }, []uint64{0, 512}},
		"one zero more":       {func(v *vol) { v.write(700, 7); v.zero(1500, 701) }, []uint64{2048, 2560}}, // and the LSN behind it
		"zeros in two parts":  {func(v *vol) { v.write(700, 7); v.zero(1500, 300); v.zero(1800, 400) }, nil},
		"zeros the other way": {func(v *vol) { v.write(700, 7); v.zero(1900, 300); v.zero(1500, 400) }, []uint64{1024, 1536, 2048}},
	} {
		got := play(1, c.odd) // the same identities: it was let go
		var where []uint64
		for _, d := range append(slices.Clone(got), base...) {
			other := base
			if slices.Contains(base, d) {
				other = got
			}
			if !slices.Contains(other, d) && !slices.Contains(where, d.Addr) {
				where = append(where, d.Addr)
			}
		}
		slices.Sort(where)
		if !slices.Equal(where, c.where) {
			t.Errorf("%s shows in %v, want %v", what, where, c.where)
		}
	}
}

// TestADigestLeavesOutWhatIsNewer: two replicas of which one is ahead agree on
// all that was not overwritten meanwhile.
func TestADigestLeavesOutWhatIsNewer(t *testing.T) {
	b := newBed(t, 51)
	v := b.create(1, 3000)
	v.write(5, 1, 2, 3)
	v.write(1000, 1)
	v.zero(2000, 100)
	v.stable()
	y := v.state().Prefix
	before := v.headDigests(y)
	v.write(700, 4)  // was never written
	v.zero(2990, 10) // likewise
	v.write(1001, 5)
	v.stable()
	older := func() (out []Digest, newer uint64) {
		for _, d := range v.headDigests(y) {
			newer += d.Newer
			if d.Newer = 0; d.Blocks > 0 {
				out = append(out, d)
			}
		}
		return out, newer
	}
	if after, newer := older(); !slices.Equal(before, after) || newer != 12 {
		t.Errorf("as of %v: %v, and later %v without %d that are newer", y, before, after, newer)
	}
	v.write(6, 9)
	if after, newer := older(); slices.Equal(before[0:1], after[0:1]) || !slices.Equal(before[1:], after[1:]) || newer != 13 {
		t.Errorf("after an overwrite in the first stretch: %v, was %v, without %d that are newer", after, before, newer)
	}
	b.gone(v)
}

// TestDigestsGoOnWhereTheyStopped: a volume with more stretches than one call
// tells, with a run of zeros over them all.
func TestDigestsGoOnWhereTheyStopped(t *testing.T) {
	b := newBed(t, 52)
	const stretches = MaxDigests + 100
	v := b.create(1, stretches*DigestSpan)
	v.zero(0, stretches*DigestSpan)
	v.stable()
	b.run(func() error {
		p := v.r().Pin()
		defer p.Release()
		out, next, more, err := p.Digests(holdfast.SnapshotID{}, holdfast.SnapshotID{}, p.LSN(), 0)
		if err != nil || len(out) != MaxDigests || !more || next != MaxDigests*DigestSpan {
			t.Errorf("%d stretches up to %d, more %v, %v", len(out), next, more, err)
		}
		rest, _, more, err := p.Digests(holdfast.SnapshotID{}, holdfast.SnapshotID{}, p.LSN(), next)
		if err != nil || len(rest) != 100 || more || rest[0].Addr != next {
			t.Errorf("then %d, more %v, %v", len(rest), more, err)
		}
		if _, _, _, err := p.Digests(holdfast.SnapshotID{}, holdfast.SnapshotID{}, p.LSN(), 5); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("in the middle of a stretch: %v", err)
		}
		return nil
	})
	b.gone(v)
}
