package readme

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// session runs the commands of one page, in order, against one system.
type session struct {
	t      *testing.T
	page   *page
	dir    string
	env    []string
	banner string // what `hierarchy dev` has said
	url    string
	http   string
	status int               // of the last command
	built  map[string]string // Go programs of the page, by folder
}

// start starts a system as `hierarchy dev` does, on free ports.
func start(t *testing.T, p *page) *session {
	t.Helper()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("there is no shell here, so the commands of the pages were NOT run")
	}
	s := &session{t: t, page: p, dir: t.TempDir(), built: map[string]string{}}
	s.env = append(os.Environ(), "PATH="+programs+string(os.PathListSeparator)+os.Getenv("PATH"), "HOME="+s.dir, "TZ=UTC")
	url := filepath.Join(s.dir, ".url")
	d := s.background("hierarchy", "dev", "--port", "0", "--http", "127.0.0.1:0", "--url-file", url)
	s.url = strings.TrimSpace(d.await(url))
	s.env = append(s.env, "NATS_URL="+s.url)
	s.banner = d.said()
	m := regexp.MustCompile(`(?m)^  HTTP +http://(\S+)$`).FindStringSubmatch(s.banner)
	if m == nil {
		t.Fatalf("the banner names no HTTP address:\n%s", s.banner)
	}
	s.http = m[1]
	s.env = append(s.env, envHTTP+"="+s.http)
	return s
}

// daemon is a program in the background.
type daemon struct {
	s    *session
	cmd  *exec.Cmd
	out  string // file
	done chan struct{}
}

// background starts a program that ends with the test at the latest: one of ours,
// or one with a path.
func (s *session) background(name string, args ...string) *daemon {
	s.t.Helper()
	f, err := os.CreateTemp(s.dir, ".out")
	if err != nil {
		s.t.Fatal(err)
	}
	d := &daemon{s: s, out: f.Name(), done: make(chan struct{})}
	if !filepath.IsAbs(name) {
		name = filepath.Join(programs, name)
	}
	d.cmd = exec.Command(name, args...)
	d.cmd.Dir, d.cmd.Env, d.cmd.Stdout, d.cmd.Stderr = s.dir, s.env, f, f
	if err := d.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = d.cmd.Wait() // how it ends is of no interest here
		close(d.done)
		_ = f.Close()
	}()
	s.t.Cleanup(d.stop)
	return d
}

func (d *daemon) said() string {
	data, err := os.ReadFile(d.out)
	if err != nil {
		d.s.t.Fatal(err)
	}
	return string(data)
}

func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(20*time.Second, func() { _ = d.cmd.Process.Kill() })
	<-d.done
	late.Stop()
}

// await waits for a file that the program writes, and returns what is in it.
func (d *daemon) await(name string) string {
	d.s.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	patience := time.After(60 * time.Second)
	for {
		if data, err := os.ReadFile(name); err == nil {
			return string(data)
		}
		select {
		case <-tick.C:
		case <-d.done:
			d.s.t.Fatalf("it ended instead of writing %s:\n%s", name, d.said())
		case <-patience:
			d.s.t.Fatalf("no %s after a minute:\n%s", name, d.said())
		}
	}
}

// run runs every command of the page.
func (s *session) run() {
	s.t.Helper()
	for i := range s.page.blocks {
		switch b := &s.page.blocks[i]; b.info {
		case "sh":
			s.script(b)
		case "console":
			s.console(b)
		}
		if s.t.Failed() {
			return // what follows would only repeat it
		}
	}
}

// shell runs a script and returns what it printed.
func (s *session) shell(script string) string {
	cmd := exec.CommandContext(s.t.Context(), "sh", "-c", fmt.Sprintf("(exit %d)\n%s", s.status, script))
	cmd.Dir, cmd.Env = s.dir, s.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	s.status = cmd.ProcessState.ExitCode()
	return out.String()
}

