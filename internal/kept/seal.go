package kept

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"io"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/keyring"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

const (
	magic    = "hfkept01"
	fixed    = 8 + 4 + 4 + 8 // magic, format, lengths of head and body
	saltSize = 32
	sumSize  = sha256.Size
)

// Seal returns the bytes of a copy, sealed under key. Format and Salt of its
// head are set here.
func Seal(c Copy, key keyring.Key, random io.Reader) ([]byte, error) {
	c.Format, c.Salt = Format, make([]byte, saltSize)
	if _, err := io.ReadFull(random, c.Salt); err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "no random bytes for a copy of the records: %w", err)
	}
	head, err := json.Marshal(c.Head)
	if err != nil {
		return nil, err
	}
	body, err := encode(c.Items)
	if err != nil {
		return nil, err
	}
	gcm := sealer(key, c.Salt)
	b := make([]byte, 0, fixed+len(head)+len(body)+gcm.Overhead()+sumSize)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, Format)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(head)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(body)+gcm.Overhead()))
	b = append(b, head...)
	b = gcm.Seal(b, make([]byte, gcm.NonceSize()), body, b) // the key is this copy's alone
	sum := sha256.Sum256(b)
	return append(b, sum[:]...), nil
}

// sealer is AES-256-GCM under a key that the salt makes this copy's own.
func sealer(key keyring.Key, salt []byte) cipher.AEAD {
	h := hmac.New(sha256.New, key[:])
	io.WriteString(h, "holdfast kept records 1")
	h.Write(salt)
	c, err := aes.NewCipher(h.Sum(nil))
	if err != nil {
		panic(err) // the sum has the length of a key
	}
	gcm, err := cipher.NewGCM(c)
	if err != nil {
		panic(err)
	}
	return gcm
}

// ReadHead reads what a copy says in the clear, after it has made sure that the
// bytes are whole. Kind Corrupt: they are not, as after a torn write; Invalid: a
// later format.
func ReadHead(b []byte) (Head, error) {
	h, _, _, err := split(b)
	return h, err
}

// split parts a copy into its head, what the seal is bound to, and the sealed
// body.
func split(b []byte) (h Head, bound, body []byte, err error) {
	if len(b) < fixed+sumSize || string(b[:8]) != magic {
		return h, nil, nil, holdfast.Errorf(holdfast.Corrupt, "this is no copy of a cluster's records, or it is cut short")
	}
	if f := binary.LittleEndian.Uint32(b[8:]); f > Format {
		return h, nil, nil, holdfast.Errorf(holdfast.Invalid, "this copy of the cluster's records has format %d, newer than %d, the newest this build knows; run the newer build", f, Format)
	}
	nh, nb := uint64(binary.LittleEndian.Uint32(b[12:])), binary.LittleEndian.Uint64(b[16:])
	if nh > maxHead || nb > MaxBody || fixed+nh+nb+sumSize != uint64(len(b)) {
		return h, nil, nil, holdfast.Errorf(holdfast.Corrupt, "this copy of the cluster's records has %d bytes, which its lengths do not add up to", len(b))
	}
	end := len(b) - sumSize
	if sum := sha256.Sum256(b[:end]); !bytes.Equal(sum[:], b[end:]) {
		return h, nil, nil, holdfast.Errorf(holdfast.Corrupt, "this copy of the cluster's records is damaged, or its write was interrupted")
	}
	bound, body = b[:fixed+nh], b[fixed+nh:end]
	if err := json.Unmarshal(b[fixed:fixed+nh], &h); err != nil {
		return h, nil, nil, holdfast.Errorf(holdfast.Corrupt, "the head of this copy of the cluster's records cannot be read: %w", err)
	}
	if h.Cluster.IsZero() || h.Host.IsZero() || len(h.Salt) != saltSize || h.Incarnation < 0 || h.Rev < 0 {
		return h, nil, nil, holdfast.Errorf(holdfast.Corrupt, "the head of this copy of the cluster's records lacks something")
	}
	if n := len(h.Sum); n != 0 && n != sumSize {
		return h, nil, nil, holdfast.Errorf(holdfast.Corrupt, "the sum in the head of this copy of the cluster's records is none")
	}
	if len(h.Open) == 0 {
		h.Open = nil // whoever has one uses it as a key
	} else if len(h.Open) != keyring.KeySize || h.Key != nil {
		return h, nil, nil, holdfast.Errorf(holdfast.Corrupt, "the key in the head of this copy of the cluster's records is none")
	}
	if h.Key != nil {
		if err := (&keyring.Record{Keys: []keyring.Source{*h.Key}}).Check(); err != nil {
			return h, nil, nil, err
		}
	}
	return h, bound, body, nil
}

// Open returns a copy. Kind Denied: key is not the one it was sealed with, or
// somebody changed it; otherwise as ReadHead.
func Open(b []byte, key keyring.Key) (Copy, error) {
	h, bound, body, err := split(b)
	if err != nil {
		return Copy{}, err
	}
	gcm := sealer(key, h.Salt)
	plain, err := gcm.Open(nil, make([]byte, gcm.NonceSize()), body, bound)
	if err != nil {
		return Copy{}, holdfast.Errorf(holdfast.Denied, "this key does not open the copy of cluster %s's records", h.Name)
	}
	items, err := decode(plain)
	return Copy{h, items}, err
}

// encode writes items: their number, then of each key, revision and value.
func encode(items []kv.Item) ([]byte, error) {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(items)))
	for _, it := range items {
		if len(it.Key) > maxKey || len(it.Value) > kv.MaxValue {
			return nil, holdfast.Errorf(holdfast.Invalid, "record %.80q with %d bytes is too large to be kept", it.Key, len(it.Value))
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(len(it.Key)))
		b = append(b, it.Key...)
		b = binary.LittleEndian.AppendUint64(b, uint64(it.Mod))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(it.Value)))
		b = append(b, it.Value...)
	}
	if len(items) > MaxItems || len(b) > MaxBody-64 {
		return nil, holdfast.Errorf(holdfast.Invalid, "%d records with %d bytes are too many to be kept", len(items), len(b))
	}
	return b, nil
}

// decode reads what encode wrote; the keys ascend. Kind Corrupt.
func decode(b []byte) ([]kv.Item, error) {
	bad := holdfast.Errorf(holdfast.Corrupt, "the records of a copy cannot be read")
	if len(b) < 4 {
		return nil, bad
	}
	n := int(binary.LittleEndian.Uint32(b))
	if b = b[4:]; n > MaxItems || n > len(b)/14 {
		return nil, bad
	}
	items := make([]kv.Item, 0, n)
	for i := range n {
		if len(b) < 2 {
			return nil, bad
		}
		nk := int(binary.LittleEndian.Uint16(b))
		if b = b[2:]; nk > maxKey || len(b) < nk+12 {
			return nil, bad
		}
		it := kv.Item{Key: string(b[:nk]), Mod: kv.Rev(binary.LittleEndian.Uint64(b[nk:]))}
		nv := int(binary.LittleEndian.Uint32(b[nk+8:]))
		if b = b[nk+12:]; nv > kv.MaxValue || len(b) < nv || it.Mod <= 0 || i > 0 && it.Key <= items[i-1].Key {
			return nil, bad
		}
		it.Value, b = bytes.Clone(b[:nv]), b[nv:]
		items = append(items, it)
	}
	if len(b) > 0 {
		return nil, bad
	}
	return items, nil
}
