// Package auth is the cluster's identity: its certificate authority, the
// certificates of hosts and admins, the TLS settings that accept nobody else,
// and what is kept of the secrets that let a new host in.
//
// A certificate says who somebody is; whether they are a member is never read
// from it. Membership comes from kv, through the Allow callback, and is asked
// at every handshake. Dates are no part of trust: certificates are valid from
// 1960 to 9999 and are verified at a pinned instant, so that a host whose
// clock says 1970 or 2099 is let in like any other.
//
// The rules for joining are docs/protocol/join.md.
package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// validity is that of every certificate: wider than any clock's error, so that
// software that does look at dates (etcd, curl) agrees with us. RFC 5280
// §4.1.2.5 gives the last instant as "no well-defined expiration date".
func validity() (notBefore, notAfter time.Time) {
	return time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
}

// pinned is the instant at which chains are verified, whatever the time is.
func pinned() time.Time { return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) }

// NewKey returns a new ECDSA P-256 key, the only kind the cluster uses.
func NewKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// KeyHash returns the SHA-256 of a certificate's public key (its
// SubjectPublicKeyInfo, RFC 5280 §4.1.2.7) in hexadecimal. A host is its
// HostID with this hash (cluster.Host.CertKey).
func KeyHash(c *x509.Certificate) string {
	h := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(h[:])
}

// checkKey refuses public keys other than ECDSA P-256.
func checkKey(what string, pub any) error {
	k, ok := pub.(*ecdsa.PublicKey)
	if !ok || k.Curve != elliptic.P256() {
		return holdfast.Errorf(holdfast.Invalid, "%s: the key is not ECDSA P-256, the only kind this cluster accepts; make a new one", what)
	}
	return nil
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}
