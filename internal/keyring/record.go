package keyring

import (
	"bytes"
	"io"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/holdfast-cloud/holdfast"
)

// Origin says what a cluster key comes from.
type Origin string

// The origins.
const (
	File       Origin = "file"
	Passphrase Origin = "passphrase"
)

// Source is how one cluster key is found again. It is no secret, but what is
// derived from a weak passphrase can be guessed with it.
type Source struct {
	ID      ID        `json:"id"`
	From    Origin    `json:"from"`
	Argon   *Argon    `json:"argon2id,omitempty"` // of a passphrase
	Created time.Time `json:"created"`
}

// Record is the cluster's record of its keys: the one that wraps, last, and
// while a rotation is under way those that still wrap something, before it.
type Record struct {
	Keys []Source `json:"keys"`
}

// maxKeys bounds the rotations under way: one is not begun before the one
// before it is complete.
const maxKeys = 2

// Current returns the key that new data keys are wrapped with.
func (r *Record) Current() Source {
	if len(r.Keys) == 0 {
		return Source{}
	}
	return r.Keys[len(r.Keys)-1]
}

// Find returns the source of a key.
func (r *Record) Find(id ID) (Source, bool) {
	for _, s := range r.Keys {
		if s.ID == id {
			return s, true
		}
	}
	return Source{}, false
}

// Check refuses a record that breaks the rules.
func (r *Record) Check() error {
	if len(r.Keys) < 1 || len(r.Keys) > maxKeys {
		return holdfast.Errorf(holdfast.Invalid, "the keyring has %d keys: 1 to %d are allowed", len(r.Keys), maxKeys)
	}
	for i, s := range r.Keys {
		switch {
		case !s.ID.Valid():
			return holdfast.Errorf(holdfast.Invalid, "the keyring names a key %.40q", string(s.ID))
		case i > 0 && r.Keys[0].ID == s.ID:
			return holdfast.Errorf(holdfast.Invalid, "the keyring names key %s twice", s.ID.Short())
		case s.From == File && s.Argon == nil:
		case s.From == Passphrase && s.Argon != nil:
			if err := s.Argon.check(); err != nil {
				return err
			}
		default:
			return holdfast.Errorf(holdfast.Invalid, "key %s of the keyring comes from %.20q, or lacks what that needs", s.ID.Short(), string(s.From))
		}
	}
	return nil
}

// Argon is the parameters of Argon2id, version 1.3 (RFC 9106).
type Argon struct {
	Salt      []byte `json:"salt"`
	Time      uint32 `json:"time"`       // passes
	MemoryKiB uint32 `json:"memory_kib"` // of memory
	Threads   uint8  `json:"threads"`    // lanes
}

// NewArgon returns the second recommended parameters of RFC 9106 §4, 64 MiB of
// memory, with a random salt.
func NewArgon(random io.Reader) (Argon, error) {
	a := Argon{Salt: make([]byte, 16), Time: 3, MemoryKiB: 64 << 10, Threads: 4}
	if _, err := io.ReadFull(random, a.Salt); err != nil {
		return a, holdfast.Errorf(holdfast.IO, "no random bytes for a salt: %w", err)
	}
	return a, nil
}

// check bounds what a record can make a host compute.
func (a Argon) check() error {
	if len(a.Salt) < 8 || len(a.Salt) > 64 || a.Time < 1 || a.Time > 16 || a.MemoryKiB < 8*uint32(a.Threads) || a.MemoryKiB > 256<<10 || a.Threads < 1 || a.Threads > 16 {
		return holdfast.Errorf(holdfast.Invalid, "the keyring's Argon2id parameters are out of range: salt of 8 to 64 bytes, 1 to 16 passes, at most 256 MiB, 1 to 16 lanes")
	}
	return nil
}

// Bounds of a passphrase in bytes.
const (
	MinPassphrase = 12
	MaxPassphrase = 1024
)

// Derive returns the key of a passphrase; line ends around it do not count. It
// takes a good part of a second and the memory that it says.
func (a Argon) Derive(passphrase []byte) (Key, error) {
	if err := a.check(); err != nil {
		return Key{}, err
	}
	p := bytes.Trim(passphrase, "\r\n")
	if len(p) < MinPassphrase || len(p) > MaxPassphrase {
		return Key{}, holdfast.Errorf(holdfast.Invalid, "the passphrase has %d bytes: %d to %d are allowed; several random words are easy to keep", len(p), MinPassphrase, MaxPassphrase)
	}
	var k Key
	copy(k[:], argon2.IDKey(p, a.Salt, a.Time, a.MemoryKiB, a.Threads, KeySize))
	return k, nil
}
