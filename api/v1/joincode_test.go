package v1

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

func someCode(addrs ...string) JoinCode {
	return JoinCode{API: addrs, CA: sha256.Sum256([]byte("ca")), Secret: []byte("sixteen bytes 16")}
}

func TestAJoinCodeIsOneWordThatSurvivesPeople(t *testing.T) {
	c := someCode("192.0.2.7:7440", "[2001:db8::1]:7440", "rack-a.example.org:65535")
	s := c.String()
	if short := someCode("192.0.2.7:7440").String(); len(short) != 104 || strings.ContainsAny(short[4:], " -_/+=ilou") {
		t.Errorf("code %q of %d characters", short, len(short))
	}
	for name, form := range map[string]string{
		"as printed": s,
		"capitals":   strings.ToUpper(s),
		"wrapped":    "  " + s[:20] + "\r\n  " + s[20:50] + "-" + s[50:] + "\n",
		"misread":    s[:4] + strings.NewReplacer("0", "O", "1", "l").Replace(s[4:]),
	} {
		got, err := ParseJoinCode(form)
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryTypingErrorInAJoinCodeIsNoticed(t *testing.T) {
	s := someCode("192.0.2.7:7440").String()
	for i := range s {
		for _, c := range "07az" {
			if rune(s[i]) == c || s[i] == '-' {
				continue
			}
			if _, err := ParseJoinCode(s[:i] + string(c) + s[i+1:]); !holdfast.IsKind(err, holdfast.Invalid) {
				t.Errorf("%q for %q at %d: %v", c, s[i], i, err)
			}
		}
		if _, err := ParseJoinCode(s[:i]); err == nil {
			t.Errorf("the first %d characters were taken for a code", i)
		}
		if i+1 < len(s) && i > 3 && s[i] != s[i+1] {
			if _, err := ParseJoinCode(s[:i] + s[i+1:i+2] + s[i:i+1] + s[i+2:]); err == nil {
				t.Errorf("swapped characters at %d", i)
			}
		}
	}
	for _, bad := range []string{"", "hf1", "hf1-", "hello", "hf1-!", s + s, s + "0", strings.Repeat("hf1", 2000), "hf1\xff\xfe"} {
		if _, err := ParseJoinCode(bad); !holdfast.IsKind(err, holdfast.Invalid) || !strings.Contains(fmt.Sprint(err), "host code") {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

func TestAJoinCodeNobodyCanUseIsNotPrinted(t *testing.T) {
	for _, a := range []string{"", "host", "host:0", "host:65536", "host:http", ":7440", "0.0.0.0:7440", "[::]:7440", "[fe80::1%eth0]:7440", "a b:1", "[::ffff:1.2.3.4]:5"} {
		if s := someCode(a).String(); s != "" {
			t.Errorf("%q became %q", a, s)
		}
	}
	few := someCode("h:1")
	few.Secret = few.Secret[:15]
	if few.String() != "" || someCode().String() != "" || someCode(make([]string, 9)...).String() != "" {
		t.Error("a code without addresses, with too many or with a short secret was printed")
	}
}

func TestAJoinCodeKeepsItsSecretFromLogs(t *testing.T) {
	c := someCode("h:1")
	for _, shown := range []string{fmt.Sprintf("%#v", c), c.LogValue().String()} {
		if strings.Contains(shown, "sixteen") || strings.Contains(shown, c.String()) {
			t.Errorf("%q shows the secret", shown)
		}
	}
}

func FuzzParseJoinCode(f *testing.F) {
	f.Add(someCode("192.0.2.7:7440", "[2001:db8::1]:1", "h.example:9").String())
	f.Add("hf1-0")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseJoinCode(s)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.Invalid) {
				t.Errorf("kind of %v", err)
			}
			return
		}
		if again, err := ParseJoinCode(c.String()); err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("%#v did not survive: %v", c, err)
		}
	})
}

// FuzzJoinCodeBytes goes past the check, which random text never does.
func FuzzJoinCodeBytes(f *testing.F) {
	b, _ := someCode("192.0.2.7:7440", "[2001:db8::1]:1", "h.example:9").marshal()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var c JoinCode
		if c.unmarshal(b) != nil {
			return
		}
		if again, err := c.marshal(); err != nil || string(again) != string(b) {
			t.Errorf("%x became %x, %v", b, again, err)
		}
	})
}
