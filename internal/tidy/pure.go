package tidy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// Pure are the packages whose results depend on their arguments alone.
var Pure = []string{"internal/guess", "pkg/op", "internal/retry", "internal/entity", "internal/arbiter", "internal/audit", "internal/registry", "internal/replay"}

// Impure are the files of pure packages that are not, and why.
var Impure = map[string]string{
	"pkg/op/id.go": "draws the ids of operations that a submitter did not name",
}

// impureImports are packages that a pure one has no use for.
var impureImports = []string{
	"context", "crypto/rand", "log", "math/rand", "net", "os", "reflect", "runtime", "sync", "syscall", "unsafe",
}

// impureCalls are functions of otherwise harmless packages that look at a clock,
// draw a number or walk a map in its own order.
var impureCalls = map[string][]string{
	"time":                   {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"},
	"github.com/google/uuid": {"New", "NewString", "NewRandom", "NewRandomFromReader", "NewUUID", "NewV6", "NewV7", "NewV7FromReader", "NewDCEGroup", "NewDCEPerson", "NewDCESecurity"},
	"maps":                   {"All", "Keys", "Values", "DeleteFunc"},
}

// inOrder are the functions of slices that make the order of maps.Keys harmless.
var inOrder = []string{"Sorted", "SortedFunc", "SortedStableFunc"}

// CheckPure finds clocks, random numbers, goroutines, channels and walks over a
// map in the given packages. It needs their types, and takes those of imported
// packages from imp. The error is of the type checker, not of a rule.
func CheckPure(t *Tree, dirs []string, impure map[string]string, imp types.Importer) ([]Finding, error) {
	var found []Finding
	packages := t.Packages()
	for _, dir := range dirs {
		files := slices.DeleteFunc(packages[dir], func(f *File) bool { return f.Off })
		info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}}
		var asts []*ast.File
		for _, f := range files {
			asts = append(asts, f.AST)
		}
		conf := types.Config{Importer: imp}
		if _, err := conf.Check(Module+"/"+dir, t.Fset, asts, info); err != nil {
			return found, err
		}
		for _, f := range files {
			if _, except := impure[f.Path]; !except {
				c := &pureCheck{tree: t, file: f, info: info}
				c.run()
				found = append(found, c.found...)
			}
		}
	}
	return found, nil
}

type pureCheck struct {
	tree  *Tree
	file  *File
	info  *types.Info
	fine  map[*ast.Ident]bool // walks over a map whose result is put in order at once
	found []Finding
}

func (c *pureCheck) run() {
	c.fine = map[*ast.Ident]bool{}
	for _, spec := range c.file.AST.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		if slices.ContainsFunc(impureImports, func(root string) bool { return under(p, root) }) {
			c.add(spec, "a pure package has no use for "+p)
		}
	}
	ast.Inspect(c.file.AST, func(n ast.Node) bool {
		if n != nil {
			c.node(n)
		}
		return true
	})
}

func (c *pureCheck) node(n ast.Node) {
	switch n := n.(type) {
	case *ast.GoStmt:
		c.add(n, "goroutine in a pure package")
	case *ast.SelectStmt:
		c.add(n, "select in a pure package")
	case *ast.ChanType, *ast.SendStmt:
		c.add(n, "channel in a pure package")
	case *ast.UnaryExpr:
		if n.Op == token.ARROW {
			c.add(n, "channel in a pure package")
		}
	case *ast.RangeStmt:
		if tv, ok := c.info.Types[n.X]; ok {
			if _, isMap := tv.Type.Underlying().(*types.Map); isMap {
				c.add(n, "range over a map has no order: use slices.Sorted(maps.Keys(m))")
			}
		}
	case *ast.CallExpr:
		if pkg, name := c.called(n.Fun); pkg == "slices" && slices.Contains(inOrder, name) && len(n.Args) > 0 {
			if inner, ok := n.Args[0].(*ast.CallExpr); ok {
				c.fine[nameOf(inner.Fun)] = true
			}
		}
	case *ast.Ident:
		if pkg, name := c.object(n); slices.Contains(impureCalls[pkg], name) && !c.fine[n] {
			c.add(n, fmt.Sprintf("%s.%s in a pure package", pkg, name))
		}
	}
}

// called names the function of a call, or returns empty strings.
func (c *pureCheck) called(fun ast.Expr) (pkg, name string) {
	if id := nameOf(fun); id != nil {
		return c.object(id)
	}
	return "", ""
}

// object names the package-level function that an identifier stands for.
func (c *pureCheck) object(id *ast.Ident) (pkg, name string) {
	fn, ok := c.info.Uses[id].(*types.Func)
	if !ok || fn.Pkg() == nil || fn.Signature().Recv() != nil {
		return "", ""
	}
	return fn.Pkg().Path(), fn.Name()
}

// nameOf returns the identifier that names a called function, nil when there is none.
func nameOf(fun ast.Expr) *ast.Ident {
	switch f := fun.(type) {
	case *ast.Ident:
		return f
	case *ast.SelectorExpr:
		return f.Sel
	case *ast.IndexExpr:
		return nameOf(f.X)
	case *ast.IndexListExpr:
		return nameOf(f.X)
	default:
		return nil
	}
}

func (c *pureCheck) add(n ast.Node, text string) {
	c.found = append(c.found, c.tree.at(c.file, n.Pos(), "%s", text))
}

// Importer reads types from what the go command has compiled: of the packages
// given, and of all they import. It runs `go list -export` in dir, which compiles
// what the build cache does not hold.
func Importer(fset *token.FileSet, dir string, packages ...string) (types.Importer, error) {
	args := append([]string{"list", "-export", "-deps", "-json=ImportPath,Export"}, packages...)
	cmd := exec.Command("go", args...) //nolint:noctx // a test's helper; the test's own deadline ends it
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, strings.TrimSpace(stderr.String()))
	}
	exports := map[string]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct{ ImportPath, Export string }
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		exports[p.ImportPath] = p.Export
	}
	return importer.ForCompiler(fset, "gc", func(p string) (io.ReadCloser, error) {
		if exports[p] == "" {
			return nil, fmt.Errorf("no export data of %s", p)
		}
		return os.Open(exports[p])
	}), nil
}
