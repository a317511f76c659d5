// Package examples holds small programs for users. Each folder is one: a main.go
// that ends by itself with exit code 0, or a test that shows how to test. What is in
// another language has a main.go that runs it.
//
// The first comment of a main.go ends with what the program prints, after a line
// "Output:", indented by a tab. A … in it stands for what differs from run to run.
package examples

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// patience is how long an example may take. They take a second or two.
const patience = time.Minute

func TestExamples(t *testing.T) {
	programs := folders(t, ".")
	bin := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "go", append([]string{"build", "-o", bin + string(filepath.Separator)}, programs...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, dir := range programs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			want, err := expected(filepath.Join(dir, "main.go"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := run(t.Context(), dir, filepath.Join(bin, filepath.Base(dir)))
			if err != nil {
				t.Fatalf("%v\n%s", err, got)
			}
			if !pattern(want).MatchString(got) {
				t.Errorf("it prints\n%s\nand its comment says\n%s", got, want)
			}
		})
	}
}

// folders returns the examples that are programs, as arguments of go build. Every
// folder must be something that runs.
func folders(t *testing.T, root string) (programs []string) {
	t.Helper()
	programs, dead, err := find(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dead {
		t.Errorf("examples/%s has neither a main.go nor a test, so nobody runs it", dir)
	}
	if len(programs) == 0 {
		t.Fatal("there are no examples")
	}
	for i, dir := range programs {
		programs[i] = "." + string(filepath.Separator) + dir
	}
	return programs
}

// find sorts the folders of a tree into programs and those that nothing runs.
func find(tree fs.FS) (programs, dead []string, err error) {
	entries, err := fs.ReadDir(tree, ".")
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if !e.IsDir() || e.Name() == "testdata" {
			continue
		}
		tests, err := fs.Glob(tree, e.Name()+"/*_test.go")
		if err != nil {
			return nil, nil, err
		}
		_, err = fs.Stat(tree, e.Name()+"/main.go")
		switch {
		case err == nil:
			programs = append(programs, e.Name())
		case len(tests) == 0:
			dead = append(dead, e.Name())
		}
	}
	return programs, dead, nil
}

// run runs a program in its folder and returns what it prints. What it says on
// stderr is for the error.
func run(ctx context.Context, dir, program string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("it did not end by itself within %s", patience))
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return stdout.String(), errors.Join(err, context.Cause(ctx), errors.New(stderr.String()))
	}
	return stdout.String(), nil
}

// expected is what the comment of a program says that it prints.
func expected(file string) (string, error) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly|parser.ParseComments)
	if err != nil {
		return "", err
	}
	_, text, found := strings.Cut(f.Doc.Text(), "\nOutput:\n")
	if !found {
		return "", fmt.Errorf("the comment of %s does not say what it prints, after a line Output:", file)
	}
	return text, nil
}

// pattern matches what is expected. A … stands for anything within its line.
func pattern(text string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`^`)
	for line := range strings.Lines(strings.TrimSpace(text)) {
		line = strings.TrimPrefix(strings.TrimRight(line, " \n"), "\t")
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*") + `\n`)
	}
	b.WriteString(`$`)
	return regexp.MustCompile(b.String())
}
