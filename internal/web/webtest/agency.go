// Package webtest is an authority that is none of the cluster's, for tests: a site's
// people trust it already.
package webtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// Agency is such an authority; its certificates hold from an hour before now, for
// ninety days.
type Agency struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey

	t   testing.TB
	now time.Time
}

// New makes one.
func New(t testing.TB, now time.Time) *Agency {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &Agency{Key: key, t: t, now: now}
	a.Cert = a.Sign(&x509.Certificate{Subject: pkix.Name{CommonName: "Agency CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, key.Public())
	return a
}

// Sign vouches for what a certificate says; it holds for how long that says.
func (a *Agency) Sign(c *x509.Certificate, pub crypto.PublicKey) *x509.Certificate {
	c.SerialNumber = big.NewInt(7)
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = a.now.Add(-time.Hour), a.now.Add(90*24*time.Hour)
	}
	by := a.Cert
	if by == nil {
		by = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, pub, a.Key)
	if err != nil {
		a.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return out
}

// Site makes a certificate for some names, with the agency's behind it, and its key:
// PEM.
func (a *Agency) Site(names ...string) (certs, key []byte) {
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf := a.Sign(&x509.Certificate{DNSNames: names, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, k.Public())
	return PEM(leaf, a.Cert), KeyPEM(a.t, k)
}

// PEM writes certificates one after the other.
func PEM(certs ...*x509.Certificate) []byte {
	var b []byte
	for _, c := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

// KeyPEM writes a key, PKCS #8.
func KeyPEM(t testing.TB, k any) []byte {
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})
}
