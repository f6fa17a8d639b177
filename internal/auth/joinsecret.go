package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"

	"github.com/holdfast-cloud/holdfast"
)

// Bounds of a join code's secret in bytes; 128 random bits are enough.
const (
	minSecret = 16
	maxSecret = 64
)

// HashOf is the form in which the cluster stores a join code's secret
// (cluster.JoinCode.Hash): its SHA-256 in hexadecimal. With 128 random bits
// there is nothing to guess, so no slow hash is needed.
func HashOf(secret []byte) string {
	h := sha256.Sum256(secret)
	return hex.EncodeToString(h[:])
}

// HashSecret is HashOf for the secret's hexadecimal text, as a joining host
// sends it.
func HashSecret(text string) (string, error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) < minSecret || len(b) > maxSecret {
		return "", holdfast.Errorf(holdfast.Invalid, "the join secret is not 32 to 128 hexadecimal digits; pass the join code whole, as it was printed")
	}
	return HashOf(b), nil
}

// SameHash compares two hashes in constant time.
func SameHash(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
