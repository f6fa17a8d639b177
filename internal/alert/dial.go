package alert

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/image/fetch"
)

// patience is how long a server may take to be reached, and again to answer.
const patience = 15 * time.Second

// allow refuses an address that a receiver may not have. Kind Denied.
func (r *Receiver) allow(a netip.Addr) error {
	plain := a.Unmap()
	why := fetch.Special(plain)
	switch {
	case a.Zone() != "":
		return holdfast.Errorf(holdfast.Denied, "%s is an address of one link only", a)
	case why == "":
		return nil
	case plain.IsPrivate() || plain.IsLoopback() || carrier().Contains(plain):
		if r.Private {
			return nil
		}
		return holdfast.Errorf(holdfast.Denied, "%s is %s: alerts go to public addresses, and to others only where their receiver has 'private'", plain, why)
	}
	return holdfast.Errorf(holdfast.Denied, "%s is %s: no alert is sent there", plain, why)
}

// carrier are the addresses behind a carrier's NAT, which sites use among themselves.
func carrier() netip.Prefix { return netip.MustParsePrefix("100.64.0.0/10") }

// allowName refuses an address that is given as such. What a name leads to is seen
// when it is dialled.
func (r *Receiver) allowName(host string) error {
	if a, err := netip.ParseAddr(host); err == nil {
		return r.allow(a)
	}
	return nil
}

// dialer connects to allowed addresses and no others, whatever a name leads to.
func (r *Receiver) dialer() *net.Dialer {
	return &net.Dialer{Timeout: patience, Control: func(network, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil || network != "tcp4" && network != "tcp6" {
			return holdfast.Errorf(holdfast.Denied, "%s %s is no address that alerts are sent to", network, address)
		}
		return r.allow(to.Addr())
	}}
}

// trust is how the server is known.
func (r *Receiver) trust(server string) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: server}
	if r.CA != "" {
		c.RootCAs = x509.NewCertPool()
		c.RootCAs.AppendCertsFromPEM([]byte(r.CA))
	}
	return c
}

// unreached explains why there was no answer, without saying where it should have
// come from: that may hold a key.
func unreached(err error) error {
	var known *holdfast.Error
	if errors.As(err, &known) {
		return known
	}
	return holdfast.Errorf(holdfast.Unavailable, "the server cannot be reached: %w", err)
}
