package observer

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/holdfast-cloud/holdfast"
)

// Magic begins every block that an observer wrote.
const Magic = "HFWATCH1"

// fill makes b the content of a block that holds a value, from which all of it
// follows; 0 is zeroes.
func fill(b []byte, block, value uint64) {
	clear(b)
	if value == 0 {
		return
	}
	copy(b, Magic)
	binary.LittleEndian.PutUint64(b[8:], block)
	binary.LittleEndian.PutUint64(b[16:], value)
	r := rand.NewPCG(block, value)
	for at := 24; at < len(b); at += 8 {
		binary.LittleEndian.PutUint64(b[at:], r.Uint64())
	}
}

// parse tells which value a block holds. Kind Corrupt: it is what nobody wrote
// there.
func parse(b []byte, block uint64) (uint64, error) {
	var want [holdfast.BlockSize]byte
	value := binary.LittleEndian.Uint64(b[16:])
	fill(want[:], block, value)
	if string(want[:]) != string(b) {
		return 0, holdfast.Errorf(holdfast.Corrupt, "block %d was read as %x…, which nobody wrote there", block, b[:32])
	}
	return value, nil
}
