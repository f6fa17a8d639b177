package keyring

import (
	"encoding/hex"

	"github.com/holdfast-cloud/holdfast"
)

// What hosts say to each other about keys (docs/protocol/keys.md): a question
// names keys, the answer holds those of them that the asked host has.

const idSize = 16

// AppendQuestion appends the question for keys.
func AppendQuestion(b []byte, ids []ID) []byte {
	for _, id := range ids {
		raw, _ := hex.DecodeString(string(id)) // IDs of a checked record
		b = append(b, raw...)
	}
	return b
}

// DecodeQuestion reads one.
func DecodeQuestion(b []byte) ([]ID, error) {
	if len(b)%idSize != 0 || len(b) > maxKeys*idSize {
		return nil, holdfast.Errorf(holdfast.Invalid, "a question for keys of %d bytes", len(b))
	}
	var ids []ID
	for ; len(b) > 0; b = b[idSize:] {
		ids = append(ids, ID(hex.EncodeToString(b[:idSize])))
	}
	return ids, nil
}

// Answer returns the answer to a question: the keys of it that are on the ring.
func (r *Ring) Answer(ids []ID) []byte {
	var b []byte
	for _, id := range ids {
		if k, ok := r.Get(id); ok {
			b = append(b, k[:]...)
		}
	}
	return b
}

// Learn takes from an answer the keys that were asked for, and returns how many
// were new. What was not asked for is refused.
func (r *Ring) Learn(b []byte, asked []ID) (int, error) {
	if len(b)%KeySize != 0 || len(b) > maxKeys*KeySize {
		return 0, holdfast.Errorf(holdfast.Invalid, "an answer with keys of %d bytes", len(b))
	}
	n := 0
	for ; len(b) > 0; b = b[KeySize:] {
		k := Key(b[:KeySize])
		id := k.ID()
		wanted := false
		for _, a := range asked {
			wanted = wanted || a == id
		}
		if !wanted {
			return n, holdfast.Errorf(holdfast.Invalid, "an answer with a key that was not asked for")
		}
		if r.Add(k) {
			n++
		}
	}
	return n, nil
}
