package sim

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"go/scanner"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os/exec"
	"path"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
)

// ProtocolPackages are the packages that decide what becomes of a write, from the
// session that it comes by to the disks, and who may make one. Seeds count as
// evidence as long as none of them changes.
func ProtocolPackages() []string {
	return []string{"internal/agent", "internal/blockmap", "internal/cluster", "internal/ha", "internal/node", "internal/provision", "internal/reconcile",
		"internal/record", "internal/replica", "internal/seal", "internal/store", "internal/volume"}
}

// SimulatorPackages are those that a seed's history depends on besides.
func SimulatorPackages() []string {
	return []string{"internal/sim", "internal/clock/simclock", "internal/disk/memdisk", "internal/transport/simnet", "internal/kv/memkv", "internal/hypervisor/fakevm"}
}

// HashSources returns twelve digits that stay the same as long as the Go sources of
// packages say the same: comments, spaces and tests do not count.
func HashSources(tree fs.FS, packages []string) (string, error) {
	files := make(map[string][]byte)
	for _, p := range packages {
		found, err := fs.Glob(tree, p+"/*.go")
		if err != nil || len(found) == 0 {
			return "", holdfast.Errorf(holdfast.NotFound, "the sources of %s are not here", p)
		}
		for _, f := range found {
			if files[f], err = fs.ReadFile(tree, f); err != nil {
				return "", holdfast.Errorf(holdfast.IO, "the sources of %s: %w", p, err)
			}
		}
	}
	return hashFiles(files), nil
}

// HashRevision is HashSources of a commit in the repository around the working
// directory.
func HashRevision(revision string, packages []string) (string, error) {
	var out, wrong bytes.Buffer
	c := exec.Command("git", append([]string{"archive", "--format=tar", revision, "--"}, packages...)...)
	c.Stdout, c.Stderr = &out, &wrong
	top, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if c.Dir = strings.TrimSpace(string(top)); err == nil {
		err = c.Run()
	}
	if err != nil {
		return "", holdfast.Errorf(holdfast.NotFound, "the sources of commit %s: %w %s", revision, err, wrong.String())
	}
	files := make(map[string][]byte)
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if err == io.EOF {
			return hashFiles(files), nil
		}
		if err != nil {
			return "", holdfast.Errorf(holdfast.IO, "the sources of commit %s: %w", revision, err)
		}
		if slices.Contains(packages, path.Dir(h.Name)) && strings.HasSuffix(h.Name, ".go") {
			if files[h.Name], err = io.ReadAll(r); err != nil {
				return "", holdfast.Errorf(holdfast.IO, "the sources of commit %s: %w", revision, err)
			}
		}
	}
}

// hashFiles hashes the words of files, in order of their names, without tests.
func hashFiles(files map[string][]byte) string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		fmt.Fprintf(sum, "file %s\n", name)
		var s scanner.Scanner
		text := files[name]
		s.Init(token.NewFileSet().AddFile(name, -1, len(text)), text, nil, 0)
		for {
			_, tok, lit := s.Scan()
			if tok == token.EOF {
				break
			}
			if tok == token.SEMICOLON { // also what a line's end stands for
				lit = ""
			}
			fmt.Fprintf(sum, "%d %s\n", tok, lit)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))[:12]
}

// builtProtocol is the hash of the protocol of a binary's version, which names the
// commit that it was built from as git describe does.
func builtProtocol(version string) (string, error) {
	if strings.HasSuffix(version, "-dirty") {
		return "", holdfast.Errorf(holdfast.Invalid, "this program was built from changed sources; commit them, and build it again")
	}
	return HashRevision(version, ProtocolPackages())
}
