package auth

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

func someCode(t testing.TB, ca *CA, addrs ...string) (JoinCode, string) {
	t.Helper()
	j, err := NewJoinCode(ca.Cert, addrs)
	if err != nil {
		t.Fatal(err)
	}
	s, err := j.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return j, s
}

func TestAJoinCodeIsOneWordThatSurvivesPeople(t *testing.T) {
	ca := newCA(t, 1)
	j, s := someCode(t, ca, "192.0.2.7:7420", "[2001:db8::1]:7420", "rack-a.example.org:65535")
	_, short := someCode(t, ca, "192.0.2.7:7420")
	if len(short) > 80 || strings.ContainsAny(s, " -_/+=ilo") && !strings.HasPrefix(s, "hfj") {
		t.Errorf("code %q of %d characters", short, len(short))
	}
	for name, form := range map[string]string{
		"as printed": s,
		"capitals":   strings.ToUpper(s),
		"wrapped":    "  " + s[:20] + "\r\n  " + s[20:50] + "-" + s[50:] + "\n",
		"misread":    strings.NewReplacer("0", "O", "1", "l").Replace(s),
	} {
		got, err := ParseJoinCode(form)
		if err != nil || !reflect.DeepEqual(got, j) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestEveryTypingErrorIsNoticed(t *testing.T) {
	_, s := someCode(t, newCA(t, 1), "192.0.2.7:7420")
	for i := range s {
		for _, c := range "07az" {
			if rune(s[i]) == c {
				continue
			}
			if _, err := ParseJoinCode(s[:i] + string(c) + s[i+1:]); !holdfast.IsKind(err, holdfast.Invalid) {
				t.Errorf("%q for %q at %d: %v", c, s[i], i, err)
			}
		}
		if _, err := ParseJoinCode(s[:i]); err == nil {
			t.Errorf("the first %d characters were taken for a code", i)
		}
		if i+1 < len(s) && s[i] != s[i+1] {
			if _, err := ParseJoinCode(s[:i] + s[i+1:i+2] + s[i:i+1] + s[i+2:]); err == nil {
				t.Errorf("swapped characters at %d", i)
			}
		}
	}
	for _, bad := range []string{"", "hfj", "hello", "hfj!", s + s, s + "0", strings.Repeat("hfj", 1000), "hfj\xff\xfe"} {
		if _, err := ParseJoinCode(bad); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

func TestAddressesThatNobodyReaches(t *testing.T) {
	ca := newCA(t, 1)
	for _, a := range []string{"", "host", "host:0", "host:65536", "host:http", ":7420", "0.0.0.0:7420", "[::]:7420", "[fe80::1%eth0]:7420", "a b:1", "[::ffff:1.2.3.4]:5"} {
		if _, err := NewJoinCode(ca.Cert, []string{a}); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%q: %v", a, err)
		}
	}
	if _, err := NewJoinCode(ca.Cert, nil); err == nil {
		t.Error("a code without an address")
	}
	if _, err := NewJoinCode(ca.Cert, make([]string, MaxJoinAddrs+1)); err == nil {
		t.Error("a code with too many addresses")
	}
}

func TestTheSecretIsNeverPrintedNorStored(t *testing.T) {
	j, s := someCode(t, newCA(t, 1), "192.0.2.7:7420")
	k, _ := someCode(t, newCA(t, 1), "192.0.2.7:7420")
	if j.Secret == k.Secret || j.Hash() == k.Hash() {
		t.Error("two codes share a secret")
	}
	for _, shown := range []string{j.Hash(), fmt.Sprint(j), fmt.Sprintf("%v %s", j, j)} {
		if strings.Contains(shown, j.SecretText()) || strings.Contains(shown, s) {
			t.Errorf("%q shows the secret", shown)
		}
	}
	h, err := HashSecret(j.SecretText())
	if err != nil || !SameHash(h, j.Hash()) || SameHash(h, k.Hash()) {
		t.Errorf("hash %s of the secret's text, %s of the code: %v", h, j.Hash(), err)
	}
	for _, bad := range []string{"", "zz", j.SecretText() + "00", s} {
		if _, err := HashSecret(bad); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestAJoiningHostTrustsExactlyTheAuthorityOfItsCode(t *testing.T) {
	ours, theirs := newCA(t, 1), newCA(t, 1)
	j, _ := someCode(t, ours, "192.0.2.7:7420")
	us, them := hostCredentials(t, ours, 1), hostCredentials(t, theirs, 1)
	_, at, err := handshake(GuestServerTLS(us, nil), j.ClientTLS())
	if err != nil {
		t.Fatal(err)
	}
	if ca, err := j.PeerAuthority(at); err != nil || !ca.Equal(ours.Cert) {
		t.Errorf("%v", err)
	}
	mixed := them
	mixed.CA = ours.Cert // shows the right authority behind a certificate of its own
	for name, c := range map[string]Credentials{
		"another cluster":                 them,
		"an impostor with our authority":  mixed,
		"an admin of ours":                adminCredentials(t, ours, "x"),
		"the authority itself, as a leaf": {CA: ours.Cert, Cert: ours.Cert, Key: ours.key},
		"somebody self-made":              selfMade(t, "holdfast://"+someID(1).String()+"/host/"+someID(1).String()),
	} {
		if _, _, err := handshake(GuestServerTLS(c, nil), j.ClientTLS()); err == nil {
			t.Errorf("%s was trusted", name)
		}
	}
}

func FuzzParseJoinCode(f *testing.F) {
	_, s := someCode(f, newCA(f, 1), "192.0.2.7:7420", "[2001:db8::1]:1", "h.example:9")
	f.Add(s)
	f.Add("hfj0")
	f.Fuzz(func(t *testing.T, s string) {
		j, err := ParseJoinCode(s)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.Invalid) {
				t.Errorf("kind of %v", err)
			}
			return
		}
		again, err := j.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if k, err := ParseJoinCode(again); err != nil || !reflect.DeepEqual(j, k) {
			t.Errorf("%v became %v, %v", j, k, err)
		}
	})
}

// FuzzJoinBytes goes past the check, which random text never does.
func FuzzJoinBytes(f *testing.F) {
	j, _ := someCode(f, newCA(f, 1), "192.0.2.7:7420", "[2001:db8::1]:1", "h.example:9")
	b, _ := j.marshal()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var j JoinCode
		if j.unmarshal(b) != nil {
			return
		}
		if again, err := j.marshal(); err != nil || string(again) != string(b) {
			t.Errorf("%x became %x, %v", b, again, err)
		}
	})
}
