package readme

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
	"github.com/hierarchy-bus/hierarchy/internal/natsd"
)

// TestOperations runs every command of the page for operators.
func TestOperations(t *testing.T) {
	start(t, read(t, "docs/operations.md")).run()
}

// TestMetrics looks every metric up that a page names.
func TestMetrics(t *testing.T) {
	p := read(t, "docs/operations.md")
	known := map[string]bool{}
	for _, m := range metrics.Table() {
		known[m.Name] = true
	}
	found := regexp.MustCompile(`\bops_[a-z_]+[a-z]\b`).FindAllString(p.text, -1)
	if len(found) < 15 {
		t.Errorf("only %d metrics were found", len(found))
	}
	for _, name := range found {
		if !known[name] && name != "ops_resolver" { // of ops_resolver_*
			t.Errorf("there is no metric %s", name)
		}
	}
}

// TestCommands compares the table of commands with what the program says of
// itself.
func TestCommands(t *testing.T) {
	out, err := exec.Command(filepath.Join(programs, "hierarchy"), "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(out), "\nCommands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	var there []string
	for line := range strings.Lines(list) {
		if name := strings.Fields(line)[0]; name != "completion" && name != "help" { // the library's
			there = append(there, name)
		}
	}
	same(t, "commands", column(read(t, "docs/operations.md").table(t, "## Commands"), 0), there)
}

// TestSetupFlags compares the table of flags and defaults with the program.
func TestSetupFlags(t *testing.T) {
	out, err := exec.Command(filepath.Join(programs, "hierarchy"), "setup", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	own, _, _ := strings.Cut(string(out), "Flags of every command:")
	l := bus.DefaultLayout()
	var there, listed []string
	for _, m := range regexp.MustCompile(`(?m)^ +(--[a-z-]+) .*\(default (\S+)\)$`).FindAllStringSubmatch(own, -1) {
		there = append(there, m[1]+" "+m[2])
	}
	for _, r := range read(t, "docs/operations.md").table(t, "## Setting up") {
		listed = append(listed, r[0]+" "+r[1])
	}
	same(t, "flags of setup", listed, there)
	if !slices.Contains(listed, "--events-max-age "+l.EventsMaxAge.String()) {
		t.Errorf("the default layout keeps events for %s", l.EventsMaxAge)
	}
}

// TestServerVersion compares the version that is named with the one in go.mod.
func TestServerVersion(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`nats-io/nats-server/v2 v(\S+)`).FindSubmatch(mod)
	if m == nil || !strings.Contains(read(t, "docs/operations.md").text, "tested with "+string(m[1])) {
		t.Errorf("go.mod has nats-server %s", m)
	}
}

// TestStreams compares the table of what grows with the streams that setup makes.
func TestStreams(t *testing.T) {
	var listed, there []string
	for _, r := range read(t, "docs/operations.md").table(t, "## Growth") {
		listed = append(listed, regexp.MustCompile(`OPS_[A-Z]+`).FindAllString(r[0], -1)...)
	}
	server, err := natsd.Start(natsd.Options{StoreDir: t.TempDir(), Port: natsd.NoListener})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	changes, err := bus.Diff(t.Context(), nc, bus.DefaultLayout())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if !strings.Contains(c.Object, ">") {
			there = append(there, strings.TrimPrefix(strings.TrimPrefix(c.Object, "KV_"), "OBJ_"))
		}
	}
	same(t, "streams", listed, there)
}

var braces = regexp.MustCompile(`(\S*)\{([^}]*)\}`)

// TestHouse compares the map of the house with the folders there are.
func TestHouse(t *testing.T) {
	_, text, _ := strings.Cut(read(t, "ARCHITECTURE.md").text, "\n## The house\n")
	text, _, _ = strings.Cut(text, "\nArrows point down")
	text = braces.ReplaceAllStringFunc(text, func(s string) string {
		m := braces.FindStringSubmatch(s)
		return m[1] + strings.ReplaceAll(m[2], ",", " "+m[1])
	})
	listed := regexp.MustCompile(`\b(?:cmd|pkg|internal)/[a-z]+`).FindAllString(text, -1)
	var there []string
	for _, top := range []string{"cmd", "pkg", "internal"} {
		entries, err := os.ReadDir(filepath.Join(root, top))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				there = append(there, top+"/"+e.Name())
			}
		}
	}
	same(t, "packages", listed, there)
}
