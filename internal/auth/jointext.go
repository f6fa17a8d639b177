package auth

import (
	"crypto/sha256"
	"strings"

	"github.com/holdfast-cloud/holdfast"
)

// joinPrefix starts every code, so that people and programs recognise one.
const joinPrefix = "hfj"

// crockford is Crockford's base 32: no i, l, o or u, so that a code survives
// being read aloud or typed from paper.
const crockford = "0123456789abcdefghjkmnpqrstvwxyz"

// checkLen is how many bytes of SHA-256 end the coded bytes, against typing
// errors; they prove nothing.
const checkLen = 4

// Encode returns the code as one word of lower-case letters and digits.
func (j JoinCode) Encode() (string, error) {
	b, err := j.marshal()
	if err != nil {
		return "", err
	}
	h := sha256.Sum256(b)
	return joinPrefix + encode32(append(b, h[:checkLen]...)), nil
}

// ParseJoinCode reads a code. It forgives what people do to codes: capitals,
// white space, hyphens, line breaks in the middle, O for 0 and I or L for 1.
func ParseJoinCode(s string) (JoinCode, error) {
	if len(s) > MaxJoinCode {
		return JoinCode{}, holdfast.Errorf(holdfast.Invalid, "join code: %d characters, at most %d are possible; was more than the code pasted?", len(s), MaxJoinCode)
	}
	s = strings.ToLower(strings.Map(dropFiller, s))
	s, ok := strings.CutPrefix(s, joinPrefix)
	if !ok {
		return JoinCode{}, holdfast.Errorf(holdfast.Invalid, "join code: it must start with %q; get one from a member of the cluster", joinPrefix)
	}
	b, err := decode32(s)
	if err != nil {
		return JoinCode{}, err
	}
	if len(b) <= checkLen {
		return JoinCode{}, holdfast.Errorf(holdfast.Invalid, "join code: it ends too early; was it copied whole?")
	}
	body, check := b[:len(b)-checkLen], b[len(b)-checkLen:]
	if h := sha256.Sum256(body); string(h[:checkLen]) != string(check) {
		return JoinCode{}, holdfast.Errorf(holdfast.Invalid, "join code: a character is wrong or missing; copy it again, whole")
	}
	var j JoinCode
	if err := j.unmarshal(body); err != nil {
		return JoinCode{}, err
	}
	return j, nil
}

// dropFiller removes what terminals, mails and people put between characters.
func dropFiller(r rune) rune {
	switch r {
	case ' ', '\t', '\n', '\r', '-', '\u00a0', '\u200b':
		return -1
	}
	return r
}

func encode32(b []byte) string {
	out := make([]byte, 0, (len(b)*8+4)/5)
	var acc, bits uint
	for _, c := range b {
		acc, bits = acc<<8|uint(c), bits+8
		for bits >= 5 {
			bits -= 5
			out = append(out, crockford[acc>>bits&31])
		}
	}
	if bits > 0 {
		out = append(out, crockford[acc<<(5-bits)&31])
	}
	return string(out)
}

// decode32 is the inverse of encode32; left-over bits must be zero, and fewer
// than a character's worth, so that each value has one spelling.
func decode32(s string) ([]byte, error) {
	out := make([]byte, 0, len(s)*5/8)
	var acc, bits uint
	for i := 0; i < len(s); i++ {
		v := digit32(s[i])
		if v < 0 {
			return nil, holdfast.Errorf(holdfast.Invalid, "join code: character %d after %q cannot be part of a code; copy it again", i+1, joinPrefix)
		}
		acc, bits = acc<<5|uint(v), bits+5
		if bits >= 8 {
			bits -= 8
			out = append(out, byte(acc>>bits))
		}
		acc &= 1<<bits - 1
	}
	if bits >= 5 || acc != 0 {
		return nil, holdfast.Errorf(holdfast.Invalid, "join code: a character is wrong or missing at the end; copy it again, whole")
	}
	return out, nil
}

func digit32(c byte) int {
	switch c {
	case 'o':
		c = '0'
	case 'i', 'l':
		c = '1'
	}
	return strings.IndexByte(crockford, c)
}
