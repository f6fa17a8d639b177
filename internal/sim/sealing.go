package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/provision"
	"github.com/holdfast-cloud/holdfast/internal/seal"
	"github.com/holdfast-cloud/holdfast/internal/store"
	"github.com/holdfast-cloud/holdfast/internal/volume"
)

// sealings is the cluster key, which every host reads from its key file when it
// starts, and what is checked of every block that is encrypted anywhere.
type sealings struct {
	rng  *rand.Rand
	key  keyring.Key
	ring *keyring.Ring
	seen map[sealedAs][sha256.Size]byte
}

// sealedAs is what one content may be sealed under, for ever. The salt of an
// opening is left out: it is there for a control plane that was restored from a
// backup, and nothing else may lean on it.
type sealedAs struct {
	key keyring.Key
	lsn holdfast.LSN
}

func (s *simulation) newSealings() *sealings {
	x := &sealings{rng: s.w.Rand("sealing"), ring: keyring.NewRing(), seen: make(map[sealedAs][sha256.Size]byte)}
	for i := range x.key {
		x.key[i] = byte(x.rng.Uint32())
	}
	x.ring.Add(x.key)
	return x
}

// spec has a part of the volumes compressed, encrypted or both.
func (x *sealings) spec(v provision.VolumeSpec) provision.VolumeSpec {
	v.Compression = []string{"off", "fast", "auto"}[x.rng.IntN(3)]
	v.Encrypt = x.rng.IntN(2) == 0
	return v
}

// sealed checks invariant 5: no key and nonce ever seal two contents, over
// crashes, take-overs, clones and reverts.
func (s *simulation) sealed(key keyring.Key, nonce [seal.NonceSize]byte, plaintext []byte) {
	as := sealedAs{key, holdfast.LSN(binary.LittleEndian.Uint64(nonce[4:]))}
	is := sha256.Sum256(append(nonce[:4:4], plaintext...))
	if was, ok := s.sealings.seen[as]; ok && was != is {
		s.fail("two contents were sealed under one key as %v (invariant 5)", as.lsn)
	}
	s.sealings.seen[as] = is
}

// opener opens what the replicas of a volume keep.
func (s *simulation) opener(v cluster.Volume) store.Opener {
	keys, err := s.sealings.ring.Unwrap(v.Keys)
	s.must(err, "keys of "+v.Name)
	o, err := volume.NewOpener(keys)
	s.must(err, "opener of "+v.Name)
	return o
}
