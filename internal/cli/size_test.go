package cli

import (
	"strings"
	"testing"

	"github.com/holdfast-cloud/holdfast"
	"github.com/holdfast-cloud/holdfast/internal/config"
)

func TestSizesAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "4096": 4096, "1K": 1024, "1kib": 1024, "10GiB": 10 << 30, "10GB": 10 << 30, "1.5T": 3 << 39, " 2m ": 2 << 20, "7B": 7,
	} {
		if got, err := config.ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "G", "ten", "-1", "-1G", "1iB", "1e3", "0x10G", "infG", "nanG", "9999999999999G", "1.5", "1 000"} {
		if got, err := config.ParseSize(text); !holdfast.IsKind(err, holdfast.Invalid) {
			t.Errorf("%q was taken for %d (%v)", text, got, err)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"10GiB", "1.5T", "9223372036854775807", "p"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := config.ParseSize(s)
		if n < 0 || err != nil && !holdfast.IsKind(err, holdfast.Invalid) {
			t.Fatalf("%q: %d, %v", s, n, err)
		}
	})
}

func FuzzParsePublish(f *testing.F) {
	f.Add("127.0.0.1:80:80/tcp")
	f.Add("[::1]:80:80")
	f.Fuzz(func(t *testing.T, s string) {
		ps, err := parsePublish([]string{s})
		if err == nil && (ps[0].Port < 1 || ps[0].Port > 65535 || ps[0].GuestPort < 1 || strings.ContainsAny(ps[0].Addr, "[]")) {
			t.Fatalf("%q: %+v", s, ps)
		}
	})
}

func TestNamesOfImagesComeFromFiles(t *testing.T) {
	for path, want := range map[string]string{"/a/Debian_12.amd64.raw": "debian-12-amd64", "disk.img": "disk", "-": "", "x": "x"} {
		if got := imageName(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
