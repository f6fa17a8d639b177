package v1

import (
	"encoding/hex"
	"io"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// KeySize is the length of a cluster key in bytes.
const KeySize = 32

// keyStart is what the text of a cluster key starts with.
const keyStart = "hfkey1-"

// ClusterKeyText returns the line that stands in a key file.
func ClusterKeyText(k [KeySize]byte) string { return keyStart + hex.EncodeToString(k[:]) + "\n" }

// NewClusterKey returns the line of a random key.
func NewClusterKey(random io.Reader) (string, error) {
	var k [KeySize]byte
	if _, err := io.ReadFull(random, k[:]); err != nil {
		return "", holdfast.Errorf(holdfast.IO, "no random bytes for a key: %w", err)
	}
	return ClusterKeyText(k), nil
}

// ParseClusterKey reads such a line; white space around it does not count. Its
// error shows nothing of it.
func ParseClusterKey(s string) (k [KeySize]byte, err error) {
	digits, ok := strings.CutPrefix(strings.TrimSpace(s), keyStart)
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != KeySize {
		return k, holdfast.Errorf(holdfast.Invalid, "this is not a cluster key: a key file holds one line, %s and %d hexadecimal digits", keyStart, 2*KeySize)
	}
	return [KeySize]byte(b), nil
}

// KeySpec is a cluster key: the line of a key file, or a passphrase.
type KeySpec struct {
	Key        string `json:"key,omitempty" maxLength:"128" doc:"The line of a key file"`
	Passphrase string `json:"passphrase,omitempty" maxLength:"1024" doc:"Or a passphrase, from which Argon2id makes the key"`
}

// ClusterKey is what is known of the cluster's key, which is never shown.
type ClusterKey struct {
	State   string     `json:"state" enum:"none,unlocked,locked,rotating"`
	ID      string     `json:"id,omitempty"`
	From    string     `json:"from,omitempty" enum:"file,passphrase"`
	Created *time.Time `json:"created,omitempty"`
	Loaded  []string   `json:"loaded" doc:"Living hosts that have it in memory"`
	Missing []string   `json:"missing" doc:"Living hosts that do not: encrypted volumes are not opened there"`
	Volumes int        `json:"volumes" doc:"Encrypted volumes, images included"`
	ToWrap  int        `json:"to_wrap,omitempty" doc:"Of them, those whose keys the rotation has not come to"`
}
