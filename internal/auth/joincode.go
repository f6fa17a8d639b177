package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"net"
	"net/netip"
	"strconv"

	"github.com/holdfast-cloud/holdfast"
)

// MaxJoinAddrs bounds the addresses of a join code; MaxJoinCode its length in
// characters.
const (
	MaxJoinAddrs = 8
	MaxJoinCode  = 1024
)

// Fingerprint is the first 128 bits of the SHA-256 of the authority's
// certificate (DER), as `openssl x509 -fingerprint -sha256` prints it.
type Fingerprint [16]byte

// FingerprintOf returns an authority's fingerprint.
func FingerprintOf(ca *x509.Certificate) Fingerprint {
	h := sha256.Sum256(ca.Raw)
	return Fingerprint(h[:16])
}

// JoinCode lets one host in, once: where the cluster is reached, which
// authority to trust there, and a secret that only an admin can have issued.
// Its coding is docs/protocol/join.md.
type JoinCode struct {
	Addrs  []string // API addresses, host:port, 1 to MaxJoinAddrs
	CA     Fingerprint
	Secret [16]byte
}

// NewJoinCode draws a code for the cluster of ca, reached at addrs.
func NewJoinCode(ca *x509.Certificate, addrs []string) (JoinCode, error) {
	j := JoinCode{Addrs: addrs, CA: FingerprintOf(ca)}
	if _, err := rand.Read(j.Secret[:]); err != nil {
		return JoinCode{}, err
	}
	_, err := j.marshal()
	return j, err
}

// String hides the secret, so that a code does not end up in a log.
func (j JoinCode) String() string {
	return "join code for authority " + hex.EncodeToString(j.CA[:4]) + "… (secret hidden)"
}

// LogValue implements slog.LogValuer; it hides the secret too.
func (j JoinCode) LogValue() slog.Value { return slog.StringValue(j.String()) }

// Hash returns the SHA-256 of the secret in hexadecimal, the only form in
// which the cluster stores it (cluster.JoinCode.Hash). With 128 random bits
// there is nothing to guess, so no slow hash is needed.
func (j JoinCode) Hash() string { return hashSecret(j.Secret[:]) }

// HashSecret is Hash for the text form of the secret that a joining host
// sends (JoinCode.SecretText).
func HashSecret(text string) (string, error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(JoinCode{}.Secret) {
		return "", holdfast.Errorf(holdfast.Invalid, "the join secret is not 32 hexadecimal digits; pass the join code whole, as it was printed")
	}
	return hashSecret(b), nil
}

// SameHash compares two hashes in constant time.
func SameHash(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// SecretText is the secret in hexadecimal, as the joining host sends it.
func (j JoinCode) SecretText() string { return hex.EncodeToString(j.Secret[:]) }

// HashOf is the form in which the cluster stores a join code's secret.
func HashOf(secret []byte) string { return hashSecret(secret) }

func hashSecret(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// ClientTLS returns the settings under which a joining host calls the cluster:
// no certificate of its own, and trust in exactly the authority whose
// fingerprint the code carries. PeerAuthority then returns that authority.
func (j JoinCode) ClientTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: ServerName,
		Time:       pinned,
		// There is no authority to verify against before the handshake; the
		// chain is verified below, against the one in it that the code names.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := j.PeerAuthority(cs)
			return err
		},
	}
}

// PeerAuthority returns the authority of the cluster at the other end, if it
// is the one the code names and the other end is one of its hosts.
func (j JoinCode) PeerAuthority(cs tls.ConnectionState) (*x509.Certificate, error) {
	if len(cs.PeerCertificates) == 0 {
		return nil, holdfast.Errorf(holdfast.Denied, "the other end showed no certificate")
	}
	for _, ca := range cs.PeerCertificates[1:] {
		if FingerprintOf(ca) == j.CA {
			return ca, j.verify(cs.PeerCertificates[0], ca)
		}
	}
	return nil, holdfast.Errorf(holdfast.Denied, "whoever answers there is not of the cluster that issued the join code (authority %s…): wrong address, an old code, or somebody in between; get a new code from a member", hex.EncodeToString(j.CA[:8]))
}

