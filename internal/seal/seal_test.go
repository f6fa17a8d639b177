package seal

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

var volume = holdfast.VolumeID{UUID: holdfast.UUID{1, 2, 3}}

func key(b byte) *[KeySize]byte {
	var k [KeySize]byte
	for i := range k {
		k[i] = b + byte(i)
	}
	return &k
}

func sealer(t testing.TB, c Compression, k *[KeySize]byte) *Sealer {
	t.Helper()
	s, err := New(Options{Volume: volume, Compression: c, Key: k, Salt: 0xdecade})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// block is half random, half of one byte, or all of one of them.
func block(random int) []byte {
	b := make([]byte, blockSize)
	r := rand.NewPCG(1, 2)
	for i := range random {
		b[i] = byte(r.Uint64())
	}
	return b
}

func TestEveryBlockComesBack(t *testing.T) {
	for _, c := range []struct {
		what        string
		compression Compression
		key         *[KeySize]byte
		random      int
		units       int
	}{
		{"as it is", Off, nil, 2048, 8},
		{"compressed, all zero", Fast, nil, 0, 1},
		{"compressed, half", Fast, nil, 2048, 5},
		{"compressed, one unit saved", Fast, nil, 3500, 7},
		{"compressed, nothing saved", Fast, nil, 3700, 8},
		{"random, tried", Fast, nil, 4096, 8},
		{"random, not tried", Auto, nil, 4096, 8},
		{"half, tried", Auto, nil, 2048, 5},
		{"encrypted", Off, key(1), 0, 9},
		{"both, all zero", Fast, key(1), 0, 1},
		{"both, half", Auto, key(1), 2048, 5},
		{"both, one unit saved", Fast, key(1), 3800, 8},
		{"both, nothing saved", Fast, key(1), 4096, 9},
	} {
		s := sealer(t, c.compression, c.key)
		want := block(c.random)
		stored := s.Seal([]byte("front"), want, 77, 1<<40+5)
		if string(stored[:5]) != "front" || len(stored) != 5+c.units*Unit {
			t.Errorf("%s: %d bytes behind %q, want %d units", c.what, len(stored)-5, stored[:5], c.units)
			continue
		}
		got := make([]byte, blockSize)
		if err := s.Open(got, stored[5:], 77, 1<<40+5); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: not the same again: %v", c.what, err)
		}
	}
}

func TestWhatIsSealedOpensOnlyWhereItBelongs(t *testing.T) {
	s := sealer(t, Fast, key(1))
	stored := s.Seal(nil, block(1000), 5, 9)
	other, err := New(Options{Volume: holdfast.VolumeID{UUID: holdfast.UUID{9}}, Key: key(1), Salt: 0xdecade})
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, blockSize)
	for _, c := range []struct {
		what string
		s    *Sealer
		addr uint64
		lsn  holdfast.LSN
		flip int
		kind holdfast.Kind
	}{
		{"another key", sealer(t, Fast, key(2)), 5, 9, -1, holdfast.Denied},
		{"another volume", other, 5, 9, -1, holdfast.Denied},
		{"another address", s, 6, 9, -1, holdfast.Denied},
		{"another LSN", s, 5, 10, -1, holdfast.Denied},
		{"another salt", s, 5, 9, 4, holdfast.Denied},
		{"a flipped bit", s, 5, 9, 100, holdfast.Denied},
		{"no key", sealer(t, Fast, nil), 5, 9, -1, holdfast.Corrupt},
		{"another length", s, 5, 9, 3, holdfast.Corrupt},
		{"something behind the end", s, 5, 9, len(stored) - 1, holdfast.Corrupt},
	} {
		b := bytes.Clone(stored)
		if c.flip >= 0 {
			b[c.flip] ^= 1
		}
		if err := c.s.Open(dst, b, c.addr, c.lsn); !holdfast.IsKind(err, c.kind) {
			t.Errorf("%s: %v, want kind %v", c.what, err, c.kind)
		}
	}
}

