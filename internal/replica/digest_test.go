package replica

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

func TestWhatIsSaidOfMapsIsUnderstood(t *testing.T) {
	ask := DigestAsk{Pin: 3, From: 5 * DigestSpan, Root: snapshotID(1), Against: snapshotID(2)}
	if got, err := DecodeDigestAsk(ask.AppendTo(nil)); err != nil || got != ask {
		t.Errorf("request: %+v, %v", got, err)
	}
	d := Digests{Next: 10 * DigestSpan, More: true, List: []Digest{{5 * DigestSpan, 512, 0, 77}, {8 * DigestSpan, 1, 511, 1 << 63}, {9 * DigestSpan, 0, 1, 0}}}
	head, bulk := d.AppendTo(nil, nil)
	if got, err := DecodeDigests(head, bulk, 5*DigestSpan); err != nil || !reflect.DeepEqual(got, d) {
		t.Errorf("digests: %+v, %v", got, err)
	}
	var b []byte
	entries := []Block{{Addr: 512, LSN: lsn(1, 1), Hash: 0xf0, Lost: true}, {Addr: 1023, LSN: lsn(1, 2), Hole: true}} // a hash of no length
	for i := range entries {
		b = entries[i].AppendTo(b)
	}
	if got, err := DecodeEntries(b, 512); err != nil || !reflect.DeepEqual(got, entries) {
		t.Errorf("entries: %+v, %v", got, err)
	}
}

func TestNonsenseOfMapsIsRefused(t *testing.T) {
	for what, d := range map[string]Digests{
		"not going on":            {Next: 512, More: true},
		"going back":              {Next: 0},
		"in the middle":           {Next: 1025},
		"behind the end":          {Next: 1024, List: []Digest{{1024, 1, 0, 1}}},
		"before the start":        {Next: 1024, List: []Digest{{0, 1, 0, 1}}},
		"twice":                   {Next: 4096, List: []Digest{{1024, 1, 0, 1}, {1024, 1, 0, 1}}},
		"nothing":                 {Next: 4096, List: []Digest{{1024, 0, 0, 1}}},
		"more than there are":     {Next: 4096, List: []Digest{{1024, 513, 0, 1}}},
		"more than there is room": {Next: 4096, List: []Digest{{1024, 512, 1, 1}}},
		"a sum that overflows":    {Next: 4096, List: []Digest{{1024, 1, 1<<64 - 1, 1}}},
		"beyond the last volume":  {Next: holdfast.MaxVolumeBlocks + 512},
		"too many":                {Next: 1 << 30, List: make([]Digest, MaxDigests+1)},
	} {
		head, bulk := d.AppendTo(nil, nil)
		if _, err := DecodeDigests(head, bulk, 512); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("digests %s: %v", what, err)
		}
	}
	for what, k := range map[string]Block{
		"before":         {Addr: 511, LSN: 1, Lost: true},
		"behind":         {Addr: 1024, LSN: 1, Lost: true},
		"never written":  {Addr: 600, Lost: true},
		"data and zero":  {Addr: 600, LSN: 1, Lost: true, Hole: true},
		"with its bytes": {Addr: 600, LSN: 1},
	} {
		if _, err := DecodeEntries(k.AppendTo(nil), 512); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("entry %s: %v", what, err)
		}
	}
	for _, from := range []uint64{1, holdfast.MaxVolumeBlocks + 512} {
		ask := DigestAsk{From: from}
		if _, err := DecodeDigestAsk(ask.AppendTo(nil)); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("request from block %d: %v", from, err)
		}
	}
}

func FuzzDecodeDigests(f *testing.F) {
	d := Digests{Next: 1024, More: true, List: []Digest{{512, 512, 0, 77}}}
	head, bulk := d.AppendTo(nil, nil)
	f.Add(head, bulk)
	ask := DigestAsk{Pin: 3, From: 512, Root: snapshotID(1)}
	f.Add(ask.AppendTo(nil), bytes.Repeat([]byte{0xff}, 24))
	k := Block{Addr: 600, LSN: 1, Lost: true}
	f.Add([]byte{}, k.AppendTo(nil))
	f.Fuzz(func(t *testing.T, head, bulk []byte) {
		d, err := DecodeDigests(head, bulk, 512)
		check(t, d, err, func(d Digests) (Digests, error) {
			head, bulk := d.AppendTo(nil, nil)
			return DecodeDigests(head, bulk, 512)
		})
		a, err := DecodeDigestAsk(head)
		check(t, a, err, func(a DigestAsk) (DigestAsk, error) { return DecodeDigestAsk(a.AppendTo(nil)) })
		e, err := DecodeEntries(bulk, 512)
		check(t, e, err, func(e []Block) ([]Block, error) {
			var b []byte
			for i := range e {
				b = e[i].AppendTo(b)
			}
			return DecodeEntries(b, 512)
		})
	})
}
