package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-cloud/holdfast"
)

const testBlocks = 1500

func header(n int) Header {
	return Header{Kind: Volume, ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", n), Created: time.Date(2026, 11, 22, 12, 0, n, 0, time.UTC),
		Volume:   &VolumeRef{ID: "00000000-0000-4000-8000-00000000abcd", Name: "data", Size: testBlocks * holdfast.BlockSize},
		Snapshot: &PointRef{ID: fmt.Sprintf("00000000-0000-4000-9000-%012d", n), Name: fmt.Sprintf("s%d", n), LSN: fmt.Sprintf("1.%d", n)}}
}

func after(h Header, base Header) Header {
	h.Base = &PointRef{ID: base.Snapshot.ID, Name: base.Snapshot.Name, LSN: base.Snapshot.LSN}
	return h
}

// chunks makes rising chunks, some compressible, some not, some of zero.
func chunks(t testing.TB, rnd *rand.Rand, full bool) (out []Part) {
	t.Helper()
	for at := uint64(rnd.IntN(3)); at < testBlocks-200; {
		var list []Extent
		var data []byte
		for range 1 + rnd.IntN(5) {
			e := Extent{Addr: at, Blocks: 1 + uint64(rnd.IntN(20)), Zero: !full && rnd.IntN(4) == 0}
			at = e.End() + uint64(rnd.IntN(20))
			list = append(list, e)
			if e.Zero {
				continue
			}
			b := make([]byte, e.Blocks*holdfast.BlockSize)
			if rnd.IntN(2) == 0 {
				for i := range b {
					b[i] = byte(rnd.Uint32())
				}
			} else {
				b = bytes.Repeat([]byte{byte(rnd.Uint32())}, len(b))
			}
			data = append(data, b...)
		}
		p, err := Pack(list, data, nil)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

func file(t testing.TB, h Header, parts []Part, to ...age.Recipient) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, h, to)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if err := w.Put(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Length() != int64(out.Len()) {
		t.Fatalf("the writer counts %d bytes of %d", w.Length(), out.Len())
	}
	return out.Bytes()
}

// lay reads a file over what a volume holds.
func lay(b, disk []byte, ids ...age.Identity) error {
	r, err := NewReader(bytes.NewReader(b), ids)
	if err != nil {
		return err
	}
	for {
		p, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := layPart(p, disk); err != nil {
			return err
		}
	}
}

func layPart(p Part, disk []byte) error {
	data, err := p.Unpack(nil)
	if err != nil {
		return err
	}
	for _, e := range p.Extents {
		to := disk[bytesOf(e.Addr):bytesOf(e.End())]
		if e.Zero {
			clear(to)
			continue
		}
		data = data[copy(to, data):]
	}
	return nil
}

func want(t testing.TB, parts ...[]Part) []byte {
	t.Helper()
	disk := make([]byte, testBlocks*holdfast.BlockSize)
	for _, list := range parts {
		for _, p := range list {
			if err := layPart(p, disk); err != nil {
				t.Fatal(err)
			}
		}
	}
	return disk
}

func identity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for seed := range uint64(5) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		id := identity(t)
		full, diff := chunks(t, rnd, true), chunks(t, rnd, false)
		for _, to := range [][]age.Recipient{nil, {id.Recipient()}, {identity(t).Recipient(), id.Recipient()}} {
			disk := make([]byte, testBlocks*holdfast.BlockSize)
			for _, b := range [][]byte{file(t, header(1), full, to...), file(t, after(header(2), header(1)), diff, to...)} {
				if err := lay(b, disk, id); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
			if !bytes.Equal(disk, want(t, full, diff)) {
				t.Fatalf("seed %d: other bytes came back", seed)
			}
		}
	}
}

func TestNoDamageGoesUnnoticed(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	id := identity(t)
	parts := chunks(t, rnd, true)[:6]
	for _, to := range [][]age.Recipient{nil, {id.Recipient()}} {
		good := file(t, header(1), parts, to...)
		disk := make([]byte, testBlocks*holdfast.BlockSize)
		for _, n := range []int{0, 1, prefixSize, 200, len(good) / 2, len(good) - headSize - totalsSize, len(good) - 1} {
			if err := lay(good[:n], disk, id); err == nil {
				t.Errorf("%d of %d bytes are taken for a whole file", n, len(good))
			}
		}
		for range 300 {
			bad := bytes.Clone(good)
			at := rnd.IntN(len(bad))
			bad[at] ^= 1 << rnd.IntN(8)
			if err := lay(bad, disk, id); err == nil {
				t.Errorf("byte %d of %d is another, and nobody noticed", at, len(good))
			}
		}
	}
}

