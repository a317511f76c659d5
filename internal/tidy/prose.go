package tidy

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
)

// MaxLines is how long a Go file that is not a test may be: what is longer is two
// rooms and not one.
const MaxLines = 400

// CheckLength finds files of more than limit lines. Generated files are no
// exception: nobody reads them either.
func CheckLength(t *Tree, limit int) []Finding {
	var found []Finding
	for _, f := range t.Files {
		if n := bytes.Count(f.Text, []byte("\n")); !f.Test && n > limit {
			found = append(found, Finding{Path: f.Path, Text: fmt.Sprintf("%d lines, more than %d: is it one room or two?", n, limit)})
		}
	}
	return found
}

// CheckDocs finds packages without a package comment, and exported names of
// pkg and internal without a comment. A comment on a group is enough for its
// members. Methods count when their receiver is exported.
func CheckDocs(t *Tree) []Finding {
	var found []Finding
	documented := map[string]bool{}
	packages := t.Packages()
	for dir, files := range packages {
		for _, f := range files {
			documented[dir] = documented[dir] || f.AST.Doc != nil
		}
	}
	for _, f := range t.Files {
		if f.Test {
			continue
		}
		if !documented[f.Dir] {
			found = append(found, t.at(f, f.AST.Package, "package %s has no comment", f.AST.Name.Name))
			documented[f.Dir] = true // once is enough
		}
		if under(f.Dir, "pkg") || under(f.Dir, "internal") {
			for _, id := range undocumented(f.AST) {
				found = append(found, t.at(f, id.Pos(), "%s is exported and has no comment", id.Name))
			}
		}
	}
	return found
}

func undocumented(file *ast.File) []*ast.Ident {
	var bare []*ast.Ident
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Doc == nil && d.Name.IsExported() && receiverExported(d) {
				bare = append(bare, d.Name)
			}
		case *ast.GenDecl:
			if d.Doc != nil && d.Tok != token.TYPE {
				continue
			}
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					if d.Doc == nil && s.Doc == nil && s.Name.IsExported() {
						bare = append(bare, s.Name)
					}
				case *ast.ValueSpec:
					if s.Doc == nil && s.Comment == nil {
						bare = append(bare, slices.DeleteFunc(slices.Clone(s.Names), func(id *ast.Ident) bool { return !id.IsExported() })...)
					}
				}
			}
		}
	}
	return bare
}

func receiverExported(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	recv := d.Recv.List[0].Type
	for {
		switch r := recv.(type) {
		case *ast.StarExpr:
			recv = r.X
		case *ast.IndexExpr:
			recv = r.X
		case *ast.IndexListExpr:
			recv = r.X
		case *ast.Ident:
			return r.IsExported()
		default:
			return false
		}
	}
}

// forbidden is what stays out of every tracked text. The patterns are written so
// that they do not match themselves.
var forbidden = []struct {
	pattern *regexp.Regexp
	why     string
}{
	{regexp.MustCompile(`(?:^|[^\w.)/-])/(?:home/\w|Users/\w|root/\w|work/\w)`), "a path of somebody's machine"},
	{regexp.MustCompile(`\b(?:T[O]DO|FI[X]ME|X[X]X|HA[C]K)\b`), "left for later: do it, or write it into the changelog's open points"},
	{regexp.MustCompile(`(?i)not (?:yet )?implemente[d]|panic\("unimplemente[d]`), "a stub"},
	{regexp.MustCompile(`^(?:<{7}|>{7}) `), "a merge conflict"},
}

// unread are files that people do not write.
var unread = []string{"go.sum", ".ndjson", ".png", ".gz"}

// CheckWords finds forbidden words and paths in one text file.
func CheckWords(name string, text []byte) []Finding {
	if slices.ContainsFunc(unread, func(end string) bool { return strings.HasSuffix(path.Base(name), end) }) {
		return nil
	}
	var found []Finding
	line := 0
	for l := range bytes.Lines(text) {
		line++
		for _, w := range forbidden {
			if m := w.pattern.Find(l); m != nil {
				found = append(found, Finding{Path: name, Line: line, Text: fmt.Sprintf("%q: %s", bytes.TrimSpace(m), w.why)})
			}
		}
	}
	return found
}
