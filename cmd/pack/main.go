// Command pack makes what is installed: a Debian package and a tarball for each
// architecture, with the program, its manual pages, completions for shells, the
// systemd unit, runbooks, alerts and a dashboard. The same sources give the same
// bytes.
package main

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	var p packer
	arches := flag.String("arch", "amd64,arm64", "architectures, with commas between")
	flag.StringVar(&p.version, "version", "", "as git describe tells it")
	flag.StringVar(&p.out, "o", "build/packages", "directory for what is made")
	flag.StringVar(&p.repo, "repo", ".", "root of the sources")
	flag.Parse()
	if err := p.run(strings.Split(*arches, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

// packer makes packages of one version.
type packer struct {
	version, out, repo string
	when               time.Time // of everything in them
}

func (p *packer) run(arches []string) error {
	var err error
	if p.when, err = commitTime(p.repo); err != nil {
		return err
	}
	if err := os.MkdirAll(p.out, 0o755); err != nil {
		return err
	}
	var sums strings.Builder
	for _, arch := range arches {
		tree, err := os.MkdirTemp(p.out, ".tree-")
		if err != nil {
			return err
		}
		made, err := p.pack(tree, arch)
		if err := errors.Join(err, os.RemoveAll(tree)); err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
		for _, name := range made {
			line, err := sumOf(p.out, name)
			if err != nil {
				return err
			}
			fmt.Println(line)
			fmt.Fprintln(&sums, line)
		}
	}
	return os.WriteFile(filepath.Join(p.out, "SHA256SUMS"), []byte(sums.String()), 0o644)
}

// pack makes the packages of one architecture, and returns their names.
func (p *packer) pack(tree, arch string) ([]string, error) {
	if !slices.Contains([]string{"amd64", "arm64"}, arch) {
		return nil, fmt.Errorf("there is no architecture of that name here; amd64 and arm64 are")
	}
	binary := filepath.Join(tree, "usr/bin/holdfast")
	if err := p.build(binary, arch); err != nil {
		return nil, err
	}
	if err := layOut(tree, p.repo, p.version); err != nil {
		return nil, err
	}
	base := "holdfast-" + debianVersion(p.version, p.when) + "-linux-" + arch
	if err := p.tarball(tree, base); err != nil {
		return nil, err
	}
	deb, err := p.debianPackage(tree, arch)
	return []string{base + ".tar.gz", deb}, err
}

// build compiles the program as `make build` does.
func (p *packer) build(to, arch string) error {
	to, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	c := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+p.version, "-o", to, "./cmd/holdfast")
	c.Dir, c.Stdout, c.Stderr = p.repo, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	return c.Run()
}

// commitTime is when the sources were committed; now, outside of a repository.
func commitTime(repo string) (time.Time, error) {
	out, err := exec.Command("git", "-C", repo, "log", "-1", "--format=%ct").Output()
	if err != nil {
		return time.Now().UTC().Truncate(time.Second), nil
	}
	var s int64
	if _, err := fmt.Sscan(string(out), &s); err != nil {
		return time.Time{}, fmt.Errorf("the time of the last commit: %q: %w", out, err)
	}
	return time.Unix(s, 0).UTC(), nil
}

// sumOf is a line of SHA256SUMS.
func sumOf(dir, name string) (string, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x  %s", h.Sum(nil), name), nil
}
