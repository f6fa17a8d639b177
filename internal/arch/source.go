package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// source is one parsed file that belongs to a package, tests not included.
type source struct {
	pkg  string
	name string
	fset *token.FileSet
	file *ast.File
}

// parse reads the files of a package; files is how the test replaces them.
func parse(p Package, content map[string]string) ([]source, error) {
	var out []source
	for _, name := range p.GoFiles {
		fset := token.NewFileSet()
		var src any
		if text, ok := content[name]; ok {
			src = text
		}
		f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), src, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		out = append(out, source{pkg: p.name(), name: name, fset: fset, file: f})
	}
	return out, nil
}

func (s source) at(n ast.Node) string {
	return fmt.Sprintf("%s/%s:%d", s.pkg, s.name, s.fset.Position(n.Pos()).Line)
}

// imports maps the names that a file gives to its imports.
func (s source) imports() map[string]string {
	out := map[string]string{}
	for _, i := range s.file.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		name := path[strings.LastIndex(path, "/")+1:]
		if name == "v2" {
			name = "rand" // math/rand/v2
		}
		if i.Name != nil {
			name = i.Name.Name
		}
		out[name] = path
	}
	return out
}

// notPure are the imports that tie a package to the world.
func notPure() []string {
	return []string{"os", "net", "sync", "sync/atomic", "log", "log/slog", "crypto/rand", "context", "syscall", "os/exec", "io/fs", "golang.org/x/sys/unix"}
}

// clockFuncs are what package time offers that reads a clock or waits.
func clockFuncs() []string {
	return []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}
}

// randTypes are what package math/rand offers that takes its seed from outside.
func randTypes() []string {
	return []string{"New", "Rand", "Source", "NewPCG", "PCG", "NewChaCha8", "ChaCha8", "NewZipf", "Zipf"}
}

// checkPure returns what makes a file of a pure package impure.
func checkPure(s source) (wrong []string) {
	for _, i := range s.file.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		if slices.Contains(notPure(), path) || strings.HasPrefix(path, "net/") {
			wrong = append(wrong, fmt.Sprintf("%s: a pure package imports %s", s.at(i), path))
		}
	}
	return wrong
}

// checkScheduled returns what a simulator could not schedule: goroutines,
// channels, timers and contexts that do not go through the clock seam.
func checkScheduled(s source) (wrong []string) {
	imports := s.imports()
	say := func(n ast.Node, what string) {
		wrong = append(wrong, fmt.Sprintf("%s: %s; below the surface everything goes through the clock seam (docs/adr/0002)", s.at(n), what))
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			say(n, "a go statement")
		case *ast.SelectStmt:
			say(n, "a select")
		case *ast.SendStmt:
			say(n, "a send on a channel")
		case *ast.ChanType:
			say(n, "a channel")
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				say(n, "a receive from a channel")
			}
		case *ast.ImportSpec:
			if n.Path.Value == `"context"` {
				say(n, "a context")
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			switch {
			case !ok:
			case imports[x.Name] == "time" && slices.Contains(clockFuncs(), n.Sel.Name):
				say(n, "time."+n.Sel.Name)
			case strings.HasPrefix(imports[x.Name], "math/rand") && !slices.Contains(randTypes(), n.Sel.Name):
				say(n, "rand."+n.Sel.Name+", which is seeded by nobody")
			}
		}
		return true
	})
	return wrong
}

// checkGlobals returns init functions and package variables that are changed.
func checkGlobals(files []source) (wrong []string) {
	vars := map[string]bool{}
	for _, s := range files {
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					wrong = append(wrong, s.at(d)+": an init function; pass what is needed instead")
				}
			case *ast.GenDecl:
				collectVars(d, vars)
			}
		}
	}
	for _, s := range files {
		ast.Inspect(s.file, func(n ast.Node) bool {
			for _, id := range changed(n) {
				if vars[id.Name] && s.packageLevel(id) {
					wrong = append(wrong, fmt.Sprintf("%s: package variable %s is changed", s.at(id), id.Name))
				}
			}
			return true
		})
	}
	return wrong
}

func collectVars(d *ast.GenDecl, vars map[string]bool) {
	if d.Tok != token.VAR {
		return
	}
	for _, spec := range d.Specs {
		for _, n := range spec.(*ast.ValueSpec).Names {
			if n.Name != "_" {
				vars[n.Name] = true
			}
		}
	}
}

// changed returns the variables at the root of what a statement assigns to.
func changed(n ast.Node) (ids []*ast.Ident) {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok == token.DEFINE {
			return nil
		}
		for _, l := range n.Lhs {
			ids = append(ids, rootOf(l)...)
		}
	case *ast.IncDecStmt:
		ids = rootOf(n.X)
	}
	return ids
}

func rootOf(e ast.Expr) []*ast.Ident {
	switch e := e.(type) {
	case *ast.Ident:
		return []*ast.Ident{e}
	case *ast.IndexExpr:
		return rootOf(e.X)
	case *ast.SelectorExpr:
		return rootOf(e.X)
	case *ast.ParenExpr:
		return rootOf(e.X)
	case *ast.StarExpr:
		return rootOf(e.X)
	}
	return nil
}

// packageLevel reports whether an identifier of a file is not declared inside
// one of its functions.
func (s source) packageLevel(id *ast.Ident) bool {
	return id.Obj == nil || s.file.Scope.Lookup(id.Name) == id.Obj
}

// known says which words in string literals only certain packages may hold.
func known() map[string][]string {
	return map[string][]string{
		"qmp_capabilities": {"internal/hypervisor/qemu"},
		"blockdev-add":     {"internal/hypervisor/qemu"},
		"holdfast/2/":      {"internal/cluster", "internal/account", "internal/alert", "internal/audit", "internal/once", "internal/task", "internal/turn", "internal/web"},
	}
}

// checkWords returns literals that tell of knowledge that another package keeps
// to itself.
func checkWords(s source) (wrong []string) {
	if s.pkg == "internal/arch" {
		return nil
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		for word, allowed := range known() {
			if strings.Contains(strings.ToLower(lit.Value), word) && !slices.Contains(allowed, s.pkg) {
				wrong = append(wrong, fmt.Sprintf("%s: %q is known only to %v", s.at(lit), word, allowed))
			}
		}
		return true
	})
	return wrong
}