// script runs a block without outputs; every command in it must succeed. Lines
// that belong elsewhere are checked and left out.
func (s *session) script(b *block) {
	s.t.Helper()
	here := ""
	for line := range strings.Lines(b.text) {
		if !s.elsewhere(strings.TrimSpace(line)) {
			here += line
		}
	}
	s.status = 0
	if out := s.shell("set -e\n" + here); s.status != 0 {
		s.t.Errorf("%s:%d: exit code %d of\n%s\n%s", s.page.name, b.line, s.status, here, out)
	}
}

// console runs a block of commands, each with what it prints. A command may
// fail only if the next one asks for its exit code.
func (s *session) console(b *block) {
	s.t.Helper()
	type shown struct{ command, output string }
	var all []shown
	for line := range strings.Lines(b.text) {
		if c, ok := strings.CutPrefix(line, "$ "); ok {
			all = append(all, shown{command: strings.TrimSpace(c)})
			continue
		}
		if len(all) == 0 {
			s.t.Fatalf("%s:%d: the block begins with an output", s.page.name, b.line)
		}
		all[len(all)-1].output += line
	}
	for i, c := range all {
		got := ""
		loose := false
		switch {
		case c.command == "hierarchy dev":
			got = s.banner
		case strings.HasPrefix(c.command, "make "):
			s.elsewhere(c.command)
			loose = true
			got = s.shell("hierarchy demo --duration 1s") // the only one with an output
		default:
			out, handled := s.goCommand(c.command)
			if got = out; !handled {
				got = s.shell(c.command)
			}
		}
		asked := i+1 < len(all) && strings.HasPrefix(all[i+1].command, "echo $?")
		if s.status != 0 && !asked {
			s.t.Errorf("%s:%d: exit code %d of %s\n%s", s.page.name, b.line, s.status, c.command, got)
			return
		}
		if why := differ(c.output, got, loose); why != "" {
			s.t.Errorf("%s:%d: %s\n%s\nit printed:\n%s", s.page.name, b.line, c.command, why, got)
			return
		}
	}
}

// elsewhere reports whether a command is not for this session, and checks what
// can be checked about it.
func (s *session) elsewhere(line string) bool {
	s.t.Helper()
	words := strings.Fields(line)
	if len(words) == 0 {
		return false
	}
	switch {
	case words[0] == "make":
		s.checkMake(words[1])
		s.checkScale(line)
	case words[0] == "go" && words[1] == "build":
		if _, err := os.Stat(filepath.Join(root, words[len(words)-1], "main.go")); err != nil {
			s.t.Errorf("%s: %s: %v", s.page.name, line, err)
		}
	case words[0] == "go":
		_, handled := s.goCommand(line)
		return handled
	case words[0] == "nats" && words[len(words)-1] == "&":
		s.inBackground(words[:len(words)-1])
	case line == `export PATH="$PWD/bin:$PATH"`:
	case line == "hierarchy dev":
	case strings.HasPrefix(line, "hierarchy dev "):
		s.dev(words[2:])
	default:
		return false
	}
	return true
}

// checkMake looks a target up. That `make demo` runs the program's demo is what
// lets this test run it without make.
func (s *session) checkMake(target string) {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		s.t.Fatal(err)
	}
	_, recipe, ok := strings.Cut(string(data), "\n"+target+":")
	if !ok {
		s.t.Errorf("%s: the Makefile has no target %s", s.page.name, target)
		return
	}
	if target == "demo" && !strings.HasPrefix(recipe[strings.Index(recipe, "\n")+1:], "\tgo run ./cmd/hierarchy demo\n") {
		s.t.Errorf("make demo is something else than hierarchy demo")
	}
}

var scale = regexp.MustCompile(`--scale (\w+)=\d+`)

