package checksum

import (
	"bytes"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

func vol(b byte) holdfast.VolumeID {
	return holdfast.VolumeID{UUID: holdfast.UUID{0: b, 15: b}}
}

func block(fill byte) []byte { return bytes.Repeat([]byte{fill}, holdfast.BlockSize) }

func TestHashTellsWhereABlockBelongs(t *testing.T) {
	l := holdfast.MakeLSN(3, 7)
	good := Block(vol(1), 5, l, block(9))
	if again := Block(vol(1), 5, l, block(9)); again != good {
		t.Fatalf("the same block hashed to %x and %x", good, again)
	}
	rotten := block(9)
	rotten[4095] ^= 1
	for name, h := range map[string]uint64{
		"rotten":                 Block(vol(1), 5, l, rotten),
		"misdirected":            Block(vol(1), 6, l, block(9)),
		"stale":                  Block(vol(1), 5, l-1, block(9)),
		"of a former epoch":      Block(vol(1), 5, holdfast.MakeLSN(2, 7), block(9)),
		"of another volume":      Block(vol(2), 5, l, block(9)),
		"address for LSN":        Block(vol(1), uint64(l), 5, block(9)),
		"zeroes from a bad disk": Block(vol(1), 5, l, block(0)),
	} {
		if h == good {
			t.Errorf("a %s block has the good block's hash", name)
		}
	}
}

func TestSeedsDoNotCollide(t *testing.T) {
	seen := make(map[uint64]string)
	for v := byte(0); v < 8; v++ {
		for addr := uint64(0); addr < 64; addr++ {
			for c := uint64(0); c < 64; c++ {
				s := seed(vol(v), addr, holdfast.MakeLSN(1, c))
				if other, dup := seen[s]; dup {
					t.Fatalf("seed of volume %d, address %d, counter %d equals that of %s", v, addr, c, other)
				}
				seen[s] = "an earlier origin"
			}
		}
	}
}

// The stored sums are part of the format: they may never change.
func TestStoredValuesAreFixed(t *testing.T) {
	if got, want := Block(vol(1), 5, holdfast.MakeLSN(3, 7), block(9)), uint64(0xb403fc0e87d496c8); got != want {
		t.Errorf("block hash %#x, want %#x", got, want)
	}
	// RFC 3720 appendix B.4: 32 bytes of zeroes, and of ones.
	if got := CRC(make([]byte, 32)); got != 0x8a9136aa {
		t.Errorf("CRC32C of zeroes %#x", got)
	}
	if got := CRC(bytes.Repeat([]byte{0xff}, 32)); got != 0x62a8ab43 {
		t.Errorf("CRC32C of ones %#x", got)
	}
}

func TestAHashTellsTheLength(t *testing.T) {
	var hashes []uint64
	for units := 1; units <= holdfast.MaxStoredUnits; units++ {
		h := Block(vol(1), 1, 1, make([]byte, units*holdfast.StoredUnit))
		if Units(h) != units || !Proper(h) {
			t.Errorf("%d units: the hash %x says %d", units, h, Units(h))
		}
		hashes = append(hashes, h)
	}
	if n := Length(hashes); n != 45*holdfast.StoredUnit {
		t.Errorf("together %d bytes", n)
	}
	if AllRaw(hashes) || !AllRaw([]uint64{Block(vol(1), 1, 1, block(1))}) {
		t.Error("raw blocks are not told from others")
	}
	for _, n := range []int{0, 1, 511, 513, 5120} {
		if h := Block(vol(1), 1, 1, make([]byte, n)); Proper(h) {
			t.Errorf("%d bytes have a proper hash %x", n, h)
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	b := block(1)
	var sink uint64
	if n := testing.AllocsPerRun(100, func() { sink += Block(vol(1), 1, 1, b) + uint64(CRC(b)) }); n != 0 {
		t.Errorf("%v allocations for a hash and a sum", n)
	}
	_ = sink
}

func BenchmarkBlock(b *testing.B) {
	d := block(1)
	b.SetBytes(int64(len(d)))
	var sink uint64
	for i := 0; b.Loop(); i++ {
		sink += Block(vol(1), uint64(i), holdfast.LSN(i), d)
	}
	_ = sink
}
