package web

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// siteKey is where a site's own certificate stands; nothing, if it has none.
const siteKey = dir + "site"

// Bounds of what a site gives.
const (
	MaxSite     = 64 << 10 // PEM of certificates, bytes
	MaxSiteKey  = 16 << 10 // PEM of the key, bytes
	maxChain    = 8        // certificates
	minRSA      = 2048     // bits: browsers take no shorter ones
	maxRSA      = 8192
	endsSoon    = 21 * 24 * time.Hour
	endsSoonest = 4 // or this part of its life, if that is shorter
)

// Site is a certificate that a site has from elsewhere, from an authority that its
// people's browsers trust already, for names of the site's own DNS.
type Site struct {
	Chain [][]byte `json:"chain"` // DER: its own, then those that vouch for it
	Key   Secret   `json:"key"`

	leaf *x509.Certificate
	cert *tls.Certificate
}

// NewSite reads certificates and their key, PEM. Kind Invalid.
func NewSite(certs, key []byte, now time.Time) (*Site, error) {
	bad := func(format string, args ...any) (*Site, error) {
		return nil, holdfast.Errorf(holdfast.Invalid, "the site's certificate: "+format, args...)
	}
	if len(certs) > MaxSite || len(key) > MaxSiteKey {
		return bad("%d bytes and a key of %d; at most %d and %d are read", len(certs), len(key), MaxSite, MaxSiteKey)
	}
	s := new(Site)
	for rest := certs; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		switch {
		case strings.HasSuffix(b.Type, "PRIVATE KEY"):
			return bad("there is a key among the certificates; give it apart, in its own file")
		case b.Type != "CERTIFICATE":
			return bad("%.40q is no certificate; give those alone", b.Type)
		}
		s.Chain = append(s.Chain, b.Bytes)
	}
	if len(s.Chain) == 0 {
		return bad("there is none; give PEM, which begins with -----BEGIN CERTIFICATE-----")
	}
	b, rest := pem.Decode(key)
	for b != nil && b.Type == "EC PARAMETERS" { // OpenSSL writes the curve before the key, which names it, too
		b, rest = pem.Decode(rest)
	}
	switch {
	case b == nil:
		return bad("there is no key; give PEM, which begins with -----BEGIN PRIVATE KEY-----")
	case b.Type == "ENCRYPTED PRIVATE KEY" || b.Headers["DEK-Info"] != "":
		return bad("its key is encrypted; 'openssl pkey -in FILE' writes it as it can be read here")
	}
	k, err := privateKey(b)
	if err != nil {
		return bad("its key: %w", err)
	}
	if s.Key, err = x509.MarshalPKCS8PrivateKey(k); err != nil {
		return bad("its key: %w", err)
	}
	if err := s.Check(); err != nil {
		return bad("%w", err)
	}
	if !now.Before(s.leaf.NotAfter) {
		return bad("it has ended on %s", s.leaf.NotAfter.Format(time.DateOnly))
	}
	return s, nil
}

