package seal

import (
	"encoding/binary"

	"github.com/klauspost/compress/s2"

	"github.com/holdfast-cloud/holdfast"
)

// Open puts the block of a stored form into dst, which is holdfast.BlockSize
// long and may not overlap stored. Bytes that are no stored form of such a
// volume give kind Corrupt; those that do not authenticate, because the key is
// another or because their holder changed them, kind Denied. dst is not to be
// used after an error.
func (s *Sealer) Open(dst, stored []byte, addr uint64, lsn holdfast.LSN) error {
	if len(dst) != blockSize {
		return holdfast.Errorf(holdfast.Invalid, "block %d: opened into %d bytes, need %d", addr, len(dst), blockSize)
	}
	if s.aead == nil && len(stored) == blockSize {
		copy(dst, stored)
		return nil
	}
	p, err := s.parse(stored, addr)
	if err != nil {
		return err
	}
	if p.form&formSealed == 0 {
		return unpack(dst, p.payload, addr)
	}
	x := s.spare.Get().(*scratch)
	defer s.spare.Put(x)
	s.nonce(x, p.salt, lsn)
	s.bind(x, addr, stored)
	into := dst
	if p.form&formS2 != 0 {
		into = x.packed
	}
	plain, err := s.aead.Open(into[:0], x.nonce[:], p.payload, x.aad[:])
	if err != nil {
		return holdfast.Errorf(holdfast.Denied, "block %d at %v of volume %s cannot be opened: it was sealed with another key, or whoever keeps it has changed it", addr, lsn, s.volume)
	}
	if p.form&formS2 != 0 {
		return unpack(dst, plain, addr)
	}
	return nil
}

// parsed is a stored form whose prefix has been checked.
type parsed struct {
	form    byte
	salt    uint32
	payload []byte // with its tag, if sealed
}

func (s *Sealer) parse(stored []byte, addr uint64) (p parsed, err error) {
	bad := func(what string) (parsed, error) {
		return parsed{}, holdfast.Errorf(holdfast.Corrupt, "block %d of volume %s: its %d stored bytes %s", addr, s.volume, len(stored), what)
	}
	if len(stored) == 0 || len(stored) > MaxStored || len(stored)%Unit != 0 {
		return bad("are not 1 to 9 units")
	}
	p.form = stored[0]
	n := int(binary.LittleEndian.Uint16(stored[2:]))
	p.salt = binary.LittleEndian.Uint32(stored[4:])
	sealed := p.form&formSealed != 0
	switch {
	case p.form == 0 || p.form > formS2|formSealed || stored[1] != 0:
		return bad("have a form that is not known")
	case sealed != (s.aead != nil):
		return bad("are encrypted and the volume is not, or the other way round")
	case p.form&formS2 == 0 && n != blockSize, n == 0 || n > blockSize:
		return bad("say a length that cannot be")
	case !sealed && p.salt != 0:
		return bad("have a salt without a key")
	}
	if sealed {
		n += tagSize
	}
	if roundUp(prefixSize+n) != len(stored) {
		return bad("are not as long as they say")
	}
	for _, b := range stored[prefixSize+n:] {
		if b != 0 {
			return bad("go on behind their end")
		}
	}
	p.payload = stored[prefixSize : prefixSize+n]
	return p, nil
}

// unpack undoes S2.
func unpack(dst, packed []byte, addr uint64) error {
	if n, err := s2.DecodedLen(packed); err != nil || n != blockSize {
		return holdfast.Errorf(holdfast.Corrupt, "block %d: its compressed form is not of one block", addr)
	}
	if _, err := s2.Decode(dst, packed); err != nil {
		return holdfast.Errorf(holdfast.Corrupt, "block %d: its compressed form cannot be read: %w", addr, err)
	}
	return nil
}