func TestAnEncryptedVolumeTakesNoPlainBlock(t *testing.T) {
	dst := make([]byte, blockSize)
	for _, plain := range [][]byte{block(4096), sealer(t, Fast, nil).Seal(nil, block(0), 1, 1)} {
		if err := sealer(t, Off, key(1)).Open(dst, plain, 1, 1); !holdfast.IsKind(err, holdfast.Corrupt) {
			t.Errorf("%d plain bytes: %v", len(plain), err)
		}
	}
}

func TestTwoOpeningsNeverShareANonce(t *testing.T) {
	seen := make(map[[12]byte]bool)
	for salt := range uint32(4) {
		s, err := New(Options{Volume: volume, Key: key(1), Salt: salt, Witness: func(n [12]byte, _ []byte) {
			if seen[n] {
				t.Errorf("nonce %x twice", n)
			}
			seen[n] = true
		}})
		if err != nil {
			t.Fatal(err)
		}
		for lsn := range holdfast.LSN(4) {
			s.Seal(nil, block(10), 1, lsn)
		}
	}
	if len(seen) != 16 {
		t.Errorf("%d nonces for 16 sealings", len(seen))
	}
}

func TestNothingIsAllocatedPerBlock(t *testing.T) {
	dst, out, b := make([]byte, 0, MaxStored), make([]byte, blockSize), block(2048)
	for _, k := range []*[KeySize]byte{nil, key(1)} {
		s := sealer(t, Auto, k)
		if n := testing.AllocsPerRun(200, func() {
			if err := s.Open(out, s.Seal(dst, b, 1, 2), 1, 2); err != nil {
				t.Fatal(err)
			}
		}); n >= 1 {
			t.Errorf("%v allocations per block", n)
		}
	}
}

func TestUnknownCompressionIsRefused(t *testing.T) {
	if _, err := New(Options{Compression: 3}); !holdfast.IsKind(err, holdfast.Invalid) {
		t.Error(err)
	}
}

func FuzzOpen(f *testing.F) {
	for _, k := range []*[KeySize]byte{nil, key(1)} {
		for _, n := range []int{0, 2048, 4096} {
			f.Add(sealer(f, Fast, k).Seal(nil, block(n), 1, 2), k != nil)
		}
	}
	f.Add([]byte{1, 0, 0, 1}, false)
	plain, sealed := sealer(f, Fast, nil), sealer(f, Fast, key(1))
	f.Fuzz(func(t *testing.T, stored []byte, encrypted bool) {
		s := plain
		if encrypted {
			s = sealed
		}
		dst := make([]byte, blockSize)
		if err := s.Open(dst, stored, 1, 2); err != nil {
			if k := holdfast.KindOf(err); k != holdfast.Corrupt && k != holdfast.Denied {
				t.Errorf("kind %v: %v", k, err)
			}
			return
		}
		again := make([]byte, blockSize)
		if err := s.Open(again, s.Seal(nil, dst, 1, 2), 1, 2); err != nil || !bytes.Equal(again, dst) {
			t.Errorf("what was opened does not come back: %v", err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for _, c := range []struct {
		name        string
		compression Compression
		key         *[KeySize]byte
		random      int
	}{
		{"s2/half", Auto, nil, 2048}, {"s2/random", Auto, nil, 4096}, {"s2-tried/random", Fast, nil, 4096},
		{"aes/half", Off, key(1), 2048}, {"both/half", Auto, key(1), 2048}, {"both/random", Auto, key(1), 4096},
	} {
		s, data, dst, out := sealer(b, c.compression, c.key), block(c.random), make([]byte, 0, MaxStored), make([]byte, blockSize)
		b.Run(c.name+"/seal", func(b *testing.B) {
			b.SetBytes(blockSize)
			b.ReportAllocs()
			for b.Loop() {
				s.Seal(dst, data, 1, 2)
			}
		})
		stored := s.Seal(nil, data, 1, 2)
		b.Run(c.name+"/open", func(b *testing.B) {
			b.SetBytes(blockSize)
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Open(out, stored, 1, 2); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