func (j JoinCode) verify(leaf, ca *x509.Certificate) error {
	cluster, err := clusterOf(ca)
	if err != nil {
		return err
	}
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots:       pool(ca),
		CurrentTime: pinned(),
		DNSName:     ServerName,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return holdfast.Errorf(holdfast.Denied, "the other end's certificate is not by the authority it shows: %v", err)
	}
	id, err := IdentityOf(leaf)
	if err != nil {
		return err
	}
	if id.Kind != Host || id.Cluster != cluster {
		return holdfast.Errorf(holdfast.Denied, "the other end is %s, not a host of cluster %s", id, cluster)
	}
	return nil
}

// Forms of an address inside a code.
const (
	addrIP4  = 4
	addrIP6  = 6
	addrName = 1
)

const joinVersion = 1

// marshal returns the code's bytes without their check.
func (j JoinCode) marshal() ([]byte, error) {
	if len(j.Addrs) == 0 || len(j.Addrs) > MaxJoinAddrs {
		return nil, holdfast.Errorf(holdfast.Invalid, "a join code carries 1 to %d addresses, not %d", MaxJoinAddrs, len(j.Addrs))
	}
	b := append([]byte{joinVersion}, j.CA[:]...)
	b = append(b, j.Secret[:]...)
	b = append(b, byte(len(j.Addrs)))
	for _, a := range j.Addrs {
		host, port, err := splitAddr(a)
		if err != nil {
			return nil, err
		}
		if ip, err := netip.ParseAddr(host); err != nil {
			b = append(b, addrName, byte(len(host)))
			b = append(b, host...)
		} else if ip.Is4() {
			b = append(append(b, addrIP4), ip.AsSlice()...)
		} else {
			b = append(append(b, addrIP6), ip.AsSlice()...)
		}
		b = binary.BigEndian.AppendUint16(b, port)
	}
	return b, nil
}

// splitAddr checks and takes apart HOST:PORT. Zones are refused: they mean
// nothing on another host.
func splitAddr(a string) (host string, port uint16, err error) {
	host, p, err := net.SplitHostPort(a)
	n, perr := strconv.ParseUint(p, 10, 16)
	if err != nil || perr != nil || n == 0 {
		return "", 0, holdfast.Errorf(holdfast.Invalid, "join address %.80q: want HOST:PORT with a port of 1 to 65535", a)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" || ip.IsUnspecified() || ip.Is4In6() {
			return "", 0, holdfast.Errorf(holdfast.Invalid, "join address %q: other hosts cannot reach it; use an address of the network between the hosts", a)
		}
		return ip.String(), uint16(n), nil
	}
	return host, uint16(n), checkDNS(host)
}

// unmarshal reads what marshal wrote and nothing else.
func (j *JoinCode) unmarshal(b []byte) error {
	short := holdfast.Errorf(holdfast.Invalid, "join code: it ends too early")
	if len(b) == 0 {
		return short
	}
	if b[0] != joinVersion {
		return holdfast.Errorf(holdfast.Invalid, "join code: it is of version %d, this program knows %d; use the same release on both hosts", b[0], joinVersion)
	}
	whole := b
	if len(b) < 1+len(j.CA)+len(j.Secret)+1 {
		return short
	}
	b = b[1:]
	b = b[copy(j.CA[:], b):]
	b = b[copy(j.Secret[:], b):]
	n := int(b[0])
	b = b[1:]
	for range n {
		a, rest, err := readAddr(b)
		if err != nil {
			return err
		}
		j.Addrs, b = append(j.Addrs, a), rest
	}
	again, err := j.marshal()
	if err == nil && !bytes.Equal(again, whole) {
		err = holdfast.Errorf(holdfast.Invalid, "join code: it is not spelled as this program spells it")
	}
	return err
}

func readAddr(b []byte) (addr string, rest []byte, err error) {
	short := holdfast.Errorf(holdfast.Invalid, "join code: an address in it ends too early")
	if len(b) < 2 {
		return "", nil, short
	}
	form, n := b[0], 0
	b = b[1:]
	switch form {
	case addrIP4:
		n = 4
	case addrIP6:
		n = 16
	case addrName:
		n = int(b[0])
		b = b[1:]
	default:
		return "", nil, holdfast.Errorf(holdfast.Invalid, "join code: an address of unknown form %d", form)
	}
	if len(b) < n+2 {
		return "", nil, short
	}
	host := string(b[:n])
	if form != addrName {
		ip, _ := netip.AddrFromSlice(b[:n])
		host = ip.String()
	}
	port := binary.BigEndian.Uint16(b[n:])
	return net.JoinHostPort(host, strconv.Itoa(int(port))), b[n+2:], nil
}
