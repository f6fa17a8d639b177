package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-cloud/holdfast/internal/config"
)

func TestWhatIsLaidOut(t *testing.T) {
	tree := t.TempDir()
	if err := layOut(tree, "../..", "v1.2.3"); err != nil {
		t.Fatal(err)
	}
	pages := 0
	_ = each(tellable("v1.2.3"), func(c *cobra.Command) error {
		f, err := os.Open(filepath.Join(tree, "usr/share/man/man1", strings.ReplaceAll(c.CommandPath(), " ", "-")+".1.gz"))
		if err != nil {
			t.Error(err)
			return nil
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(z)
		if err != nil || !bytes.Contains(text, []byte(`.SH NAME`)) || !bytes.Contains(text, []byte("Holdfast v1.2.3")) {
			t.Errorf("the manual page of %s: %v, %.80q", c.CommandPath(), err, text)
		}
		pages++
		return nil
	})
	if pages < 100 {
		t.Errorf("%d manual pages", pages)
	}
	example, err := os.ReadFile(filepath.Join(tree, docs, "holdfast.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	whole := regexp.MustCompile(`(?m)^#([a-z_]+: )`).ReplaceAll(example, []byte("$1"))
	for _, text := range [][]byte{example, whole} {
		if _, err := config.Parse(text, "a1"); err != nil {
			t.Errorf("the example: %v\n%s", err, text)
		}
	}
	if bytes.Equal(example, whole) {
		t.Error("the example has no keys to choose from")
	}
	for _, name := range []string{"usr/lib/systemd/system/holdfast.service", "usr/share/bash-completion/completions/holdfast", docs + "/runbooks/host-away.md", docs + "/copyright"} {
		if st, err := os.Stat(filepath.Join(tree, name)); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The same sources make the same files, whenever and wherever.
func TestTheSameIsMadeTwice(t *testing.T) {
	var sums [2][32]byte
	for i := range sums {
		tree, out := t.TempDir(), t.TempDir()
		if err := layOut(tree, "../..", "v1.2.3"); err != nil {
			t.Fatal(err)
		}
		p := packer{version: "v1.2.3", out: out, repo: "../..", when: time.Unix(1e9, 0)}
		if err := p.tarball(tree, "x"); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(out, "x.tar.gz"))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = sha256.Sum256(b)
	}
	if sums[0] != sums[1] {
		t.Errorf("%x and %x", sums[0], sums[1])
	}
}

func TestVersionsSortAsTheyWereMade(t *testing.T) {
	day := time.Unix(1_700_000_000, 0)
	var was string
	for _, x := range []struct {
		described, want string
		when            time.Time
	}{
		{"ea7f95f", "0.0~20231114.221320.ea7f95f", day},
		{"0a7f95f", "0.0~20231115.221320.0a7f95f", day.Add(24 * time.Hour)},
		{"v1.2.3", "1.2.3", day},
		{"v1.2.3-4-gabcdef0", "1.2.3+4.gabcdef0", day},
		{"v1.2.3-4-gabcdef0-dirty", "1.2.3+4.gabcdef0+changed", day},
		{"v1.10.0", "1.10.0", day},
	} {
		is := debianVersion(x.described, x.when)
		if is != x.want {
			t.Errorf("%s is %s, want %s", x.described, is, x.want)
		}
		if was != "" {
			if out, err := exec.Command("dpkg", "--compare-versions", was, "lt", is).CombinedOutput(); err != nil {
				t.Errorf("%s is not before %s: %v %s", was, is, err, out)
			}
		}
		was = is
	}
}

// TestDebiansOwnToolReadsIt packs a tree with a file in place of the program.
func TestDebiansOwnToolReadsIt(t *testing.T) {
	tree, out := t.TempDir(), t.TempDir()
	if err := put(tree, "usr/bin/holdfast", []byte("#!/bin/sh\n")); err != nil {
		t.Fatal(err)
	}
	p := packer{version: "v1.2.3", out: out, repo: "../..", when: time.Unix(1e9, 0)}
	name, err := p.debianPackage(tree, "arm64")
	if err != nil {
		t.Fatal(err)
	}
	told, err := exec.Command("dpkg-deb", "-f", filepath.Join(out, name), "Package", "Version", "Architecture").CombinedOutput()
	if want := "Package: holdfast\nVersion: 1.2.3\nArchitecture: arm64\n"; err != nil || string(told) != want {
		t.Errorf("%v: %s", err, told)
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		if out, err := exec.Command("sh", "-n", filepath.Join("../../deploy/debian", script)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v %s", script, err, out)
		}
	}
	if _, err := p.pack(t.TempDir(), "sparc"); err == nil || !strings.Contains(err.Error(), "amd64 and arm64") {
		t.Errorf("an unknown architecture: %v", err)
	}
}

func TestTheUnitIsUnderstood(t *testing.T) {
	b, err := fs.ReadFile(os.DirFS("../../deploy/systemd"), "holdfast.service")
	if err != nil {
		t.Fatal(err)
	}
	section := ""
	for i, l := range strings.Split(string(b), "\n") {
		switch {
		case l == "" || strings.HasPrefix(l, "#"):
		case strings.HasPrefix(l, "["):
			section = l
		case section == "" || !strings.Contains(l, "="):
			t.Errorf("line %d: %q", i+1, l)
		}
	}
	for _, needed := range []string{"KillMode=process", "ExecStart=/usr/bin/holdfast serve --config /etc/holdfast.yaml", "Restart=always"} {
		if !strings.Contains(string(b), fmt.Sprintf("\n%s\n", needed)) {
			t.Errorf("%s is missing", needed)
		}
	}
}
