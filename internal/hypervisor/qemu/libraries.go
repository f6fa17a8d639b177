package qemu

import (
	"bufio"
	"debug/elf"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-cloud/holdfast"
)

// maxLibraries bounds the walk over a program's libraries.
const maxLibraries = 1000

// libraryDirs returns, sorted and without symbolic links, the directories that
// hold a dynamically linked program's interpreter and libraries, found as the
// loader does (ld.so(8)): the configured directories, then the usual ones.
func libraryDirs(binary string) ([]string, error) {
	search := searchDirs()
	dirs := make(map[string]bool)
	seen := make(map[string]bool)
	queue := []string{binary}
	for len(queue) > 0 && len(seen) < maxLibraries {
		file := queue[0]
		queue = queue[1:]
		needed, interp, err := elfNeeds(file)
		if err != nil {
			return nil, err
		}
		if interp != "" {
			addDirs(dirs, interp)
		}
		for _, name := range needed {
			if seen[name] {
				continue
			}
			seen[name] = true
			for _, dir := range search {
				path := filepath.Join(dir, name)
				if _, err := os.Stat(path); err == nil {
					addDirs(dirs, path)
					queue = append(queue, path)
					break
				}
			}
		}
	}
	var list []string
	for dir := range dirs {
		list = append(list, dir)
	}
	slices.Sort(list)
	return list, nil
}

// addDirs adds where path lies and where the file that it leads to lies.
func addDirs(dirs map[string]bool, path string) {
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		dirs[dir] = true
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		dirs[filepath.Dir(real)] = true
	}
}

func elfNeeds(file string) (needed []string, interp string, err error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, "", holdfast.Errorf(holdfast.Invalid, "%s is not a program that can be jailed: %w", file, err)
	}
	defer f.Close()
	needed, err = f.ImportedLibraries()
	if err != nil {
		return nil, "", holdfast.Errorf(holdfast.Invalid, "read the libraries of %s: %w", file, err)
	}
	if s := f.Section(".interp"); s != nil {
		b, err := s.Data()
		if err != nil {
			return nil, "", holdfast.Errorf(holdfast.Invalid, "read the interpreter of %s: %w", file, err)
		}
		interp = strings.TrimRight(string(b), "\x00")
	}
	return needed, interp, nil
}

func searchDirs() []string {
	var dirs []string
	files, _ := filepath.Glob("/etc/ld.so.conf.d/*.conf")
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		sc := bufio.NewScanner(f)
		for sc.Scan() {
			if line := strings.TrimSpace(sc.Text()); strings.HasPrefix(line, "/") {
				dirs = append(dirs, line)
			}
		}
		f.Close()
	}
	return append(dirs, "/lib64", "/usr/lib64", "/lib", "/usr/lib")
}
