package seal

// Compression says what is done to a volume's blocks before they are stored.
// The numbers stand in the volume's record.
type Compression uint8

// The settings of compression.
const (
	Off  Compression = 0 // blocks are stored as they are
	Fast Compression = 1 // S2 is tried on every block
	Auto Compression = 2 // S2 is tried on blocks that do not look random
)

// Valid reports whether the setting is one of those above.
func (c Compression) Valid() bool { return c <= Auto }

// String returns the setting's name.
func (c Compression) String() string {
	switch c {
	case Off:
		return "off"
	case Fast:
		return "fast"
	case Auto:
		return "auto"
	}
	return "unknown"
}

const (
	samples   = 16 // stretches of a block that are looked at
	sampleLen = 64 // bytes of each
)

// looksRandom is the entropy pre-check. The squares of the byte counts of a
// sample sum up to about n + n²/256 if all bytes are equally likely, and to far
// more in anything with structure: text has ten times the second part.
// What is made of long random strings, repeated, is taken for random too.
func looksRandom(block []byte) bool {
	var counts [256]uint16
	for i := range samples {
		at := i * (blockSize / samples)
		for _, b := range block[at : at+sampleLen] {
			counts[b]++
		}
	}
	sum := 0
	for _, c := range counts {
		sum += int(c) * int(c)
	}
	const n = samples * sampleLen
	return sum < n+n*n/256*5/4
}
