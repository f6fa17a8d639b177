package web

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"log/slog"
	"math/big"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/kv"
)

// dir is where the records stand: below what package cluster keeps, mirrors and
// recovers, in a directory of which it knows nothing.
const (
	dir = "holdfast/2/web/"
	key = dir + "names"
)

// Bounds.
const (
	MaxNames   = 8
	maxCA      = 4 << 10 // bytes
	caLife     = 20 * 365 * 24 * time.Hour
	pageLife   = 390 * 24 * time.Hour // phones believe at most 825 days
	backdate   = 48 * time.Hour       // clocks of phones and hosts differ
	serialBits = 120
)

// Link is the domain whose names are answered for on the link itself (RFC 6762 §3).
const Link = ".local"

// Secret is the authority's private key, PKCS #8. It is written into the record only.
type Secret []byte

// String implements fmt.Stringer.
func (Secret) String() string { return "(secret)" }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return "(secret)" }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue("(secret)") }

// Record is by what the pages are opened, and what vouches for it.
type Record struct {
	Names []string `json:"names"` // the first is the one that people are told
	CA    []byte   `json:"ca"`    // certificate of the web authority, DER
	Key   Secret   `json:"key"`
}

// DefaultName is what a cluster's pages are called if nobody says otherwise.
func DefaultName(cluster string) string { return cluster + Link }

// CheckNames refuses what browsers or passkeys would not take. Kind Invalid.
func CheckNames(names []string) error {
	if len(names) == 0 || len(names) > MaxNames {
		return holdfast.Errorf(holdfast.Invalid, "the pages have %d names; give 1 to %d", len(names), MaxNames)
	}
	for i, n := range names {
		if slices.Contains(names[:i], n) {
			return holdfast.Errorf(holdfast.Invalid, "the name %s is given twice", n)
		}
		if err := checkName(n); err != nil {
			return err
		}
	}
	return nil
}

func checkName(n string) error {
	labels := strings.Split(n, ".")
	ok := len(n) <= 253 && len(labels) >= 2 && net.ParseIP(n) == nil && strings.Trim(labels[len(labels)-1], "0123456789") != ""
	for _, l := range labels {
		ok = ok && holdfast.CheckName("label", l) == nil
	}
	switch {
	case !ok:
		return holdfast.Errorf(holdfast.Invalid, "%.80q is no name for the pages: give a DNS name in small letters with at least one dot, such as field%s or cloud.example.org", n, Link)
	case strings.HasSuffix(n, ".internal"):
		return holdfast.Errorf(holdfast.Invalid, "%.80q is no name for the pages: names in .internal are the cluster's own", n)
	case strings.HasSuffix(n, Link) && len(labels) != 2:
		return holdfast.Errorf(holdfast.Invalid, "%.80q is no name for the pages: before %s stands one word, as many devices find no other", n, Link)
	}
	return nil
}

// New makes a record with an authority of its own for the names. Kind Invalid.
func New(names []string, cluster string, now time.Time, random io.Reader) (Record, error) {
	if err := CheckNames(names); err != nil {
		return Record{}, err
	}
	priv, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return Record{}, holdfast.Errorf(holdfast.Other, "web authority: %w", err)
	}
	t, err := template(now, caLife, random)
	if err != nil {
		return Record{}, err
	}
	t.Subject = pkix.Name{Organization: []string{"Holdfast"}, CommonName: "Holdfast pages of " + cluster}
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	t.IsCA, t.MaxPathLenZero = true, true
	t.PermittedDNSDomainsCritical = true
	t.PermittedDNSDomains = names
	t.ExcludedIPRanges = []*net.IPNet{{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, {IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}}
	der, err := x509.CreateCertificate(random, t, t, priv.Public(), priv)
	if err != nil {
		return Record{}, holdfast.Errorf(holdfast.Other, "web authority: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return Record{}, holdfast.Errorf(holdfast.Other, "web authority: %w", err)
	}
	r := Record{Names: slices.Clone(names), CA: der, Key: secret}
	_, _, err = r.authority()
	return r, err
}

func template(now time.Time, life time.Duration, random io.Reader) (*x509.Certificate, error) {
	serial := make([]byte, serialBits/8)
	if _, err := io.ReadFull(random, serial); err != nil {
		return nil, holdfast.Errorf(holdfast.IO, "no random bytes for a certificate: %w", err)
	}
	serial[0] |= 1 // RFC 5280 §4.1.2.2: positive
	return &x509.Certificate{SerialNumber: new(big.Int).SetBytes(serial), NotBefore: now.Add(-backdate), NotAfter: now.Add(life), BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, nil
}

// With is the record with other names. The authority stays if it may vouch for them,
// so that nobody has to trust another; new has another one made all the same.
func (r Record) With(names []string, anew bool, cluster string, now time.Time, random io.Reader) (Record, error) {
	if err := CheckNames(names); err != nil {
		return r, err
	}
	ca, _, err := r.authority()
	if err != nil || anew || now.After(ca.NotAfter) || slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(ca.PermittedDNSDomains, n) }) {
		return New(names, cluster, now, random)
	}
	r.Names = slices.Clone(names)
	return r, nil
}

// Has reports whether a name is one of the pages', however it is written.
func (r Record) Has(name string) bool {
	return slices.Contains(r.Names, strings.ToLower(strings.TrimSuffix(name, ".")))
}

// authority checks the record and returns what signs. Kind Corrupt.
func (r Record) authority() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	bad := func(what string, err error) error {
		return holdfast.Errorf(holdfast.Corrupt, "the record of the pages' names: %s: %w", what, err)
	}
	if err := CheckNames(r.Names); err != nil {
		return nil, nil, bad("names", err)
	}
	if len(r.CA) > maxCA || len(r.Key) > maxCA {
		return nil, nil, bad("authority", holdfast.Errorf(holdfast.Invalid, "%d bytes and a key of %d, at most %d are read", len(r.CA), len(r.Key), maxCA))
	}
	ca, err := x509.ParseCertificate(r.CA)
	if err != nil {
		return nil, nil, bad("certificate", err)
	}
	k, err := x509.ParsePKCS8PrivateKey(r.Key)
	if err != nil {
		return nil, nil, bad("key", err)
	}
	priv, ok := k.(*ecdsa.PrivateKey)
	if !ok || !priv.PublicKey.Equal(ca.PublicKey) {
		return nil, nil, bad("key", holdfast.Errorf(holdfast.Invalid, "it is not the certificate's"))
	}
	if !ca.IsCA || !ca.PermittedDNSDomainsCritical || len(ca.ExcludedIPRanges) != 2 {
		return nil, nil, bad("certificate", holdfast.Errorf(holdfast.Invalid, "its authority is not confined to the pages' names"))
	}
	return ca, priv, nil
}

// encode and decode are the record as it stands in kv.
func (r Record) encode() ([]byte, error) {
	if _, _, err := r.authority(); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

func decode(b []byte) (r Record, err error) {
	if err := json.Unmarshal(b, &r); err != nil {
		return r, holdfast.Errorf(holdfast.Corrupt, "the record of the pages' names: %w", err)
	}
	_, _, err = r.authority()
	return r, err
}

// WithoutSecrets returns records as they may stand on a disk in the clear: these not
// at all. Another authority is made in the place of theirs, which people trust anew;
// the site's own certificate has to be given again.
func WithoutSecrets(items []kv.Item) []kv.Item {
	return slices.DeleteFunc(slices.Clone(items), func(it kv.Item) bool { return strings.HasPrefix(it.Key, dir) })
}
