package web

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
)

// maxPage bounds what is read of a page, PEM, bytes.
const maxPage = 64 << 10

// Page is what one host shows to who opens the pages by one of their names.
type Page struct {
	cert tls.Certificate // with the authority behind it
	leaf *x509.Certificate
	ca   *x509.Certificate
	site *Site // nil: the site has none of its own
}

// With is the page where the site has a certificate of its own, or none: nil.
func (p *Page) With(s *Site) *Page {
	q := *p
	q.site = s
	return &q
}

// Site is the site's own certificate; nil if there is none.
func (p *Page) Site() *Site { return p.site }

// For is what is shown to who asks for a name; nil, if that is none of the pages'. The
// site's own certificate goes before the authority's while it holds.
func (p *Page) For(name string, now time.Time) *tls.Certificate {
	named, sited := p.named(name), p.site != nil && p.site.Has(name)
	switch {
	case sited && (!named || p.site.Holds(now)):
		return p.site.cert
	case named:
		return &p.cert
	}
	return nil
}

// Page makes a key and has the authority vouch for it.
func (r Record) Page(now time.Time, random io.Reader) (*Page, error) {
	ca, priv, err := r.authority()
	if err != nil {
		return nil, err
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Other, "certificate of the pages: %w", err)
	}
	t, err := template(now, pageLife, random)
	if err != nil {
		return nil, err
	}
	t.Subject = pkix.Name{Organization: []string{"Holdfast"}, CommonName: r.Names[0][:min(len(r.Names[0]), 64)]}
	t.DNSNames, t.KeyUsage = r.Names, x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(random, t, ca, own.Public(), priv)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Other, "certificate of the pages: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Other, "certificate of the pages: %w", err)
	}
	var b bytes.Buffer
	for _, block := range []*pem.Block{{Type: "CERTIFICATE", Bytes: der}, {Type: "CERTIFICATE", Bytes: ca.Raw}, {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := pem.Encode(&b, block); err != nil {
			return nil, holdfast.Errorf(holdfast.Other, "certificate of the pages: %w", err)
		}
	}
	return ReadPage(b.Bytes())
}

// ReadPage reads what Bytes wrote. Kind Corrupt.
func ReadPage(b []byte) (*Page, error) {
	if len(b) > maxPage {
		return nil, holdfast.Errorf(holdfast.Corrupt, "certificate of the pages: %d bytes, at most %d are read", len(b), maxPage)
	}
	cert, err := tls.X509KeyPair(b, b)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Corrupt, "certificate of the pages: %w", err)
	}
	if len(cert.Certificate) != 2 {
		return nil, holdfast.Errorf(holdfast.Corrupt, "certificate of the pages: %d certificates, not its own and the authority's", len(cert.Certificate))
	}
	p := &Page{cert: cert, leaf: cert.Leaf}
	if p.ca, err = x509.ParseCertificate(cert.Certificate[1]); err == nil {
		err = p.leaf.CheckSignatureFrom(p.ca)
	}
	if err == nil {
		err = CheckNames(p.leaf.DNSNames)
	}
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Corrupt, "certificate of the pages: %w", err)
	}
	return p, nil
}

// Bytes are the certificates and the key, PEM.
func (p *Page) Bytes() ([]byte, error) {
	secret, err := x509.MarshalPKCS8PrivateKey(p.cert.PrivateKey)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Other, "certificate of the pages: %w", err)
	}
	var b []byte
	for _, der := range p.cert.Certificate {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return append(b, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...), nil
}

// Names are those that the authority vouches for.
func (p *Page) Names() []string { return p.leaf.DNSNames }

// Has reports whether the pages are opened by a name, however it is written.
func (p *Page) Has(name string) bool { return p.named(name) || p.site != nil && p.site.Has(name) }

func (p *Page) named(name string) bool {
	return slices.Contains(p.leaf.DNSNames, strings.ToLower(strings.TrimSuffix(name, ".")))
}

// CA is the authority's certificate, DER.
func (p *Page) CA() []byte { return p.ca.Raw }

// Fingerprint is the SHA-256 of that, as phones and browsers show it.
func (p *Page) Fingerprint() [sha256.Size]byte { return sha256.Sum256(p.ca.Raw) }

// Until is when the authority ends.
func (p *Page) Until() time.Time { return p.ca.NotAfter }

// Serves reports whether it is what a record asks for, and lasts: half of its life is
// left. A host whose clock is wrong makes one anew when that was set.
func (p *Page) Serves(r Record, now time.Time) bool {
	return bytes.Equal(p.ca.Raw, r.CA) && slices.Equal(p.leaf.DNSNames, r.Names) && now.After(p.leaf.NotBefore) && now.Add(pageLife/2).Before(p.leaf.NotAfter)
}