func privateKey(b *pem.Block) (any, error) {
	switch b.Type {
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(b.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(b.Bytes)
	}
	return x509.ParsePKCS8PrivateKey(b.Bytes)
}

// Check says what is wrong with it, and notes what it is: nothing else may be asked of
// one that was decoded before that. Kind Invalid.
func (s *Site) Check() error {
	bad := func(format string, args ...any) error { return holdfast.Errorf(holdfast.Invalid, format, args...) }
	size := len(s.Key)
	for _, der := range s.Chain {
		size += len(der)
	}
	if len(s.Chain) == 0 || len(s.Chain) > maxChain || size > MaxSite {
		return bad("%d certificates of %d bytes; 1 to %d are read, of at most %d", len(s.Chain), size, maxChain, MaxSite)
	}
	var chain []*x509.Certificate
	for i, der := range s.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return bad("certificate %d: %w", i+1, err)
		}
		chain = append(chain, c)
	}
	for i, c := range chain[1:] {
		if err := chain[i].CheckSignatureFrom(c); err != nil {
			return bad("certificate %d (%s) does not vouch for certificate %d (%s): %w; give the site's own first, and then each that vouches for the one before", i+2, name(c), i+1, name(chain[i]), err)
		}
	}
	leaf := chain[0]
	k, err := x509.ParsePKCS8PrivateKey(s.Key)
	if err != nil {
		return bad("its key: %w", err)
	}
	switch k := k.(type) {
	case *ecdsa.PrivateKey:
		if !k.PublicKey.Equal(leaf.PublicKey) {
			return bad("the key is another certificate's")
		}
	case *rsa.PrivateKey:
		if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA {
			return bad("its key has %d bits; %d to %d are taken", bits, minRSA, maxRSA)
		}
		if !k.PublicKey.Equal(leaf.PublicKey) {
			return bad("the key is another certificate's")
		}
	default:
		return bad("its key is neither RSA nor ECDSA, which are those that browsers take")
	}
	switch {
	case leaf.IsCA:
		return bad("%s is an authority; give a certificate for a web server", name(leaf))
	case len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny):
		return bad("%s is not for web servers", name(leaf))
	case !slices.ContainsFunc(leaf.DNSNames, usable):
		return bad("it stands for no name by which the pages can be opened, only for %.200q", strings.Join(leaf.DNSNames, " "))
	}
	s.leaf = leaf
	s.cert = &tls.Certificate{Certificate: s.Chain, PrivateKey: k, Leaf: leaf}
	return nil
}

// name is what people call a certificate.
func name(c *x509.Certificate) string {
	if len(c.DNSNames) > 0 {
		return c.DNSNames[0]
	}
	return c.Subject.String()
}

// usable reports whether pages can be opened by a name of a certificate, the cluster's
// own names not being among them.
func usable(name string) bool {
	return checkName(strings.TrimPrefix(strings.ToLower(name), "*.")) == nil
}

// Names are those that it stands for and that are of use; the first label of one may be
// "*", for any word.
func (s *Site) Names() []string {
	var names []string
	for _, n := range s.leaf.DNSNames {
		if usable(n) {
			names = append(names, strings.ToLower(n))
		}
	}
	return names
}

// Has reports whether it stands for a name, however that is written.
func (s *Site) Has(name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return net.ParseIP(name) == nil && usable(name) && s.leaf.VerifyHostname(name) == nil
}

// From and Until are its first and last moments, and Issuer who vouches for it.
func (s *Site) From() time.Time  { return s.leaf.NotBefore }
func (s *Site) Until() time.Time { return s.leaf.NotAfter }
func (s *Site) Issuer() string   { return s.leaf.Issuer.String() }

// Fingerprint is its SHA-256, as browsers show it.
func (s *Site) Fingerprint() [sha256.Size]byte { return sha256.Sum256(s.leaf.Raw) }

// Holds reports whether browsers take it now.
func (s *Site) Holds(now time.Time) bool {
	return !now.Before(s.leaf.NotBefore) && now.Before(s.leaf.NotAfter)
}

// EndsSoon reports whether it is time to have another one: three weeks are left, or a
// quarter of its life if that is less.
func (s *Site) EndsSoon(now time.Time) bool {
	life := s.leaf.NotAfter.Sub(s.leaf.NotBefore)
	return s.leaf.NotAfter.Sub(now) < min(endsSoon, life/endsSoonest)
}

// Equal reports whether it is the same certificate and key; either may be nil.
func (s *Site) Equal(o *Site) bool {
	if s == nil || o == nil {
		return s == o
	}
	return slices.EqualFunc(s.Chain, o.Chain, bytes.Equal) && bytes.Equal(s.Key, o.Key)
}

func decodeSite(b []byte) (*Site, error) {
	s := new(Site)
	err := json.Unmarshal(b, s)
	if err == nil {
		err = s.Check()
	}
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Corrupt, "the record of the site's certificate: %w", err)
	}
	return s, nil
}
