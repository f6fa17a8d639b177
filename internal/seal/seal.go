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
	// NonceSize is the length of a nonce in bytes: salt (4), LSN (8).
	NonceSize = 12

	blockSize  = holdfast.BlockSize
	prefixSize = 8
	tagSize    = 16
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
	// of the promise that no nonce is used twice: with what is encrypted, which it
	// must not keep.
	Witness Witness
}

// Witness is told of a sealing of a block: its nonce and what was encrypted.
type Witness func(nonce [NonceSize]byte, plaintext []byte)

// Sealer seals and opens the blocks of one volume. It is safe for concurrent
// use.
type Sealer struct {
	volume      holdfast.VolumeID
	compression Compression
	aead        cipher.AEAD // nil: not encrypted
	salt        uint32
	witness     Witness
	spare       sync.Pool // of *scratch
}

// scratch is what one call needs beside its arguments.
type scratch struct {
	packed []byte // the block, compressed
	nonce  [NonceSize]byte
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

// Compresses reports whether Pack has anything to do.
func (s *Sealer) Compresses() bool { return s.compression != Off }

// Seal appends the stored form of a block to dst: 1 to 9 units. block is
// holdfast.BlockSize long and may not overlap what is appended. With room for
// MaxStored bytes behind dst nothing is allocated.
func (s *Sealer) Seal(dst, block []byte, addr uint64, lsn holdfast.LSN) []byte {
	if s.compression == Off {
		return s.SealPacked(dst, block[:blockSize], addr, lsn)
	}
	x := s.spare.Get().(*scratch)
	defer s.spare.Put(x)
	return s.SealPacked(dst, s.squeeze(x, block), addr, lsn)
}

// Pack does the first half of Seal, which needs no LSN and may be done by many
// at once: it returns what SealPacked is to be given, which is the block itself or,
// in dst, something shorter. dst is holdfast.BlockSize long.
func (s *Sealer) Pack(dst, block []byte) []byte {
	if s.compression == Off {
		return block[:blockSize]
	}
	x := s.spare.Get().(*scratch)
	defer s.spare.Put(x)
	p := s.squeeze(x, block)
	if len(p) == blockSize {
		return p
	}
	return dst[:copy(dst, p)]
}

// SealPacked does the second half of Seal.
func (s *Sealer) SealPacked(dst, payload []byte, addr uint64, lsn holdfast.LSN) []byte {
	var form byte
	if len(payload) < blockSize {
		form = formS2
	}
	if s.aead == nil && form == 0 {
		return append(dst, payload...)
	}
	if s.aead != nil {
		form |= formSealed
	}
	at := len(dst)
	dst = s.putPrefix(dst, form, len(payload))
	if s.aead == nil {
		return pad(append(dst, payload...), at)
	}
	x := s.spare.Get().(*scratch)
	defer s.spare.Put(x)
	s.nonce(x, s.salt, lsn)
	s.bind(x, addr, dst[at:])
	if s.witness != nil {
		s.witness(x.nonce, payload)
	}
	return pad(s.aead.Seal(dst, x.nonce[:], payload, x.aad[:]), at)
}

// squeeze compresses a block if that is wanted and saves at least one unit; else
// it returns the block.
func (s *Sealer) squeeze(x *scratch, block []byte) []byte {
	block = block[:blockSize]
	if s.compression == Auto && looksRandom(block) {
		return block
	}
	p := s2.Encode(x.packed, block)
	size, whole := prefixSize+len(p), blockSize
	if s.aead != nil {
		size, whole = size+tagSize, MaxStored
	}
	if roundUp(size) >= whole {
		return block
	}
	return p
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
