package crashpoint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Every point is in All, and passed at one place of the product.
func TestEveryPointIsPassedAtOnePlace(t *testing.T) {
	values := make(map[string]Point) // by the names of the constants
	f, err := parser.ParseFile(token.NewFileSet(), "points.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			values[v.Names[0].Name] = Point(text)
		}
		return true
	})
	passed := make(map[string][]string) // places by constant
	fset := token.NewFileSet()
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok || !is(c.Fun, "crashpoint", "At") {
				return true
			}
			arg, ok := c.Args[0].(*ast.SelectorExpr)
			if !ok || !is(arg, "crashpoint", arg.Sel.Name) {
				t.Errorf("%s: a point must be a constant of this package, so that it costs nothing", fset.Position(c.Pos()))
				return true
			}
			passed[arg.Sel.Name] = append(passed[arg.Sel.Name], fset.Position(c.Pos()).String())
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[Point]bool)
	for name, p := range values {
		if n := len(passed[name]); n != 1 {
			t.Errorf("%s is passed at %d places: %v", name, n, passed[name])
		}
		if !slices.Contains(All(), p) {
			t.Errorf("%s is not in All", name)
		}
		if step, did, ok := strings.Cut(string(p), ": "); !ok || step == "" || did == "" || strings.ContainsAny(string(p), "\n|") || seen[p] {
			t.Errorf("%s is called %q", name, p)
		}
		seen[p] = true
	}
	if len(values) != len(All()) || len(values) < 40 {
		t.Errorf("%d constants, %d points in All", len(values), len(All()))
	}
}

// is reports whether an expression is package.name.
func is(x ast.Expr, pkg, name string) bool {
	s, ok := x.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	id, ok := s.X.(*ast.Ident)
	return ok && id.Name == pkg
}
