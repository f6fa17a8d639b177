package fetch

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/holdfast-cloud/holdfast"
)

// MaxURL is the longest URL that is taken, in bytes.
const MaxURL = 2048

// DefaultMaxSize is the largest file that is fetched unless the policy says otherwise.
const DefaultMaxSize = 256 << 30

// Policy says from where a host fetches. The zero value is the safest one.
type Policy struct {
	Private   []netip.Prefix // networks that are fetched from though they are not public
	PlainHTTP bool           // http, too
	Roots     *x509.CertPool // of servers' certificates; nil: the system's
	MaxSize   int64          // bytes of a file; 0: DefaultMaxSize
}

func (p Policy) maxSize() int64 {
	if p.MaxSize > 0 {
		return p.MaxSize
	}
	return DefaultMaxSize
}

// ParseURL reads a URL and refuses what is not fetched, whatever its name leads to.
// Kinds: Invalid, Denied.
func (p Policy) ParseURL(text string) (*url.URL, error) {
	if len(text) > MaxURL {
		return nil, holdfast.Errorf(holdfast.Invalid, "the URL has %d bytes; at most %d are taken", len(text), MaxURL)
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, holdfast.Errorf(holdfast.Invalid, "the URL cannot be read; give one such as https://example.org/disk.qcow2")
	}
	return u, p.check(u)
}

func (p Policy) check(u *url.URL) error {
	host := u.Hostname()
	switch {
	case u.Scheme == "http" && !p.PlainHTTP:
		return holdfast.Errorf(holdfast.Denied, "http shows neither who sends nor what was changed on the way: give a URL with https, or set 'fetch.plain_http: true' in this host's configuration")
	case u.Scheme != "https" && u.Scheme != "http":
		return holdfast.Errorf(holdfast.Invalid, "a URL of %.20q is not fetched: give one with https", u.Scheme+":")
	case u.User != nil:
		return holdfast.Errorf(holdfast.Invalid, "the URL holds a user or password, which others would see: give one without, or download the file and import that")
	case u.Opaque != "" || host == "":
		return holdfast.Errorf(holdfast.Invalid, "the URL names no host: give one such as https://example.org/disk.qcow2")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return holdfast.Errorf(holdfast.Invalid, "the URL has the port %.10q: ports are 1 to 65535", port)
		}
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return p.Allow(a)
	}
	// What ends in a number is meant for an address, in a spelling that programs
	// differ about: 2130706433, 0177.0.0.1, 127.1.
	last := host[strings.LastIndexByte(strings.TrimSuffix(host, "."), '.')+1:]
	if _, err := strconv.ParseUint(strings.TrimSuffix(last, "."), 0, 64); err == nil {
		return holdfast.Errorf(holdfast.Invalid, "%.60q is no address as they are written: give four numbers from 0 to 255 without leading zeros, or a name", host)
	}
	return nil
}

// Allow refuses an address that is not public and was not allowed. Kind Denied.
func (p Policy) Allow(a netip.Addr) error {
	if a.Zone() != "" {
		return holdfast.Errorf(holdfast.Denied, "%s is an address of one link only", a)
	}
	plain := a.Unmap()
	for _, n := range p.Private {
		if n.Contains(plain) {
			return nil
		}
	}
	if why := Special(plain); why != "" {
		return holdfast.Errorf(holdfast.Denied, "%s is %s: images are fetched from public addresses, and from networks that 'fetch.private' in this host's configuration names", plain, why)
	}
	return nil
}

// Special says what an address is if it is not a public one of a single host.
// Source: the IANA registries of special-purpose addresses (RFC 6890).
func Special(a netip.Addr) string {
	switch {
	case a.IsUnspecified():
		return "no host's address"
	case a.IsLoopback():
		return "a loopback address"
	case a.IsPrivate():
		return "a private address"
	case a.IsLinkLocalUnicast():
		return "a link-local address"
	case a.IsMulticast():
		return "a multicast address"
	}
	for _, n := range networks() {
		if n.net.Contains(a) {
			return n.is
		}
	}
	if a.Is6() && !netip.MustParsePrefix("2000::/3").Contains(a) {
		return "outside of what is given out as public addresses"
	}
	return ""
}

type network struct {
	net netip.Prefix
	is  string
}

func networks() []network {
	n := func(text, is string) network { return network{netip.MustParsePrefix(text), is} }
	return []network{
		n("0.0.0.0/8", "an address of this network"),
		n("100.64.0.0/10", "an address shared behind a carrier's NAT"),
		n("192.0.0.0/24", "an address for protocols"),
		n("192.0.2.0/24", "an address for documents"),
		n("192.88.99.0/24", "an address of 6to4 relays"),
		n("198.18.0.0/15", "an address for measurements"),
		n("198.51.100.0/24", "an address for documents"),
		n("203.0.113.0/24", "an address for documents"),
		n("240.0.0.0/4", "a reserved address"),
		n("64:ff9b::/96", "an IPv4 address behind NAT64"),
		n("64:ff9b:1::/48", "an IPv4 address behind NAT64"),
		n("2001::/23", "an address for protocols"),
		n("2001:db8::/32", "an address for documents"),
		n("2002::/16", "an IPv4 address in 6to4"),
		n("3fff::/20", "an address for documents"),
	}
}

// dialled is Allow for what a connection is about to go to.
func (p Policy) dialled(network, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return holdfast.Errorf(holdfast.Denied, "%s is no address", address)
	}
	a, err := netip.ParseAddr(host)
	if err != nil || network != "tcp4" && network != "tcp6" {
		return holdfast.Errorf(holdfast.Denied, "%s %s is no address that images are fetched from", network, address)
	}
	return p.Allow(a)
}

// ParseSum reads a SHA-256 as tools print it. Kind Invalid.
func ParseSum(text string) (string, error) {
	sum := strings.ToLower(strings.TrimSpace(text))
	if len(sum) != 64 || strings.Trim(sum, "0123456789abcdef") != "" {
		return "", holdfast.Errorf(holdfast.Invalid, "a SHA-256 has 64 hexadecimal digits; this has %s", fmt.Sprint(len(sum)))
	}
	return sum, nil
}
