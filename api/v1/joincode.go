package v1

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"net"
	"net/netip"
	"strconv"

	"github.com/holdfast-cloud/holdfast"
)

// JoinCode admits one host to a cluster, once: where the cluster is reached,
// which authority to trust there, and a secret that only a member can have
// issued. Its text and the rules of joining are docs/protocol/join.md.
type JoinCode struct {
	// API are host:port addresses of members' HTTPS APIs, tried in turn: 1 to 8.
	API []string
	// CA is the SHA-256 of the cluster CA certificate's DER bytes: the joiner
	// trusts exactly this CA.
	CA [32]byte
	// Secret is the proof of invitation, 16 to 64 random bytes.
	Secret []byte
}

const (
	maxCodeAddrs = 8
	minSecret    = 16
	maxSecret    = 64
)

// GoString and LogValue keep the secret out of logs.
func (c JoinCode) GoString() string { return "v1.JoinCode{…}" }

// LogValue implements slog.LogValuer.
func (c JoinCode) LogValue() slog.Value { return slog.StringValue("join code (secret hidden)") }

// String returns the text that people copy, "" if c is not valid.
func (c JoinCode) String() string {
	b, err := c.marshal()
	if err != nil {
		return ""
	}
	return codeText(b)
}

// ID names the code without giving it away: the SHA-256 of its secret, in
// hexadecimal, under which the cluster keeps it.
func (c JoinCode) ID() string {
	h := sha256.Sum256(c.Secret)
	return hex.EncodeToString(h[:])
}

// ParseJoinCode reads the text. It forgives what people do to codes: capitals,
// white space, hyphens, line breaks in the middle, O for 0, I and L for 1.
func ParseJoinCode(s string) (JoinCode, error) {
	b, err := codeBytes(s)
	if err != nil {
		return JoinCode{}, err
	}
	var c JoinCode
	if err := c.unmarshal(b); err != nil {
		return JoinCode{}, err
	}
	return c, nil
}

func badCode(why string) error {
	return holdfast.Errorf(holdfast.Invalid,
		"this is not a join code: %s; copy the whole line that 'holdfast host code' printed on a member", why)
}

// Forms of an address inside a code.
const (
	addrName = 1
	addrIP4  = 4
	addrIP6  = 6
)

const codeVersion = 1

// marshal returns the code's bytes without their check.
func (c JoinCode) marshal() ([]byte, error) {
	if len(c.API) == 0 || len(c.API) > maxCodeAddrs {
		return nil, badCode("it names no host to call, or too many")
	}
	if len(c.Secret) < minSecret || len(c.Secret) > maxSecret {
		return nil, badCode("its secret is not 16 to 64 bytes long")
	}
	b := append([]byte{codeVersion}, c.CA[:]...)
	b = append(append(b, byte(len(c.Secret))), c.Secret...)
	b = append(b, byte(len(c.API)))
	for _, a := range c.API {
		host, port, err := splitAddr(a)
		if err != nil {
			return nil, err
		}
		if ip, err := netip.ParseAddr(host); err != nil {
			b = append(append(b, addrName, byte(len(host))), host...)
		} else if ip.Is4() {
			b = append(append(b, addrIP4), ip.AsSlice()...)
		} else {
			b = append(append(b, addrIP6), ip.AsSlice()...)
		}
		b = binary.BigEndian.AppendUint16(b, port)
	}
	return b, nil
}

// splitAddr checks and takes apart HOST:PORT. Zones and "any" addresses are
// refused: they mean nothing on another host.
func splitAddr(a string) (host string, port uint16, err error) {
	host, p, err := net.SplitHostPort(a)
	n, perr := strconv.ParseUint(p, 10, 16)
	if err != nil || perr != nil || n == 0 || host == "" || len(host) > 253 {
		return "", 0, badCode("one of its addresses is not host:port")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" || ip.IsUnspecified() || ip.Is4In6() {
			return "", 0, badCode("one of its addresses, " + a + ", cannot be reached from other hosts")
		}
		return ip.String(), uint16(n), nil
	}
	for i := 0; i < len(host); i++ {
		switch c := host[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.':
		default:
			return "", 0, badCode("one of its addresses is not host:port")
		}
	}
	return host, uint16(n), nil
}

// unmarshal reads what marshal wrote and nothing else.
func (c *JoinCode) unmarshal(b []byte) error {
	short := badCode("it is cut short")
	if len(b) < 1+len(c.CA)+1 {
		return short
	}
	if b[0] != codeVersion {
		return badCode("it is of another version than this program knows; use the same release on both hosts")
	}
	rest := b[1:]
	rest = rest[copy(c.CA[:], rest):]
	n := int(rest[0])
	if rest = rest[1:]; len(rest) < n+1 {
		return short
	}
	c.Secret, rest = bytes.Clone(rest[:n]), rest[n:]
	n = int(rest[0])
	rest = rest[1:]
	for range n {
		a, left, err := readAddr(rest)
		if err != nil {
			return err
		}
		c.API, rest = append(c.API, a), left
	}
	again, err := c.marshal()
	if err == nil && !bytes.Equal(again, b) {
		err = badCode("it is not spelled as this program spells it")
	}
	return err
}

func readAddr(b []byte) (addr string, rest []byte, err error) {
	short := badCode("it is cut short")
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
		return "", nil, badCode("it holds an address of an unknown form")
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
