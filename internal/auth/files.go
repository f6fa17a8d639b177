package auth

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/holdfast-cloud/holdfast"
)

// PEM block types (RFC 7468).
const (
	certType = "CERTIFICATE"
	csrType  = "CERTIFICATE REQUEST"
	keyType  = "PRIVATE KEY"
)

// maxFile bounds a PEM file in bytes.
const maxFile = 64 << 10

// Credentials is one party's certificate, its key and the authority above it.
type Credentials struct {
	CA   *x509.Certificate
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// Files are the paths of one party's plain PEM files, in the form etcd and
// other TLS software reads: the authority, the certificate followed by the
// authority, and the key (PKCS #8).
type Files struct{ CA, Cert, Key string }

// CredentialFiles returns the paths that Save and LoadCredentials use:
// DIR/ca.crt, DIR/NAME.crt, DIR/NAME.key.
func CredentialFiles(dir, name string) Files {
	return Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key")}
}

// Identity returns whom the credentials name.
func (c Credentials) Identity() (Identity, error) { return IdentityOf(c.Cert) }

// TLSCertificate returns the certificate with its authority behind it, which a
// joining host looks for in the chain.
func (c Credentials) TLSCertificate() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{c.Cert.Raw, c.CA.Raw}, PrivateKey: c.Key, Leaf: c.Cert}
}

// Check reports whether the three parts belong together and name somebody.
func (c Credentials) Check() error {
	if c.CA == nil || c.Cert == nil || c.Key == nil {
		return holdfast.Errorf(holdfast.Invalid, "credentials: certificate, key or authority is missing")
	}
	cluster, err := clusterOf(c.CA)
	if err != nil {
		return err
	}
	id, err := IdentityOf(c.Cert)
	if err != nil {
		return err
	}
	if !c.Key.PublicKey.Equal(c.Cert.PublicKey) {
		return holdfast.Errorf(holdfast.Invalid, "credentials of %s: the key does not belong to the certificate; restore both from one backup or join again", id)
	}
	if id.Cluster != cluster || c.Cert.CheckSignatureFrom(c.CA) != nil {
		return holdfast.Errorf(holdfast.Denied, "credentials of %s: they were not issued by the authority of cluster %s beside them; do the files come from two clusters?", id, cluster)
	}
	return nil
}

// Save writes the credentials as CredentialFiles(dir, name), each with mode
// 0600, durably, the certificate last: without it the others mean nothing.
func (c Credentials) Save(dir, name string) error {
	if err := c.Check(); err != nil {
		return err
	}
	key, err := encodeKey(c.Key)
	if err != nil {
		return err
	}
	f := CredentialFiles(dir, name)
	if err := writeFile(f.CA, EncodeCert(c.CA)); err != nil {
		return err
	}
	if err := writeFile(f.Key, key); err != nil {
		return err
	}
	return writeFile(f.Cert, append(EncodeCert(c.Cert), EncodeCert(c.CA)...))
}

// LoadCredentials reads and checks what Save wrote.
func LoadCredentials(dir, name string) (Credentials, error) {
	var c Credentials
	f := CredentialFiles(dir, name)
	ca, err := readFile(f.CA)
	if err == nil {
		c.CA, err = ParseCert(ca)
	}
	if err != nil {
		return Credentials{}, holdfast.Errorf(holdfast.KindOf(err), "%s: %w", f.CA, err)
	}
	cert, err := readFile(f.Cert)
	if err == nil {
		c.Cert, err = ParseCert(cert)
	}
	if err != nil {
		return Credentials{}, holdfast.Errorf(holdfast.KindOf(err), "%s: %w", f.Cert, err)
	}
	if c.Key, err = loadKey(f.Key); err != nil {
		return Credentials{}, err
	}
	return c, c.Check()
}

// Save writes the authority with its key as DIR/ca.crt and DIR/ca.key.
func (ca *CA) Save(dir string) error {
	key, err := encodeKey(ca.key)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "ca.key"), key); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "ca.crt"), EncodeCert(ca.Cert))
}

// LoadCA reads and checks what CA.Save wrote; kind NotFound if this directory
// does not hold the authority's key.
func LoadCA(dir string) (*CA, error) {
	key, err := readFile(filepath.Join(dir, "ca.key"))
	if err != nil {
		return nil, err
	}
	cert, err := readFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	return ParseCA(append(cert, key...))
}

// PEM returns the authority's certificate and key as one text, which is as
// secret as the cluster itself.
func (ca *CA) PEM() ([]byte, error) {
	key, err := encodeKey(ca.key)
	return append(EncodeCert(ca.Cert), key...), err
}

// ParseCA reads what CA.PEM returned.
func ParseCA(text []byte) (*CA, error) {
	cert, err := ParseCert(text)
	if err != nil {
		return nil, err
	}
	if _, err := clusterOf(cert); err != nil {
		return nil, err
	}
	key, err := parseKey(text)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, holdfast.Errorf(holdfast.Invalid, "cluster authority: the key does not belong to the certificate")
	}
	return &CA{Cert: cert, key: key}, nil
}

// EncodeCert returns a certificate in PEM.
func EncodeCert(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certType, Bytes: c.Raw})
}

// ParseCert reads the first certificate of a PEM text.
func ParseCert(text []byte) (*x509.Certificate, error) {
	b, err := findBlock(text, certType)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(b)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "certificate: %v", err)
	}
	return c, nil
}

// EncodeKey returns a private key in PEM (PKCS #8).
func EncodeKey(k *ecdsa.PrivateKey) ([]byte, error) { return encodeKey(k) }

func encodeKey(k *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: der}), nil
}

func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	b, err := findBlock(text, keyType)
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(b)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "private key: %v", err)
	}
	ec, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, holdfast.Errorf(holdfast.Invalid, "private key: not ECDSA P-256, the only kind this cluster uses")
	}
	return ec, checkKey("private key", &ec.PublicKey)
}

func findBlock(text []byte, want string) ([]byte, error) {
	if len(text) > maxFile {
		return nil, holdfast.Errorf(holdfast.Invalid, "PEM text of %d bytes: at most %d are read", len(text), maxFile)
	}
	for {
		var b *pem.Block
		b, text = pem.Decode(text)
		if b == nil {
			return nil, holdfast.Errorf(holdfast.Invalid, "no PEM block %q found", want)
		}
		if b.Type == want {
			return b.Bytes, nil
		}
	}
}

func loadKey(path string) (*ecdsa.PrivateKey, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	k, err := parseKey(text)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "%s: %w", path, err)
	}
	return k, nil
}

// readFile reads a small file that nobody else may read.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, holdfast.Errorf(holdfast.NotFound, "%s does not exist", path)
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if m := st.Mode().Perm(); m&0o077 != 0 {
		return nil, holdfast.Errorf(holdfast.Denied, "%s may be read by others (mode %04o); run `chmod 600 %s`, and renew the key if somebody could have read it", path, m, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = holdfast.Errorf(holdfast.Invalid, "%s is longer than %d bytes; it is not a PEM file of Holdfast", path, maxFile)
	}
	return text, err
}

// writeFile replaces path durably with a file of mode 0600.
func writeFile(path string, text []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
