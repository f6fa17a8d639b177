package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"sync"

	"github.com/klauspost/compress/s2"

	"github.com/holdfast-cloud/holdfast"
)

const (
	// Unit is what the length of a stored block is a multiple of, in bytes.
	Unit = holdfast.StoredUnit
	// MaxStored is the longest stored form, in bytes.
	MaxStored = holdfast.MaxStoredUnits * Unit
	// KeySize is the length of a volume's data key in bytes.
	KeySize = 32

	blockSize  = holdfast.BlockSize
	prefixSize = 8
	tagSize    = 16
	nonceSize  = 12
)

// The forms of a block that is not stored as it is: bits of the prefix's first
// byte.
const (
	formS2     = 1 // compressed
	formSealed = 2 // encrypted
)

// Options says how the blocks of one volume are stored during one opening.
type Options struct {
	Volume      holdfast.VolumeID
	Compression Compression
	Key         *[KeySize]byte // the volume's data key; nil: not encrypted. It is not kept
	Salt        uint32         // 32 random bits of this opening; without a key unused
	// Witness, unless nil, is told of every sealing under the key, for a checker
	// of the promise that no nonce is used twice. It must not keep block.
	Witness func(nonce [12]byte, addr uint64, block []byte)
}

// Sealer seals and opens the blocks of one volume. It is safe for concurrent
// use.
type Sealer struct {
	volume      holdfast.VolumeID
	compression Compression
	aead        cipher.AEAD // nil: not encrypted
	salt        uint32
	witness     func([12]byte, uint64, []byte)
	spare       sync.Pool // of *scratch
}

// scratch is what one call needs beside its arguments.
type scratch struct {
	packed []byte // the block, compressed
	nonce  [nonceSize]byte
	aad    [aadSize]byte
}

const aadSize = 16 + 8 + prefixSize

// New returns the sealer of one opening.
func New(o Options) (*Sealer, error) {
	if !o.Compression.Valid() {
		return nil, holdfast.Errorf(holdfast.Invalid, "compression %d is not known; use off, fast or auto", o.Compression)
	}
	s := &Sealer{volume: o.Volume, compression: o.Compression, salt: o.Salt, witness: o.Witness}
	if o.Key != nil {
		c, err := aes.NewCipher(o.Key[:])
		if err != nil {
			return nil, holdfast.Errorf(holdfast.Invalid, "data key of volume %s: %w", o.Volume, err)
		}
		if s.aead, err = cipher.NewGCM(c); err != nil {
			return nil, holdfast.Errorf(holdfast.Invalid, "data key of volume %s: %w", o.Volume, err)
		}
	}
	s.spare.New = func() any { return &scratch{packed: make([]byte, s2.MaxEncodedLen(blockSize))} }
	return s, nil
}

// Plain reports whether every block is stored as it is: then nothing needs to be
// sealed.
func (s *Sealer) Plain() bool { return s.aead == nil && s.compression == Off }

// Encrypted reports whether the blocks are sealed under a key.
func (s *Sealer) Encrypted() bool { return s.aead != nil }

// Seal appends the stored form of a block to dst: 1 to 9 units. block is
// holdfast.BlockSize long and may not overlap what is appended. With room for
// MaxStored bytes behind dst nothing is allocated.
func (s *Sealer) Seal(dst, block []byte, addr uint64, lsn holdfast.LSN) []byte {
	if s.Plain() {
		return append(dst, block[:blockSize]...)
	}
	x := s.spare.Get().(*scratch)
	defer s.spare.Put(x)
	payload, form := s.squeeze(x, block)
	if s.aead == nil && form == 0 {
		return append(dst, block[:blockSize]...)
	}
	if s.aead != nil {
		form |= formSealed
	}
	at := len(dst)
	dst = s.putPrefix(dst, form, len(payload))
	if s.aead == nil {
		return pad(append(dst, payload...), at)
	}
	s.nonce(x, s.salt, lsn)
	s.bind(x, addr, dst[at:])
	if s.witness != nil {
		s.witness(x.nonce, addr, block)
	}
	return pad(s.aead.Seal(dst, x.nonce[:], payload, x.aad[:]), at)
}

// squeeze compresses a block if that is wanted and saves at least one unit.
func (s *Sealer) squeeze(x *scratch, block []byte) (payload []byte, form byte) {
	block = block[:blockSize]
	if s.compression == Off || s.compression == Auto && looksRandom(block) {
		return block, 0
	}
	p := s2.Encode(x.packed, block)
	size, whole := prefixSize+len(p), blockSize
	if s.aead != nil {
		size, whole = size+tagSize, MaxStored
	}
	if roundUp(size) >= whole {
		return block, 0
	}
	return p, formS2
}

func (s *Sealer) putPrefix(dst []byte, form byte, n int) []byte {
	dst = append(dst, form, 0)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(n))
	salt := s.salt
	if form&formSealed == 0 {
		salt = 0
	}
	return binary.LittleEndian.AppendUint32(dst, salt)
}

func (s *Sealer) nonce(x *scratch, salt uint32, lsn holdfast.LSN) {
	binary.LittleEndian.PutUint32(x.nonce[:], salt)
	binary.LittleEndian.PutUint64(x.nonce[4:], uint64(lsn))
}

// bind makes the additional data: which volume and block the bytes are of, and
// the prefix in front of them.
func (s *Sealer) bind(x *scratch, addr uint64, prefix []byte) {
	copy(x.aad[:16], s.volume.UUID[:])
	binary.LittleEndian.PutUint64(x.aad[16:], addr)
	copy(x.aad[24:], prefix[:prefixSize])
}

// roundUp rounds a length up to whole units.
func roundUp(n int) int { return (n + Unit - 1) / Unit * Unit }

// pad fills what was appended since at with zeros up to whole units.
func pad(dst []byte, at int) []byte {
	var zeros [Unit]byte
	n := len(dst) - at
	return append(dst, zeros[:roundUp(n)-n]...)
}
