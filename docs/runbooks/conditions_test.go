package runbooks_test

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

	"github.com/holdfast-cloud/holdfast/docs/runbooks"
)

// situations are the pages for what is no condition: there is nobody to tell one.
func situations() []string { return []string{"no-answer"} }

// TestEveryConditionHasAPage: and every page a condition, or a drill. The
// conditions are what the code raises.
func TestEveryConditionHasAPage(t *testing.T) {
	raised := conditions(t)
	if len(raised) < 30 {
		t.Errorf("only %d conditions were found: they are raised in another way than this looks for", len(raised))
	}
	for _, name := range raised {
		if _, err := runbooks.Find(name); err != nil {
			t.Errorf("condition %s has no page: write docs/runbooks/%s.md", name, name)
		}
	}
	for _, p := range runbooks.Pages() {
		if !strings.HasPrefix(p.Name, "drill-") && !slices.Contains(raised, p.Name) && !slices.Contains(situations(), p.Name) {
			t.Errorf("page %s has no condition", p.Name)
		}
	}
}

// conditions are the names of all conditions that the product's code raises.
func conditions(t *testing.T) (names []string) {
	t.Helper()
	var wrong []string
	err := filepath.WalkDir("../../internal", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			r := reader{fset: token.NewFileSet()}
			n, w := r.dir(path)
			names, wrong = append(names, n...), append(wrong, w...)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		t.Error(w)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// reader finds conditions in the sources of a package.
type reader struct {
	fset   *token.FileSet
	consts map[string]ast.Expr
}

func (r reader) dir(path string) (names, wrong []string) {
	files, _ := filepath.Glob(filepath.Join(path, "*.go"))
	var parsed []*ast.File
	r.consts = map[string]ast.Expr{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(r.fset, file, nil, 0)
		if err != nil {
			return nil, []string{err.Error()}
		}
		parsed = append(parsed, f)
		r.assigned(f, r.consts)
	}
	for _, f := range parsed {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
				n, w := r.function(fn)
				names, wrong = append(names, n...), append(wrong, w...)
			}
		}
	}
	return names, wrong
}

// assigned notes what names stand for.
func (r reader) assigned(n ast.Node, as map[string]ast.Expr) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			for i, v := range n.Values {
				as[n.Names[i].Name] = v
			}
		case *ast.AssignStmt:
			for i := 0; i < len(n.Lhs) && len(n.Lhs) == len(n.Rhs); i++ {
				if id, ok := n.Lhs[i].(*ast.Ident); ok {
					as[id.Name] = n.Rhs[i]
				}
			}
		}
		return true
	})
}

func (r reader) function(fn *ast.FuncDecl) (names, wrong []string) {
	local := map[string]ast.Expr{}
	r.assigned(fn, local)
	params := map[string]bool{}
	for _, p := range fn.Type.Params.List {
		for _, id := range p.Names {
			params[id.Name] = true
		}
	}
	ast.Inspect(fn, func(n ast.Node) bool {
		e := identity(n)
		if e == nil || passed(e, params) {
			return true
		}
		if text, ok := r.text(e, local, 0); ok {
			names = append(names, runbooks.Name(text))
		} else {
			wrong = append(wrong, r.fset.Position(n.Pos()).String()+": the name of this condition is not to be seen; let its identity begin with a literal")
		}
		return true
	})
	return names, wrong
}

// identity returns the identity of the condition that a call or a literal
// raises, or nil.
func identity(n ast.Node) ast.Expr {
	switch n := n.(type) {
	case *ast.CallExpr:
		sel, ok := n.Fun.(*ast.SelectorExpr)
		switch {
		case ok && sel.Sel.Name == "Condition" && len(n.Args) == 3:
			if text, ok := n.Args[2].(*ast.BasicLit); !ok || text.Value != `""` { // that takes one back
				return n.Args[0]
			}
		case ok && sel.Sel.Name == "cause" && len(n.Args) == 4:
			return n.Args[0]
		case ok && sel.Sel.Name == "add" && len(n.Args) == 5:
			return n.Args[1]
		}
	case *ast.CompositeLit:
		name := ""
		switch t := n.Type.(type) {
		case *ast.Ident:
			name = t.Name
		case *ast.SelectorExpr:
			name = t.Sel.Name
		}
		for _, e := range n.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok && name == "Condition" {
				if k, ok := kv.Key.(*ast.Ident); ok && k.Name == "ID" {
					return kv.Value
				}
			}
		}
	}
	return nil
}

// passed reports whether an identity comes from elsewhere: a parameter, or a
// condition that another has raised.
func passed(e ast.Expr, params map[string]bool) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return params[e.Name]
	case *ast.SelectorExpr:
		return true
	case *ast.BinaryExpr:
		return passed(e.X, params)
	}
	return false
}

// text is what an expression begins with.
func (r reader) text(e ast.Expr, local map[string]ast.Expr, depth int) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil && s != ""
	case *ast.BinaryExpr:
		return r.text(e.X, local, depth)
	case *ast.Ident:
		if to := local[e.Name]; to != nil && depth < 5 {
			return r.text(to, local, depth+1)
		}
		if to := r.consts[e.Name]; to != nil && depth < 5 {
			return r.text(to, local, depth+1)
		}
	}
	return "", false
}
