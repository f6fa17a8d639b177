package v1

import (
	"crypto/sha256"
	"strings"
)

// Every code starts with codeStart, so that people and programs recognise one;
// the hyphen is for reading.
const (
	codeStart   = "hf1"
	maxCodeText = 4096
)

// crockford is Crockford's base 32: no i, l, o or u, so that a code survives
// being read aloud or typed from paper.
const crockford = "0123456789abcdefghjkmnpqrstvwxyz"

// checkLen is how many bytes of SHA-256 end the coded bytes, against typing
// errors; they prove nothing.
const checkLen = 4

func codeText(b []byte) string {
	h := sha256.Sum256(b)
	return codeStart + "-" + encode32(append(b, h[:checkLen]...))
}

// codeBytes is the inverse of codeText.
func codeBytes(s string) ([]byte, error) {
	if len(s) > maxCodeText {
		return nil, badCode("it is too long")
	}
	s = strings.ToLower(strings.Map(dropFiller, s))
	s, ok := strings.CutPrefix(s, codeStart)
	if !ok {
		return nil, badCode("it does not start with " + codeStart + "-")
	}
	b, ok := decode32(s)
	if !ok || len(b) <= checkLen {
		return nil, badCode("it is cut short or mistyped")
	}
	body, check := b[:len(b)-checkLen], b[len(b)-checkLen:]
	if h := sha256.Sum256(body); string(h[:checkLen]) != string(check) {
		return nil, badCode("it is cut short or mistyped")
	}
	return body, nil
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
func decode32(s string) (out []byte, ok bool) {
	out = make([]byte, 0, len(s)*5/8)
	var acc, bits uint
	for i := 0; i < len(s); i++ {
		v := digit32(s[i])
		if v < 0 {
			return nil, false
		}
		acc, bits = acc<<5|uint(v), bits+5
		if bits >= 8 {
			bits -= 8
			out = append(out, byte(acc>>bits))
		}
		acc &= 1<<bits - 1
	}
	return out, bits < 5 && acc == 0
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
