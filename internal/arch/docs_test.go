package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTheTestsThatDocumentsNameExist: *TestName*, in any page, is a test of the
// module; *TestName…* begins the name of one.
func TestTheTestsThatDocumentsNameExist(t *testing.T) {
	have := testNames(t)
	named := 0
	for page, text := range documents(t) {
		for _, m := range regexp.MustCompile(`\*(Test[A-Z]\w*)(…?)`).FindAllStringSubmatch(text, -1) {
			named++
			if _, ok := have[m[1]]; !ok && (m[2] == "" || !begins(have, m[1])) {
				t.Errorf("%s names %s, which is no test", page, m[1])
			}
		}
	}
	if named < 50 {
		t.Errorf("only %d tests are named in all documents: they are written in another way than this looks for", named)
	}
}

// TestArchitectureListsEveryPackage, by its path or the end of it.
func TestArchitectureListsEveryPackage(t *testing.T) {
	text := documents(t)["docs/ARCHITECTURE.md"]
	for _, p := range packages(t) {
		name := p.name()
		word := strings.TrimPrefix(name, "internal/")
		said := name == "."
		for _, as := range []string{word + "/", "`" + word + "`", " " + filepath.Base(word) + "/ ", "`" + filepath.Base(word) + "`"} {
			said = said || strings.Contains(text, as)
		}
		if !said {
			t.Errorf("docs/ARCHITECTURE.md does not say what %s is for", name)
		}
	}
}

func begins(have map[string]bool, name string) bool {
	for n := range have {
		if strings.HasPrefix(n, name) {
			return true
		}
	}
	return false
}

// testNames are all test functions below the module's root.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	have := map[string]bool{}
	decl := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	walk(t, "_test.go", func(_, text string) {
		for _, m := range decl.FindAllStringSubmatch(text, -1) {
			have[m[1]] = true
		}
	})
	return have
}

// documents are all pages of the module, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	walk(t, ".md", func(path, text string) { pages[path] = text })
	if len(pages) < 20 {
		t.Fatalf("%d documents", len(pages))
	}
	return pages
}

func walk(t *testing.T, suffix string, f func(path, text string)) {
	t.Helper()
	root := "../.."
	err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, path)
		switch {
		case err != nil:
			return err
		case e.IsDir() && (e.Name() == ".git" || rel == "build" || rel == "bin"):
			return filepath.SkipDir
		case e.IsDir() || !strings.HasSuffix(path, suffix):
			return nil
		}
		b, err := os.ReadFile(path)
		f(filepath.ToSlash(rel), string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
