package auth

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"strconv"
	"strings"

	"github.com/holdfast-cloud/holdfast"
)

// Kind says what sort of party a certificate names.
type Kind string

// The kinds of identity.
const (
	Host  Kind = "host"  // a computer running Holdfast
	Admin Kind = "admin" // a person or program that commands the cluster
)

const scheme = "holdfast"

// Identity is whom a certificate names.
type Identity struct {
	Cluster holdfast.ClusterID
	Kind    Kind
	Host    holdfast.HostID // zero for an admin
	Name    string          // of an admin; empty for a host
	KeyHash string          // see KeyHash
	// Incarnation of the control plane in which a host's certificate was issued.
	Incarnation int
}

// String prints the identity as in its URI, holdfast://CLUSTER/KIND/NAME.
func (id Identity) String() string { return id.uri().String() }

func (id Identity) uri() *url.URL {
	who := id.Name
	if id.Kind == Host {
		who = id.Host.String()
	}
	return &url.URL{Scheme: scheme, Host: id.Cluster.String(), Path: "/" + string(id.Kind) + "/" + who}
}

// IdentityOf reads the identity from a certificate's URI subject alternative
// name. It does not verify the certificate.
func IdentityOf(c *x509.Certificate) (Identity, error) {
	if len(c.URIs) != 1 {
		return Identity{}, holdfast.Errorf(holdfast.Denied, "the certificate carries %d URIs where one %s://… is expected; it is not a Holdfast identity", len(c.URIs), scheme)
	}
	id, err := parseURI(c.URIs[0])
	if err != nil {
		return Identity{}, err
	}
	if err := checkKey("certificate of "+id.String(), c.PublicKey); err != nil {
		return Identity{}, err
	}
	id.KeyHash = KeyHash(c)
	if s := c.Subject.SerialNumber; s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || strconv.Itoa(n) != s {
			return Identity{}, holdfast.Errorf(holdfast.Denied, "the certificate of %s names the incarnation %.20q", id, s)
		}
		id.Incarnation = n
	}
	return id, nil
}

func parseURI(u *url.URL) (Identity, error) {
	bad := func() (Identity, error) {
		return Identity{}, holdfast.Errorf(holdfast.Denied, "the certificate names %.200q, not %s://CLUSTER/host/ID or %s://CLUSTER/admin/NAME", u.String(), scheme, scheme)
	}
	cluster, err := holdfast.ParseUUID(u.Host)
	kind, who, ok := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if err != nil || !ok || u.Scheme != scheme || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return bad()
	}
	id := Identity{Cluster: holdfast.ClusterID{UUID: cluster}, Kind: Kind(kind)}
	switch id.Kind {
	case Host:
		h, err := holdfast.ParseUUID(who)
		if err != nil || h.IsZero() {
			return bad()
		}
		id.Host = holdfast.HostID{UUID: h}
	case Admin:
		if holdfast.CheckName("admin", who) != nil {
			return bad()
		}
		id.Name = who
	default:
		return bad()
	}
	if id.uri().String() != u.String() { // one spelling only
		return bad()
	}
	return id, nil
}

// PeerIdentity returns whom the other end of a connection has proved to be.
// It fails with kind Denied if the peer showed no certificate or the
// connection was not made under ServerTLS or ClientTLS: only chains that were
// verified there count.
func PeerIdentity(cs tls.ConnectionState) (Identity, error) {
	if len(cs.PeerCertificates) == 0 {
		return Identity{}, holdfast.Errorf(holdfast.Denied, "no certificate was presented; use the one from `holdfast cluster init` or `holdfast host join`")
	}
	if len(cs.VerifiedChains) == 0 {
		return Identity{}, holdfast.Errorf(holdfast.Denied, "the presented certificate was not verified against the cluster's authority")
	}
	return IdentityOf(cs.PeerCertificates[0])
}