// bounds finds where the parts of a file begin, and its end.
func bounds(t *testing.T, b []byte) (at []int) {
	t.Helper()
	r, err := NewReader(bytes.NewReader(b), nil)
	for err == nil {
		at = append(at, int(r.Offset()))
		_, err = r.Next()
	}
	if err != io.EOF {
		t.Fatal(err)
	}
	return append(at, len(b))
}

func TestPartsStayInTheirPlace(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	parts := chunks(t, rnd, true)[:5]
	good, other := file(t, header(1), parts), file(t, header(2), parts)
	at := bounds(t, good)
	part := func(b []byte, i int) []byte { return b[at[i]:at[i+1]] }
	for name, bad := range map[string][]byte{
		"two are swapped":              slices.Concat(good[:at[1]], part(good, 2), part(good, 1), good[at[3]:]),
		"one is missing":               slices.Concat(good[:at[1]], good[at[2]:]),
		"one is there twice":           slices.Concat(good[:at[2]], part(good, 1), good[at[2]:]),
		"one is of another file":       slices.Concat(good[:at[1]], part(other, 1), good[at[2]:]),
		"the end is of another file":   slices.Concat(good[:at[5]], other[at[5]:]),
		"the end came too early":       slices.Concat(good[:at[3]], good[at[5]:]),
		"the header is of another one": slices.Concat(other[:at[0]], good[at[0]:]),
	} {
		if err := lay(bad, make([]byte, testBlocks*holdfast.BlockSize)); !holdfast.IsKind(err, holdfast.Corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDamageIsTold: the offset in the file, and which part of the volume is lost.
func TestDamageIsTold(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	parts := chunks(t, rnd, true)[:6]
	good := file(t, header(1), parts)
	at := bounds(t, good)
	for name, c := range map[string]struct {
		offset int // of the damage
		n      int // parts that are good
	}{"in the payload": {at[2] + headSize + 100, 5}, "in the head": {at[2] + 5, 5}, "in the length": {at[2] + 20, 5}, "in the magic": {at[2], 5}} {
		bad := bytes.Clone(good)
		bad[c.offset] ^= 0xff
		r, err := NewReader(bytes.NewReader(bad), nil)
		if err != nil {
			t.Fatal(err)
		}
		v, err := Verify(r, nil)
		if err != nil || v.Whole || len(v.Damage) != 1 || v.Parts != uint64(c.n) {
			t.Errorf("%s: %+v, %v", name, v, err)
			continue
		}
		from, to := parts[1].Extents[len(parts[1].Extents)-1].End(), parts[3].Extents[0].Addr
		if d := v.Damage[0]; d.Offset != int64(at[2]) || d.From != bytesOf(from) || d.To != bytesOf(to) {
			t.Errorf("%s: %+v, want offset %d and bytes %d to %d", name, d, at[2], bytesOf(from), bytesOf(to))
		}
	}
	r, _ := NewReader(bytes.NewReader(good[:at[4]+50]), nil)
	v, err := Verify(r, nil)
	if err != nil || v.Whole || len(v.Damage) != 1 || v.Damage[0].To != testBlocks*holdfast.BlockSize {
		t.Errorf("truncated: %+v, %v", v, err)
	}
	r, _ = NewReader(bytes.NewReader(good), nil)
	if v, err := Verify(r, nil); err != nil || !v.Whole || len(v.Damage) > 0 || v.Sum == "" {
		t.Errorf("whole: %+v, %v", v, err)
	}
}

func TestASealHoldsWithoutTheFormat(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	id := identity(t)
	parts := chunks(t, rnd, true)[:3]
	b := file(t, header(1), parts, id.Recipient())
	for _, p := range parts {
		if data, _ := p.Unpack(nil); bytes.Contains(b, data[:64]) {
			t.Fatal("the data can be read in the file")
		}
	}
	disk := make([]byte, testBlocks*holdfast.BlockSize)
	if err := lay(b, disk); !holdfast.IsKind(err, holdfast.Denied) {
		t.Errorf("without an identity: %v", err)
	}
	if err := lay(b, disk, identity(t)); !holdfast.IsKind(err, holdfast.Denied) {
		t.Errorf("with another one: %v", err)
	}
	r, _ := NewReader(bytes.NewReader(b), nil)
	if v, err := Verify(r, nil); err != nil || !v.Whole || !v.Locked || v.Parts != 3 {
		t.Errorf("hashes are verified without an identity: %+v, %v", v, err)
	}
	// Who has no key makes hashes right again, and is found out all the same.
	forged := bytes.Clone(b)
	at := bounds(t, b)
	forged[at[1]-1] ^= 1
	prev := sum(forged[at[0]-32:])
	for i := 0; i < len(forged)-at[0]; {
		part := forged[at[0]+i:]
		h, ok := decodeHead(part)
		if !ok {
			t.Fatal("no head")
		}
		copy(part[32:], prev[:])
		prev = sumOf(part[:h.size()])
		copy(part[hashAt:], prev[:])
		i += h.size()
	}
	if err := lay(forged, disk, id); !holdfast.IsKind(err, holdfast.Corrupt) {
		t.Errorf("forged: %v", err)
	}
}

func TestAnInterruptedFileIsGoneOnWith(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 10))
	id := identity(t)
	parts := chunks(t, rnd, true)[:8]
	for _, to := range [][]age.Recipient{nil, {id.Recipient()}} {
		whole := file(t, header(1), parts, to...)
		for range 20 {
			b := whole[:600+rnd.IntN(len(whole)-600)]
			for again := 0; ; again++ {
				r, done, err := Salvage(bytes.NewReader(b), nil)
				if err != nil {
					t.Fatal(err)
				}
				if done {
					break
				}
				out := bytes.NewBuffer(bytes.Clone(b[:r.Offset()]))
				w, err := Resume(out, r, to)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range parts {
					if p.Extents[0].Addr >= w.Next() {
						if err := w.Put(p); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				b = out.Bytes()
				if again == 0 { // and interrupted once more
					b = b[:int(r.Offset())+rnd.IntN(len(b)-int(r.Offset()))]
				}
			}
			disk := make([]byte, testBlocks*holdfast.BlockSize)
			if err := lay(b, disk, id); err != nil || !bytes.Equal(disk, want(t, parts)) {
				t.Fatalf("sealed %v: %v", to != nil, err)
			}
		}
	}
}

func TestRecordsComeBack(t *testing.T) {
	var list []Record
	for i := range 3000 {
		list = append(list, Record{Key: fmt.Sprintf("holdfast/2/volume/%06d", i), Value: bytes.Repeat([]byte{byte(i)}, i)})
	}
	id := identity(t)
	b := file(t, Header{Kind: Cluster, ID: header(1).ID, Revision: 12}, PackRecords(list), id.Recipient())
	r, err := NewReader(bytes.NewReader(b), []age.Identity{id})
	if err != nil {
		t.Fatal(err)
	}
	var got []Record
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		l, err := p.Records()
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range l {
			got = append(got, Record{rec.Key, bytes.Clone(rec.Value)})
		}
	}
	if !slices.EqualFunc(got, list, func(a, b Record) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) }) {
		t.Error("other records came back")
	}
}

