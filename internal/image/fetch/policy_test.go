package fetch

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
)

func TestAddressesThatAreNotPublicAreRefused(t *testing.T) {
	for _, text := range []string{"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1",
		"169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.0.170", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.9", "224.0.0.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd12:3456::1", "ff02::1", "64:ff9b::7f00:1", "64:ff9b::808:808",
		"64:ff9b:1::a00:1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1", "100::1", "4000::1", "5f00::1"} {
		if err := (Policy{}).Allow(netip.MustParseAddr(text)); !holdfast.IsKind(err, holdfast.Denied) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.167.0.1", "151.101.2.132", "::ffff:8.8.8.8", "2606:4700::1111", "2a04:4e42::644"} {
		if err := (Policy{}).Allow(netip.MustParseAddr(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	p := Policy{Private: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd12::/16")}}
	for text, ok := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "fd12::1": true, "10.2.0.1": false, "127.0.0.1": false, "fd13::1": false} {
		if err := p.Allow(netip.MustParseAddr(text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestURLs(t *testing.T) {
	for text, kind := range map[string]holdfast.Kind{
		"https://example.org/disk.qcow2": holdfast.Other, "https://example.org:8443/a?b=c": holdfast.Other, "https://1.1.1.1/": holdfast.Other, "https://3com.example/": holdfast.Other,
		"http://example.org/": holdfast.Denied, "https://127.0.0.1/": holdfast.Denied, "https://[::1]/": holdfast.Denied, "https://169.254.169.254/latest/meta-data/": holdfast.Denied,
		"https://[::ffff:127.0.0.1]/": holdfast.Denied, "https://[::ffff:7f00:1]/": holdfast.Denied, "https://[64:ff9b::7f00:1]/": holdfast.Denied, "https://[fe80::1%25lo]/": holdfast.Denied,
		"https://2130706433/": holdfast.Invalid, "https://0177.0.0.1/": holdfast.Invalid, "https://0x7f000001/": holdfast.Invalid, "https://0x7f.1/": holdfast.Invalid, "https://127.1/": holdfast.Invalid, "https://127.0.0.1./": holdfast.Invalid,
		"file:///etc/passwd": holdfast.Invalid, "ftp://example.org/x": holdfast.Invalid, "gopher://127.0.0.1:6379/_x": holdfast.Invalid, "//example.org/x": holdfast.Invalid, "example.org/x": holdfast.Invalid, "": holdfast.Invalid,
		"https://": holdfast.Invalid, "https:///x": holdfast.Invalid, "https:example.org": holdfast.Invalid, "https://user:word@example.org/": holdfast.Invalid, "https://example.org:0/": holdfast.Invalid,
		"https://example.org:99999/": holdfast.Invalid, "https://exa mple/": holdfast.Invalid, "https://example.org/\r\nHost: x": holdfast.Invalid, "https://x/" + strings.Repeat("a", MaxURL): holdfast.Invalid,
	} {
		_, err := Policy{}.ParseURL(text)
		if kind == holdfast.Other && err != nil || kind != holdfast.Other && !holdfast.IsKind(err, kind) {
			t.Errorf("%.60q: %v, not %v", text, err, kind)
		}
		if err != nil && strings.Contains(err.Error(), "word") && strings.Contains(text, "word@") && strings.Contains(err.Error(), ":word") {
			t.Errorf("%.60q: the answer tells the password: %v", text, err)
		}
	}
	if _, err := (Policy{PlainHTTP: true}).ParseURL("http://example.org/"); err != nil {
		t.Errorf("http where it is allowed: %v", err)
	}
}

func TestSums(t *testing.T) {
	want := strings.Repeat("0a", 32)
	if got, err := ParseSum(" " + strings.ToUpper(want) + "\n"); got != want || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for _, text := range []string{"", want[1:], want + "0", strings.Repeat("0g", 32)} {
		if _, err := ParseSum(text); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzParseURL looks for URLs that are taken and lead to what is not public.
func FuzzParseURL(f *testing.F) {
	for _, text := range []string{"https://example.org/x", "https://127.0.0.1", "https://[::1]:80/", "https://0x7f.1", "https://a@b/", "http://1.1.1.1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := Policy{}.ParseURL(text)
		if err != nil {
			if k := holdfast.KindOf(err); k != holdfast.Invalid && k != holdfast.Denied {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if u.Scheme != "https" || u.User != nil || u.Hostname() == "" || len(text) > MaxURL {
			t.Fatalf("%q was taken", text)
		}
		if a, err := netip.ParseAddr(u.Hostname()); err == nil && (a.Unmap().IsLoopback() || a.Unmap().IsPrivate() || a.Unmap().IsLinkLocalUnicast() || a.IsMulticast()) {
			t.Fatalf("%q was taken", text)
		}
	})
}