// checkScale looks the services up that a line scales.
func (s *session) checkScale(line string) {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(root, "docker-compose.yml"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, m := range scale.FindAllStringSubmatch(line, -1) {
		if !strings.Contains(string(data), "\n  "+m[1]+":\n") {
			s.t.Errorf("%s: there is no service %s to scale", s.page.name, m[1])
		}
	}
}

// dev starts another system in the background, until it has written the file
// that its command line names.
func (s *session) dev(args []string) {
	s.t.Helper()
	for i, a := range args {
		args[i] = strings.Trim(a, `'"`)
	}
	file := slices.Index(args, "--url-file") + 1
	if file == 0 {
		s.t.Fatalf("%s: this test cannot wait for hierarchy dev without --url-file", s.page.name)
	}
	d := s.background("hierarchy", append([]string{"dev"}, args...)...)
	d.await(filepath.Join(s.dir, args[file]))
	d.stop()
}

// inBackground starts the stand-in for a program.
func (s *session) inBackground(words []string) {
	s.t.Helper()
	name, err := exec.LookPath(words[0])
	if err != nil {
		s.t.Fatal(err)
	}
	if name, err = filepath.Abs(name); err != nil {
		s.t.Fatal(err)
	}
	s.background(name, words[1:]...)
}

// masks hide what differs from run to run.
var masks = []struct {
	pattern *regexp.Regexp
	mask    string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?( UTC|Z)?`), "<instant>"},
	{regexp.MustCompile(`\d\d:\d\d:\d\d\.\d{3}`), "<clock>"},
	{regexp.MustCompile(`\b\d+(\.\d+)? ?(µs|ms|s)\b`), "<duration>"},
	{regexp.MustCompile(`\b\d+/s\b`), "<rate>"},
	{regexp.MustCompile(`\bd\d+-\d+-\d+\b`), "<decision>"},
	{regexp.MustCompile(`\bstep \d+ of\b`), "step <n> of"},
	{regexp.MustCompile(`\bjournal entry \d+`), "journal entry <n>"},
	{regexp.MustCompile(`\bjournal \d+ to \d+: \d+ steps`), "journal <n> to <n>: <n> steps"},
	{regexp.MustCompile(`\b127\.0\.0\.1:\d+`), "<address>"},
	{regexp.MustCompile(`\bgo1\.[\w.-]+`), "<go>"},
	{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "<uuid>"},
}

var (
	blanks  = regexp.MustCompile(`[ \t]+`)
	numbers = regexp.MustCompile(`\d+(\.\d+)?`)
)

// stable returns a line as it is in every run; loose hides all numbers.
func stable(line string, loose bool) string {
	for _, m := range masks {
		line = m.pattern.ReplaceAllString(line, m.mask)
	}
	if loose {
		line = numbers.ReplaceAllString(line, "<n>")
	}
	return strings.TrimRight(blanks.ReplaceAllString(line, " "), " ")
}

// differ says where an output is not the one shown, or "". A line of three dots
// stands for any lines.
func differ(shown, got string, loose bool) string {
	want, have := strings.Split(strings.TrimRight(shown, "\n"), "\n"), strings.Split(strings.TrimRight(got, "\n"), "\n")
	skip := false
	for _, w := range want {
		if w == "..." {
			skip = true
			continue
		}
		at := slices.IndexFunc(have, func(h string) bool { return stable(h, loose) == stable(w, loose) })
		if at < 0 || at > 0 && !skip {
			return fmt.Sprintf("the page shows %q here", w)
		}
		have, skip = have[at+1:], false
	}
	if len(have) > 0 && !skip {
		return fmt.Sprintf("the page does not show %q", have[0])
	}
	return ""
}

// TestDiffer breaks what the comparison is for.
func TestDiffer(t *testing.T) {
	for _, c := range []struct {
		shown, got string
		same       bool
	}{
		{"a\nb\n", "a\nb\n", true},
		{"a  1.5 s\n", "a 77 ms\n", true},
		{"a\n", "b\n", false},
		{"a\n", "a\nb\n", false},
		{"a\nb\n", "a\n", false},
		{"a\n...\nc\n", "a\nb\nb\nc\n", true},
		{"a\n...\n", "a\nb\n", true},
		{"...\nb\n", "a\nb\n", true},
		{"a\n...\nc\n", "a\nc\nd\n", false},
		{"revision 3\n", "revision 4\n", false},
		{"a\nc\n", "a\nb\nc\n", false},
	} {
		if why := differ(c.shown, c.got, false); (why == "") != c.same {
			t.Errorf("shown %q, got %q: %q", c.shown, c.got, why)
		}
	}
}