func FuzzReader(f *testing.F) {
	rnd := rand.New(rand.NewPCG(1, 1))
	small := chunks(f, rnd, false)[:2]
	id := identity(f)
	f.Add(file(f, header(1), small))
	f.Add(file(f, after(header(2), header(1)), small, id.Recipient()))
	f.Add(file(f, Header{Kind: Cluster, ID: header(1).ID}, PackRecords([]Record{{"a", []byte("b")}})))
	f.Add([]byte(magic))
	first, second := header(1), header(2)
	first.Bundle, second.Bundle = &BundleRef{1, 2}, &BundleRef{2, 2}
	f.Add(append(file(f, first, small), file(f, second, small)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		at := int64(0)
		for _, g := range (File{}).lookOn(bytes.NewReader(b), int64(len(b))) {
			if g.Offset != at {
				t.Fatalf("a backup at %d, and the one before ends at %d", g.Offset, at)
			}
			at += g.Length
		}
		if at > int64(len(b)) {
			t.Fatalf("%d bytes of %d", at, len(b))
		}
		for _, ids := range [][]age.Identity{nil, {id}} {
			r, err := NewReader(bytes.NewReader(b), ids)
			if err != nil {
				continue
			}
			h := r.Header()
			size := bytesOf(h.Blocks())
			v, err := Verify(r, nil)
			if err == nil && v.Data > size {
				t.Fatalf("%d bytes of data in a volume of %d", v.Data, size)
			}
		}
	})
}
