package backup

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"io"
	"os"
	"strings"

	"filippo.io/age"

	"github.com/holdfast-cloud/holdfast"
)

const dataKeySize = 32

// maxWrapped bounds a key part, in bytes.
const maxWrapped = 64 << 10

// Recipients reads the public keys to which a backup is sealed.
func Recipients(keys []string) (out []age.Recipient, err error) {
	for _, k := range keys {
		r, err := age.ParseX25519Recipient(strings.TrimSpace(k))
		if err != nil {
			return nil, holdfast.Errorf(holdfast.Invalid, "recipient %.80q: %w; give a public key as age-keygen prints it, age1…", k, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// Identities reads the private keys in a file of age-keygen.
func Identities(path string) ([]age.Identity, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.NotFound, "identity: %w", err)
	}
	defer f.Close()
	ids, err := age.ParseIdentities(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "identity %s: %w; give a file as age-keygen writes it", path, err)
	}
	return ids, nil
}

// sealing seals the parts of one run of a writer.
type sealing struct{ aead cipher.AEAD }

// newSealing makes a data key, and wraps it.
func newSealing(to []age.Recipient) (*sealing, []byte, error) {
	key := make([]byte, dataKeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, nil, holdfast.Errorf(holdfast.IO, "a data key: %w", err)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to...)
	if err == nil {
		_, err = w.Write(key)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil && out.Len() > maxWrapped {
		err = holdfast.Errorf(holdfast.Invalid, "too many recipients")
	}
	if err != nil {
		return nil, nil, holdfast.Errorf(holdfast.Invalid, "the backup cannot be sealed: %w", err)
	}
	s, err := sealingOf(key)
	return s, out.Bytes(), err
}

func sealingOf(key []byte) (*sealing, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &sealing{aead}, err
}

// openSealing unwraps a data key.
func openSealing(wrapped []byte, ids []age.Identity) (*sealing, error) {
	if len(wrapped) > maxWrapped {
		return nil, holdfast.Errorf(holdfast.Invalid, "the backup's key is longer than one may be")
	}
	r, err := age.Decrypt(bytes.NewReader(wrapped), ids...)
	var key []byte
	if err == nil {
		key, err = io.ReadAll(io.LimitReader(r, dataKeySize+1))
	}
	if err == nil && len(key) != dataKeySize {
		err = holdfast.Errorf(holdfast.Invalid, "it has %d bytes", len(key))
	}
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Denied, "the identity does not open this backup: %w; it was sealed to others", err)
	}
	return sealingOf(key)
}

func nonce(seq uint64) []byte { return binary.LittleEndian.AppendUint64(make([]byte, 4, 12), seq) }

// seal appends the payload, sealed, to dst. head and extents are bound to it.
func (s *sealing) seal(dst, payload []byte, seq uint64, head, extents []byte) []byte {
	return s.aead.Seal(dst, nonce(seq), payload, bound(head, extents))
}

func (s *sealing) open(payload []byte, seq uint64, head, extents []byte) ([]byte, error) {
	b, err := s.aead.Open(nil, nonce(seq), payload, bound(head, extents))
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Corrupt, "a part of the backup is not what was sealed, though its hash is right: somebody changed it")
	}
	return b, nil
}

func bound(head, extents []byte) []byte {
	return append(append(make([]byte, 0, len(head)+len(extents)), head...), extents...)
}
