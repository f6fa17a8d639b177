package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-cloud/holdfast"
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
)

// Names of the files that hold a credential in its directory.
const (
	CAFile   = "ca.pem"
	CertFile = "admin.pem"
	KeyFile  = "admin.key"

	// TokenFile or SessionFile stand in place of certificate and key.
	TokenFile   = "token"
	SessionFile = "session"
)

// TLSConfig returns the configuration for calling hosts of the cluster whose
// CA is given, as the owner of cert and key (PEM). Hosts are believed by their
// certificate's issuer alone: not by address, since they move, and not by
// date, since their clocks may be wrong after years in storage. Without cert and
// key the caller is somebody by a token or a session, or nobody yet.
func TLSConfig(ca, cert, key []byte) (*tls.Config, error) {
	block, _ := pem.Decode(ca)
	if block == nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "the cluster's CA is not a PEM certificate; copy %s from where 'cluster init' wrote it", CAFile)
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "the cluster's CA cannot be read: %w", err)
	}
	var own []tls.Certificate
	if len(cert) > 0 || len(key) > 0 {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, holdfast.Errorf(holdfast.Invalid, "the client certificate cannot be used: %w", err)
		}
		own = append(own, pair)
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{"http/1.1"},
		Certificates:       own,
		InsecureSkipVerify: true, // replaced by VerifyConnection
		VerifyConnection: func(s tls.ConnectionState) error {
			return issuedBy(root, s.PeerCertificates)
		},
	}, nil
}

// Open returns a client of the host at addr with a credential directory: what
// `cluster init` writes, or the cluster's CA with a file token (what
// 'token create' printed) or session (what 'login' wrote).
func Open(addr, dir string) (*Client, error) {
	ca, err := credential(dir, CAFile)
	if err != nil {
		return nil, err
	}
	token, terr := credential(dir, TokenFile)
	session, serr := credential(dir, SessionFile)
	if terr == nil || serr == nil {
		conf, err := TLSConfig(ca, nil, nil)
		if err != nil {
			return nil, err
		}
		return HTTPS(addr, conf).As(strings.TrimSpace(string(token)), strings.TrimSpace(string(session))), nil
	}
	cert, err := credential(dir, CertFile)
	if err != nil {
		return nil, err
	}
	key, err := credential(dir, KeyFile)
	if err != nil {
		return nil, err
	}
	conf, err := TLSConfig(ca, cert, key)
	if err != nil {
		return nil, err
	}
	return HTTPS(addr, conf), nil
}

// OpenStranger is Open for somebody who is yet to log in: only the CA is read.
func OpenStranger(addr, dir string) (*Client, error) {
	ca, err := credential(dir, CAFile)
	if err != nil {
		return nil, err
	}
	conf, err := TLSConfig(ca, nil, nil)
	if err != nil {
		return nil, err
	}
	return HTTPS(addr, conf), nil
}

func credential(dir, name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, holdfast.Errorf(holdfast.NotFound, "credential: %w; give the directory that 'cluster init' wrote with --credential, or one with the cluster's %s in which 'holdfast login' has put a session or you a token", err, CAFile)
	}
	return b, nil
}

// SaveSession puts a session into a credential directory, in place of an older
// one; an empty one takes it out.
func SaveSession(dir, secret string) error {
	path := filepath.Join(dir, SessionFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) || secret == "" {
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		return err
	}
	return writeSecret(path, secret+"\n")
}

// SaveAdmin writes a credential directory, readable by its owner alone. It
// replaces nothing.
func SaveAdmin(dir string, a v1.Admin) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return holdfast.Errorf(holdfast.IO, "write the credential: %w", err)
	}
	for _, f := range []struct{ name, text string }{{CAFile, a.CA}, {CertFile, a.Cert}, {KeyFile, a.Key}} {
		if err := writeSecret(filepath.Join(dir, f.name), f.text); err != nil {
			return err
		}
	}
	return nil
}

func writeSecret(path, text string) error {
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return holdfast.Errorf(holdfast.IO, "write the credential: %w", err)
	}
	_, err = w.WriteString(text)
	if err := errors.Join(err, w.Sync(), w.Close()); err != nil {
		return holdfast.Errorf(holdfast.IO, "write the credential: %w", err)
	}
	return nil
}

// issuedBy checks that a chain's first certificate is a server's, issued by
// root. The dates are not looked at.
func issuedBy(root *x509.Certificate, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return holdfast.Errorf(holdfast.Denied, "the host shows no certificate")
	}
	leaf := chain[0]
	roots := x509.NewCertPool()
	undated := *root
	undated.NotBefore, undated.NotAfter = leaf.NotBefore, leaf.NotAfter
	roots.AddCert(&undated)
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: leaf.NotBefore,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		return holdfast.Errorf(holdfast.Denied, "this is not a host of the cluster: its certificate is not from the cluster's CA (%w)", err)
	}
	return nil
}

// Join sends a join request to the hosts that a code names, in turn, until one
// answers. It believes only a host whose chain holds the CA with the code's
// fingerprint. r.Secret is taken from the code.
func Join(ctx context.Context, code v1.JoinCode, r v1.JoinRequest) (v1.JoinAnswer, error) {
	const digits = "0123456789abcdef"
	var secret strings.Builder
	for _, b := range code.Secret {
		secret.WriteByte(digits[b>>4])
		secret.WriteByte(digits[b&15])
	}
	r.Secret = secret.String()
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{"http/1.1"},
		InsecureSkipVerify: true, // replaced by VerifyConnection
		VerifyConnection:   func(s tls.ConnectionState) error { return pinned(code.CA, s.PeerCertificates) },
	}
	var last error
	for _, addr := range code.API {
		c := HTTPS(addr, conf)
		a, err := fetch[v1.JoinAnswer](ctx, c, "POST", path("join"), r)
		c.Close()
		if err == nil {
			return a, checkCA(code.CA, a.CA)
		}
		last = err
		if !holdfast.IsKind(err, holdfast.Unavailable) {
			break // it answered; another one will not say otherwise
		}
	}
	return v1.JoinAnswer{}, last
}

func pinned(want [32]byte, chain []*x509.Certificate) error {
	for _, c := range chain {
		if sha256.Sum256(c.Raw) == want {
			return issuedBy(c, chain)
		}
	}
	return holdfast.Errorf(holdfast.Denied, "the host that answers is not of the cluster that made this join code; nothing was sent to it")
}

func checkCA(want [32]byte, text string) error {
	block, _ := pem.Decode([]byte(text))
	if block == nil || sha256.Sum256(block.Bytes) != want {
		return holdfast.Errorf(holdfast.Denied, "the CA that came back is not the one the join code names")
	}
	return nil
}
