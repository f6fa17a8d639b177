package iscsi

import (
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// CHAP (RFC 7143 §12.1.3, RFC 1994; the algorithms beyond MD5 from RFC 7143's
// registry). Which is used is the initiator's preference among those known.

// chapDigest returns the digest of an algorithm, or nil.
func chapDigest(algorithm string) func([]byte) []byte {
	switch algorithm {
	case "5":
		return func(b []byte) []byte { d := md5.Sum(b); return d[:] }
	case "6":
		return func(b []byte) []byte { d := sha1.Sum(b); return d[:] }
	case "7":
		return func(b []byte) []byte { d := sha256.Sum256(b); return d[:] }
	case "8":
		return func(b []byte) []byte { d := sha3.Sum256(b); return d[:] }
	}
	return nil
}

// chapAnswer is the response to a challenge.
func chapAnswer(digest func([]byte) []byte, id byte, secret string, challenge []byte) []byte {
	b := append([]byte{id}, secret...)
	return digest(append(b, challenge...))
}

// chapMatches compares two responses in constant time.
func chapMatches(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// newChallenge returns a random identifier and challenge.
func newChallenge() (byte, []byte) {
	var b [33]byte
	rand.Read(b[:]) // never fails
	return b[0], b[1:]
}

// maxBinary bounds binary values of keys, in bytes (RFC 7143 §12.1.3: a
// challenge has at most 1024).
const maxBinary = 1024

// parseBinary reads a binary value: hexadecimal after 0x, or base64 after 0b.
func parseBinary(s string) ([]byte, bool) {
	if len(s) < 3 || len(s) > 2*maxBinary+2 {
		return nil, false
	}
	var b []byte
	var err error
	switch strings.ToLower(s[:2]) {
	case "0x":
		digits := s[2:]
		if len(digits)%2 != 0 {
			digits = "0" + digits
		}
		b, err = hex.DecodeString(digits)
	case "0b":
		b, err = base64.StdEncoding.DecodeString(s[2:])
	default:
		return nil, false
	}
	return b, err == nil && len(b) <= maxBinary
}

func formBinary(b []byte) string { return "0x" + hex.EncodeToString(b) }
