// Package keyring is the keys of encrypted volumes: a random data key per
// volume, wrapped by the cluster key, which comes from a key file or a
// passphrase. Only wrapped keys are ever written down by Holdfast; a Ring holds
// the cluster key in a host's memory. The record's form is
// docs/format/cluster.md, the reasons are docs/adr/0045.
package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"

	"github.com/holdfast-cloud/holdfast"
)

// KeySize is the length of every key in bytes: AES-256.
const KeySize = 32

// Key is a cluster key or a volume's data key. Formatting and logging one shows
// nothing of it.
type Key [KeySize]byte

// String, GoString and LogValue keep the key out of logs and messages.
func (k Key) String() string { return "(secret)" }

// GoString implements fmt.GoStringer.
func (k Key) GoString() string { return "keyring.Key{…}" }

// Format implements fmt.Formatter, so that no verb shows the bytes.
func (k Key) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// LogValue implements slog.LogValuer.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalJSON refuses: a key is never part of a record or an answer.
func (k Key) MarshalJSON() ([]byte, error) {
	return nil, holdfast.Errorf(holdfast.Invalid, "a key is not to be written down")
}

// NewKey reads a random key.
func NewKey(r io.Reader) (Key, error) {
	var k Key
	if _, err := io.ReadFull(r, k[:]); err != nil {
		return Key{}, holdfast.Errorf(holdfast.IO, "no random bytes for a key: %w", err)
	}
	return k, nil
}

// ID names a cluster key: 32 lower case hexadecimal digits that follow from the
// key and do not give it away.
type ID string

// Short is the first digits, for people.
func (id ID) Short() string { return string(id[:min(len(id), 8)]) }

// Valid reports whether id could be a key's.
func (id ID) Valid() bool {
	b, err := hex.DecodeString(string(id))
	return err == nil && len(b) == 16 && hex.EncodeToString(b) == string(id)
}

// ID returns a cluster key's name: half of an HMAC-SHA-256.
func (k *Key) ID() ID {
	h := hmac.New(sha256.New, k[:])
	io.WriteString(h, "holdfast cluster key 1")
	return ID(hex.EncodeToString(h.Sum(nil)[:16]))
}

// Wrapped is a volume's data key, encrypted under a cluster key.
type Wrapped struct {
	Volume holdfast.VolumeID `json:"volume"` // whose blocks it seals
	Under  ID                `json:"under"`  // the cluster key
	Data   []byte            `json:"data"`   // nonce (12), ciphertext (32), tag (16)
}

const (
	nonceSize   = 12
	wrappedSize = nonceSize + KeySize + 16
)

// Check refuses what cannot be a wrapped key.
func (w Wrapped) Check() error {
	switch {
	case w.Volume.IsZero():
		return holdfast.Errorf(holdfast.Invalid, "a wrapped key belongs to no volume")
	case !w.Under.Valid():
		return holdfast.Errorf(holdfast.Invalid, "a wrapped key is under %.40q, which is no key's name", string(w.Under))
	case len(w.Data) != wrappedSize:
		return holdfast.Errorf(holdfast.Invalid, "a wrapped key has %d bytes, not %d", len(w.Data), wrappedSize)
	}
	return nil
}

// Wrap encrypts a volume's data key under a cluster key: AES-256-GCM with a
// random nonce, bound to the volume and to the cluster key's name.
func Wrap(cluster *Key, vol holdfast.VolumeID, data *Key, random io.Reader) (Wrapped, error) {
	w := Wrapped{Volume: vol, Under: cluster.ID(), Data: make([]byte, nonceSize, wrappedSize)}
	if _, err := io.ReadFull(random, w.Data); err != nil {
		return Wrapped{}, holdfast.Errorf(holdfast.IO, "no random bytes for a nonce: %w", err)
	}
	w.Data = aead(cluster).Seal(w.Data, w.Data, data[:], w.bound())
	return w, nil
}

// Unwrap returns the data key. Kind Denied: under is not the key that it was
// wrapped with, or the record was changed.
func (w Wrapped) Unwrap(under *Key) (Key, error) {
	var k Key
	if err := w.Check(); err != nil {
		return k, err
	}
	if _, err := aead(under).Open(k[:0], w.Data[:nonceSize], w.Data[nonceSize:], w.bound()); err != nil {
		return Key{}, holdfast.Errorf(holdfast.Denied, "the data key of volume %s does not open under cluster key %s: its record was changed, or the key is another", w.Volume.Short(), w.Under.Short())
	}
	return k, nil
}

func (w Wrapped) bound() []byte {
	return append(append([]byte("holdfast volume key 1"), w.Volume.UUID[:]...), w.Under...)
}

// aead is AES-256-GCM under a key, whose length leaves nothing to go wrong.
func aead(k *Key) cipher.AEAD {
	c, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCM(c)
	if err != nil {
		panic(err)
	}
	return a
}
