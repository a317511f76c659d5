package tidy

import (
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"runtime"
	"strings"
)

// Module is the path of this module.
const Module = "github.com/hierarchy-bus/hierarchy"

// Finding is one broken rule.
type Finding struct {
	Path string // from the root of the repository, with forward slashes
	Line int    // from 1; 0 where the finding is about the whole file
	Text string // what is wrong, and what to do instead
}

// String formats the finding as a compiler would, so that editors can jump to it.
func (f Finding) String() string {
	if f.Line == 0 {
		return f.Path + ": " + f.Text
	}
	return fmt.Sprintf("%s:%d: %s", f.Path, f.Line, f.Text)
}

// File is one parsed Go file.
type File struct {
	Path string // from the root of the tree
	Dir  string // package directory from the root of the tree, such as "pkg/op"
	Test bool   // its name ends in _test.go
	Off  bool   // a build constraint leaves it out of a plain build
	Text []byte
	AST  *ast.File
}

// Tree is all Go source of a repository, in the order of the paths.
type Tree struct {
	Fset  *token.FileSet
	Files []*File
}

// Load parses every Go file of fsys, which has its root where go.mod stands.
// Nested modules, testdata and hidden folders are left out, as the go command
// leaves them out. The error names the file that cannot be read or parsed.
func Load(fsys fs.FS) (*Tree, error) {
	t := &Tree{Fset: token.NewFileSet()}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p != "." && skipDir(fsys, p) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(p) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(t.Fset, p, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		t.Files = append(t.Files, &File{
			Path: p, Dir: path.Dir(p), Test: strings.HasSuffix(p, "_test.go"), Off: off(file), Text: text, AST: file,
		})
		return nil
	})
	return t, err
}

func skipDir(fsys fs.FS, p string) bool {
	name := path.Base(p)
	if name == "testdata" || name == "vendor" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return true
	}
	_, err := fs.Stat(fsys, path.Join(p, "go.mod"))
	return err == nil
}

// off reports whether the file's build constraint asks for something else than
// the system that this runs on.
func off(file *ast.File) bool {
	for _, group := range file.Comments {
		for _, c := range group.List {
			if c.Pos() > file.Package || !constraint.IsGoBuild(c.Text) {
				continue
			}
			expr, err := constraint.Parse(c.Text)
			return err == nil && !expr.Eval(func(tag string) bool {
				return tag == runtime.GOOS || tag == runtime.GOARCH || tag == "unix" || strings.HasPrefix(tag, "go1.")
			})
		}
	}
	return false
}

// Packages returns the files that are not tests, by package directory.
func (t *Tree) Packages() map[string][]*File {
	m := map[string][]*File{}
	for _, f := range t.Files {
		if !f.Test {
			m[f.Dir] = append(m[f.Dir], f)
		}
	}
	return m
}

func (t *Tree) at(f *File, pos token.Pos, format string, args ...any) Finding {
	return Finding{Path: f.Path, Line: t.Fset.Position(pos).Line, Text: fmt.Sprintf(format, args...)}
}
