package volume

import (
	"encoding/binary"
	"io"
	"sync"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/checksum"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/record"
	"github.com/holdfast-cloud/holdfast/internal/seal"
	"github.com/holdfast-cloud/holdfast/internal/store"
)

// sealing is how the blocks of an open volume are stored and read: at its
// writer, and nowhere else, they are compressed and encrypted before they get a
// hash, and opened after it was verified (STORE §4). It does not change while the
// volume is open and is safe for concurrent use.
type sealing struct {
	id    holdfast.VolumeID
	own   *seal.Sealer
	of    map[holdfast.VolumeID]*seal.Sealer // of encrypted volumes: this and those that it was cloned from
	plain *seal.Sealer                       // opens what was written as any other volume
	bufs  *formPool                          // nil: blocks are stored as they are
}

// newSealing makes the sealing of one opening.
func (s *Service) newSealing(rec cluster.Volume) (*sealing, error) {
	var keys map[holdfast.VolumeID]keyring.Key // of the volume and what it was cloned from, of those that are encrypted
	if s.Keys != nil {
		var err error
		if keys, err = s.Keys(rec); err != nil {
			return nil, err
		}
	}
	opens, err := NewOpener(keys)
	if err != nil {
		return nil, err
	}
	x := opens.(*sealing)
	x.id = rec.ID
	o := seal.Options{Volume: rec.ID}
	switch rec.Compression {
	case "fast":
		o.Compression = seal.Fast
	case "auto":
		o.Compression = seal.Auto
	}
	var salt [4]byte
	if k, ok := keys[rec.ID]; ok {
		if _, err := io.ReadFull(s.Rand, salt[:]); err != nil {
			return nil, holdfast.Errorf(holdfast.IO, "volume %s: no random bits for this opening: %w", rec.Name, err)
		}
		o.Key, o.Salt = (*[seal.KeySize]byte)(&k), binary.LittleEndian.Uint32(salt[:])
		if s.Sealed != nil {
			o.Witness = func(nonce [seal.NonceSize]byte, plaintext []byte) { s.Sealed(k, nonce, plaintext) }
		}
	}
	if rec.Encrypted() && o.Key == nil { // nothing of it may be stored as it is
		return nil, holdfast.Errorf(holdfast.Unavailable, "volume %s is locked: its data key is not here", rec.Name)
	}
	if x.own, err = seal.New(o); err != nil {
		return nil, err
	}
	if !x.own.Plain() {
		x.bufs = new(formPool)
	}
	return x, nil
}

// NewOpener returns what opens the blocks that the replicas of a volume keep,
// with the data keys of it and of what it was cloned from, for whoever reads a
// replica without opening the volume.
func NewOpener(keys map[holdfast.VolumeID]keyring.Key) (store.Opener, error) {
	x := &sealing{of: make(map[holdfast.VolumeID]*seal.Sealer)}
	var err error
	for id, k := range keys { // in any order: each is made by itself
		if x.of[id], err = seal.New(seal.Options{Volume: id, Key: (*[seal.KeySize]byte)(&k)}); err != nil {
			return nil, err
		}
	}
	x.plain, err = seal.New(seal.Options{})
	return x, err
}

func (x *sealing) sealer(origin holdfast.VolumeID) *seal.Sealer {
	if origin == x.id && x.own != nil {
		return x.own
	}
	if s := x.of[origin]; s != nil {
		return s
	}
	return x.plain
}

// Plain implements store.Opener.
func (x *sealing) Plain(origin holdfast.VolumeID) bool { return !x.sealer(origin).Encrypted() }

// Open implements store.Opener.
func (x *sealing) Open(dst, stored []byte, origin holdfast.VolumeID, addr uint64, lsn holdfast.LSN) error {
	return x.sealer(origin).Open(dst, stored, addr, lsn)
}

// packed is blocks of a write that were compressed, as far as that is of use.
type packed struct {
	buf      []byte
	payloads [][]byte // of each block; those that were not compressed are the blocks themselves
}

// packings holds no state between uses.
var packings = sync.Pool{New: func() any { return new(packed) }}

