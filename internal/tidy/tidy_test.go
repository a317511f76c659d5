package tidy

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.." // of the repository

func repository(t *testing.T) *Tree {
	t.Helper()
	tree, err := Load(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func report(t *testing.T, found []Finding) {
	t.Helper()
	for _, f := range found {
		t.Error(f)
	}
}

func TestLayers(t *testing.T) {
	report(t, CheckLayers(repository(t), Layers, Reservations))
}

func TestPure(t *testing.T) {
	tree := repository(t)
	packages := tree.Packages()
	var dirs, paths []string
	for _, dir := range Pure {
		if len(packages[dir]) == 0 {
			t.Errorf("%s is in the list of pure packages and has no code", dir)
			continue
		}
		dirs, paths = append(dirs, dir), append(paths, Module+"/"+dir)
	}
	imp, err := Importer(tree.Fset, root, paths...)
	if err != nil {
		t.Fatal(err)
	}
	found, err := CheckPure(tree, dirs, Impure, imp)
	if err != nil {
		t.Fatal(err)
	}
	report(t, found)
}

func TestFileLength(t *testing.T) {
	report(t, CheckLength(repository(t), MaxLines))
}

func TestDocs(t *testing.T) {
	report(t, CheckDocs(repository(t)))
}

func TestWords(t *testing.T) {
	for _, name := range tracked(t) {
		text, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) { // deleted, and not yet committed
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		report(t, CheckWords(filepath.ToSlash(name), text))
	}
}

// tracked lists the files of the repository: those git knows or, in a source
// archive, all of them.
func tracked(t *testing.T) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached")
	cmd.Dir = root
	if out, err := cmd.Output(); err == nil {
		return strings.FieldsFunc(string(bytes.TrimSpace(out)), func(r rune) bool { return r == 0 })
	}
	var names []string
	err := fs.WalkDir(os.DirFS(root), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (p == "dist" || p == ".git") {
			return fs.SkipDir
		}
		if err == nil && d.Type().IsRegular() {
			names = append(names, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
