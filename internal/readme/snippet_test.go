package readme

import (
	"encoding/json"
	"errors"
	"go/format"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// snippets is where the Go files of a page would lie if somebody had saved them.
// Nothing is ever written there: the go command is shown them by an overlay, so
// that they belong to this module and their imports are those of this tree.
const snippets = "internal/readme/testdata"

// defaultURL is the address that pages have in Go files; the system of the test
// listens elsewhere.
const defaultURL = "nats://127.0.0.1:4222"

var fileName = regexp.MustCompile(`^// ([a-z]+/[a-z_]+\.go)\n`)

// goFiles returns the Go files of a page by name. A Go block without a name could
// not be run, so there must be none.
func (p *page) goFiles(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for i := range p.blocks {
		b := &p.blocks[i]
		if b.info != "go" {
			continue
		}
		m := fileName.FindStringSubmatch(b.text)
		if m == nil {
			t.Errorf("%s:%d: the first line of a Go block is its file, such as // greeter/main.go", p.name, b.line)
			continue
		}
		files[m[1]] = strings.TrimPrefix(b.text, m[0])
	}
	return files
}

// overlay has the go command see the Go files of the page, with the address of the
// session's system in them.
func (s *session) overlay() string {
	s.t.Helper()
	base, err := filepath.Abs(filepath.Join(root, snippets))
	if err != nil {
		s.t.Fatal(err)
	}
	replace := map[string]string{}
	for name, text := range s.page.goFiles(s.t) {
		file := filepath.Join(s.t.TempDir(), path.Base(name))
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, defaultURL, s.url)), 0o600); err != nil {
			s.t.Fatal(err)
		}
		replace[filepath.Join(base, name)] = file
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		s.t.Fatal(err)
	}
	file := filepath.Join(s.t.TempDir(), "overlay.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// goTool runs the go command on a folder of the page, such as ./greeter.
func (s *session) goTool(args []string, folder string) (string, error) {
	s.t.Helper()
	args = slices.Insert(slices.Clone(args), 1, "-overlay", s.overlay())
	cmd := exec.CommandContext(s.t.Context(), "go", append(args, "./"+path.Join(snippets, folder))...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// program builds the program in a folder of the page, once.
func (s *session) program(folder string) string {
	s.t.Helper()
	if s.built[folder] == "" {
		file := filepath.Join(s.t.TempDir(), path.Base(folder))
		if out, err := s.goTool([]string{"build", "-o", file}, folder); err != nil {
			s.t.Fatalf("%s: go build %s: %v\n%s", s.page.name, folder, err, out)
		}
		s.built[folder] = file
	}
	return s.built[folder]
}

// goCommand runs what a page has its readers do with its Go files, and reports
// whether it was that.
func (s *session) goCommand(line string) (out string, handled bool) {
	s.t.Helper()
	words := strings.Fields(line)
	background := len(words) == 4 && words[3] == "&"
	if len(words) < 3 || words[0] != "go" || !background && len(words) != 3 {
		return "", false
	}
	switch {
	case words[1] == "run" && background:
		s.background(s.program(words[2]))
	case words[1] == "run":
		cmd := exec.CommandContext(s.t.Context(), s.program(words[2]))
		cmd.Dir, cmd.Env = s.dir, s.env
		data, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			s.t.Fatal(err)
		}
		s.status = cmd.ProcessState.ExitCode()
		return string(data), true
	case words[1] == "test" && !background:
		s.goTest(words[2])
	default:
		return "", false
	}
	return "", true
}

// goTest runs the tests in a folder of the page. The folder is none, so the go
// command can neither vet it nor run anything there.
func (s *session) goTest(folder string) {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), path.Base(folder)+".test")
	out, err := s.goTool([]string{"test", "-c", "-vet=off", "-o", file}, folder)
	if err == nil {
		cmd := exec.CommandContext(s.t.Context(), file, "-test.v")
		cmd.Dir = s.dir
		var data []byte
		data, err = cmd.CombinedOutput()
		out = string(data)
	}
	if err != nil || !strings.Contains(out, "--- PASS: ") {
		s.t.Errorf("%s: go test %s: %v\n%s", s.page.name, folder, err, out)
	}
}

// TestSnippets wants the Go files of the pages as gofmt has them.
func TestSnippets(t *testing.T) {
	n := 0
	for _, name := range []string{"README.md", "docs/operations.md", "docs/protocol.md"} {
		for file, text := range read(t, name).goFiles(t) {
			n++
			if got, err := format.Source([]byte(text)); err != nil || string(got) != text {
				t.Errorf("%s: %s is not as gofmt has it: %v", name, file, err)
			}
		}
	}
	if n < 3 {
		t.Errorf("only %d Go files were found", n)
	}
}

// TestExampleList compares the list of examples with the folders.
func TestExampleList(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join(root, "examples"))
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	for _, e := range entries {
		if e.IsDir() {
			there = append(there, e.Name())
		}
	}
	same(t, "examples", column(read(t, "README.md").table(t, "### Examples"), 0), there)
}
