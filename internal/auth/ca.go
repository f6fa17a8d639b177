package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/url"
	"strconv"

	"github.com/holdfast-cloud/holdfast"
)

// MaxCSR bounds a certificate signing request in bytes, PEM armour included.
const MaxCSR = 16 << 10

// maxSANs bounds the addresses and names of one certificate.
const maxSANs = 64

// ServerName is the DNS name that every host certificate carries besides its
// addresses. Clients of the cluster ask for it, so that a host is recognised
// by its identity whatever address it was reached at.
const ServerName = "host.holdfast.internal"

// CA is a cluster's certificate authority.
type CA struct {
	Cert *x509.Certificate
	// Incarnation of the control plane that the authority signs for; hosts'
	// certificates carry it, so that members of an earlier one see that it ended.
	Incarnation int
	key         *ecdsa.PrivateKey
}

// NewCA makes the authority of a new cluster.
func NewCA(cluster holdfast.ClusterID) (*CA, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"Holdfast"}, CommonName: "cluster " + cluster.String()},
		URIs:                  []*url.URL{{Scheme: scheme, Host: cluster.String(), Path: "/ca"}},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	t.NotBefore, t.NotAfter = validity()
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &CA{Cert: cert, key: key}, nil
}

// Cluster returns the cluster whose authority ca is.
func (ca *CA) Cluster() holdfast.ClusterID {
	id, _ := clusterOf(ca.Cert) // checked when ca was made or parsed
	return id
}

// clusterOf reads the cluster from the authority's certificate.
func clusterOf(ca *x509.Certificate) (holdfast.ClusterID, error) {
	if !ca.IsCA || len(ca.URIs) != 1 || ca.URIs[0].Scheme != scheme || ca.URIs[0].Path != "/ca" {
		return holdfast.ClusterID{}, holdfast.Errorf(holdfast.Denied, "the certificate %.100q is not the authority of a Holdfast cluster", ca.Subject.String())
	}
	id, err := holdfast.ParseUUID(ca.URIs[0].Host)
	if err != nil {
		return holdfast.ClusterID{}, err
	}
	return holdfast.ClusterID{UUID: id}, checkKey("cluster authority", ca.PublicKey)
}

// CSR returns a signing request for key in PEM. It carries the key and proof
// of its possession and nothing else: names are the authority's business.
func CSR(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: csrType, Bytes: der}), nil
}

// parseCSR checks size, coding, key type and proof of possession.
func parseCSR(csr []byte) (*ecdsa.PublicKey, error) {
	if len(csr) > MaxCSR {
		return nil, holdfast.Errorf(holdfast.Invalid, "signing request of %d bytes: at most %d are accepted", len(csr), MaxCSR)
	}
	b, rest := pem.Decode(csr)
	if b == nil || b.Type != csrType || len(bytes.TrimSpace(rest)) > 0 {
		return nil, holdfast.Errorf(holdfast.Invalid, "signing request: want exactly one PEM block %q", csrType)
	}
	req, err := x509.ParseCertificateRequest(b.Bytes)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "signing request: %v", err)
	}
	if err := checkKey("signing request", req.PublicKey); err != nil {
		return nil, err
	}
	if err := req.CheckSignature(); err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "signing request: its signature is not by its own key: %v", err)
	}
	return req.PublicKey.(*ecdsa.PublicKey), nil
}

// SignHost certifies the key of a signing request (PEM) as a host. addrs are
// the IP addresses and DNS names (no ports) under which the host is reached;
// names inside the request are ignored. It returns the certificate.
func (ca *CA) SignHost(csr []byte, host holdfast.HostID, addrs []string) (*x509.Certificate, error) {
	pub, err := parseCSR(csr)
	if err != nil {
		return nil, err
	}
	if host.IsZero() {
		return nil, holdfast.Errorf(holdfast.Invalid, "sign host: the host's identity is empty")
	}
	if len(addrs) > maxSANs {
		return nil, holdfast.Errorf(holdfast.Invalid, "sign host %s: %d addresses, at most %d are allowed", host.Short(), len(addrs), maxSANs)
	}
	t := &x509.Certificate{DNSNames: []string{ServerName}}
	for _, a := range addrs {
		if ip := net.ParseIP(a); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else if err := checkDNS(a); err != nil {
			return nil, err
		} else {
			t.DNSNames = append(t.DNSNames, a)
		}
	}
	// Hosts are servers and clients: of each other, of etcd, of etcd's peers.
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	return ca.sign(t, pub, Identity{Cluster: ca.Cluster(), Kind: Host, Host: host})
}

// SignAdmin certifies the key of a signing request (PEM) as an admin.
func (ca *CA) SignAdmin(csr []byte, name string) (*x509.Certificate, error) {
	pub, err := parseCSR(csr)
	if err != nil {
		return nil, err
	}
	if err := holdfast.CheckName("admin", name); err != nil {
		return nil, err
	}
	t := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	return ca.sign(t, pub, Identity{Cluster: ca.Cluster(), Kind: Admin, Name: name})
}

func (ca *CA) sign(t *x509.Certificate, pub *ecdsa.PublicKey, id Identity) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	cn := id.Name
	if id.Kind == Host {
		cn = id.Host.String()
	}
	t.SerialNumber = serial
	t.Subject = pkix.Name{Organization: []string{"Holdfast"}, OrganizationalUnit: []string{string(id.Kind)}, CommonName: cn}
	if ca.Incarnation > 0 && id.Kind == Host {
		t.Subject.SerialNumber = strconv.Itoa(ca.Incarnation)
	}
	t.URIs = []*url.URL{id.uri()}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.BasicConstraintsValid = true
	t.NotBefore, t.NotAfter = validity()
	der, err := x509.CreateCertificate(rand.Reader, t, ca.Cert, pub, ca.key)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Other, "sign %s: %w", id, err)
	}
	return x509.ParseCertificate(der)
}

// checkDNS refuses what is not a plain DNS name (RFC 1123 §2.1): wildcards
// would let one host stand for others.
func checkDNS(name string) error {
	bad := holdfast.Errorf(holdfast.Invalid, "%.80q is neither an IP address nor a DNS name", name)
	if name == "" || len(name) > 253 {
		return bad
	}
	label := 0
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c == '.':
			if label == 0 {
				return bad
			}
			label = 0
			continue
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-':
		default:
			return bad
		}
		if label++; label > 63 {
			return bad
		}
	}
	if label == 0 {
		return bad
	}
	return nil
}
