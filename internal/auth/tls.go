package auth

import (
	"crypto/tls"
	"crypto/x509"

	"github.com/holdfast-cloud/holdfast"
)

// Allow decides whether an identity whose certificate is genuine is let in:
// for a host, whether it is a member and KeyHash is the key it joined with.
// It is asked at every handshake and must not block for long. A nil Allow
// lets in whomever the authority certified.
type Allow func(Identity) error

// ServerTLS returns the settings of a listener that only certified and allowed
// peers get through: TLS 1.3, a client certificate required, no resumption.
func ServerTLS(c Credentials, allow Allow) *tls.Config {
	return serverTLS(c, allow, tls.RequireAndVerifyClientCert)
}

// GuestServerTLS is ServerTLS for a listener that also serves those who have
// no certificate yet, such as a joining host: a certificate that is shown must
// be good, but none is fine. What needs an identity calls PeerIdentity, which
// fails for a guest.
func GuestServerTLS(c Credentials, allow Allow) *tls.Config {
	return serverTLS(c, allow, tls.VerifyClientCertIfGiven)
}

func serverTLS(c Credentials, allow Allow, mode tls.ClientAuthType) *tls.Config {
	cfg := baseTLS(c)
	cfg.ClientAuth = mode
	cfg.ClientCAs = pool(c.CA)
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return nil // a guest; RequireAndVerifyClientCert has none
		}
		return admit(cs, c.CA, allow)
	}
	return cfg
}

// ClientTLS returns the settings for connecting to a host of the cluster. The
// server must be a certified host; which one is checked by PeerIdentity, never
// by address.
func ClientTLS(c Credentials, allow Allow) *tls.Config {
	cfg := baseTLS(c)
	cfg.RootCAs = pool(c.CA)
	cfg.ServerName = ServerName
	cfg.VerifyConnection = func(cs tls.ConnectionState) error { return admit(cs, c.CA, allow) }
	return cfg
}

func baseTLS(c Credentials) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{c.TLSCertificate()},
		MinVersion:   tls.VersionTLS13,
		Time:         pinned,
		// Every connection proves its identity anew: a resumed one would rest
		// on what was true when its ticket was issued.
		SessionTicketsDisabled: true,
	}
}

func pool(ca *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca)
	return p
}

// admit runs after the chain was verified against the authority.
func admit(cs tls.ConnectionState, ca *x509.Certificate, allow Allow) error {
	id, err := PeerIdentity(cs)
	if err != nil {
		return err
	}
	cluster, err := clusterOf(ca)
	if err != nil {
		return err
	}
	if id.Cluster != cluster {
		return holdfast.Errorf(holdfast.Denied, "%s belongs to another cluster than ours, %s", id, cluster)
	}
	if allow == nil {
		return nil
	}
	return allow(id)
}