func (p *packed) release() {
	if p == nil {
		return
	}
	clear(p.payloads)
	p.payloads = p.payloads[:0]
	packings.Put(p)
}

// packAside is how many blocks are compressed on tasks of their own, packPart
// how many by each: a block takes a few microseconds.
const (
	packAside = 16
	packPart  = 64
)

// newPacked makes room for the blocks of a write; nil if none are compressed.
func (x *sealing) newPacked(data []byte) *packed {
	if !x.own.Compresses() || len(data) == 0 {
		return nil
	}
	p := packings.Get().(*packed)
	if cap(p.buf) < len(data) {
		p.buf = make([]byte, len(data))
	}
	p.buf = p.buf[:len(data)]
	for range len(data) / holdfast.BlockSize {
		p.payloads = append(p.payloads, nil)
	}
	return p
}

// pack compresses n blocks of a write from block i on.
func (x *sealing) pack(p *packed, data []byte, i, n int) {
	for ; n > 0; i, n = i+1, n-1 {
		at := i * holdfast.BlockSize
		p.payloads[i] = x.own.Pack(p.buf[at:at+holdfast.BlockSize], data[at:at+holdfast.BlockSize])
	}
}

// packAll compresses the blocks of a write; nil if none are to be.
func (x *sealing) packAll(data []byte) *packed {
	p := x.newPacked(data)
	if p != nil {
		x.pack(p, data, 0, len(p.payloads))
	}
	return p
}

// packApart compresses the blocks of a large write on tasks and calls then on
// the last of them.
func (v *Volume) packApart(data []byte, then func(*packed)) {
	p := v.sealing.newPacked(data)
	n := len(p.payloads)
	left := newCountdown((n + packPart - 1) / packPart)
	for i := 0; i < n; i += packPart {
		v.tasks.Go(func() {
			v.sealing.pack(p, data, i, min(packPart, n-i))
			if left.down() {
				then(p)
			}
		})
	}
}

// countdown tells the last of several tasks that it is the last.
type countdown struct {
	mu sync.Mutex
	n  int
}

func newCountdown(n int) *countdown { return &countdown{n: n} }

func (c *countdown) down() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n--
	return c.n == 0
}

// seal gives a Write of n blocks that has its LSNs the form in which it is stored,
// and its hashes. data is the blocks; p what Pack made of them, or nil. What is
// stored stays as it is: whoever lacks the record is sent the same bytes again.
func (x *sealing) seal(r *record.Record, p *packed) {
	if x.bufs == nil {
		for i := range r.Hashes {
			r.Hashes[i] = checksum.Block(x.id, r.Addr+uint64(i), r.LSN+holdfast.LSN(i), r.Data[i*holdfast.BlockSize:(i+1)*holdfast.BlockSize])
		}
		return
	}
	data := r.Data
	buf := x.bufs.get(len(r.Hashes))
	for i := range r.Hashes {
		payload := data[i*holdfast.BlockSize : (i+1)*holdfast.BlockSize]
		if p != nil {
			payload = p.payloads[i]
		}
		at, addr, lsn := len(buf), r.Addr+uint64(i), r.LSN+holdfast.LSN(i)
		buf = x.own.SealPacked(buf, payload, addr, lsn)
		r.Hashes[i] = checksum.Block(x.id, addr, lsn, buf[at:])
	}
	r.Data = buf
}

// release takes back what seal made of a record that nobody needs any more.
func (x *sealing) release(r *record.Record) {
	if x.bufs != nil && r.Kind == record.Write {
		x.bufs.put(r.Data)
	}
}

// formPool keeps buffers for stored forms, by powers of two of their blocks.
type formPool struct {
	classes [9]sync.Pool // 1 to 256 blocks
}

func formClass(blocks int) int {
	c := 0
	for 1<<c < blocks {
		c++
	}
	return c
}

func (f *formPool) get(blocks int) []byte {
	c := formClass(blocks)
	if b, ok := f.classes[c].Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, maxStored<<c)
}

func (f *formPool) put(b []byte) {
	if c := formClass(cap(b) / maxStored); cap(b) == maxStored<<c && c < len(f.classes) {
		f.classes[c].Put(&b)
	}
}
