package readme

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// page is one Markdown file.
type page struct {
	name   string
	text   string
	blocks []block
}

// block is one fenced piece of a page.
type block struct {
	line int    // of its first line of text, from 1
	info string // what stands behind the fence: "sh", "console", "json work"
	text string
}

func read(t *testing.T, name string) *page {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	p := &page{name: name, text: string(data)}
	var open *block
	for i, line := range strings.Split(p.text, "\n") {
		info, fence := strings.CutPrefix(strings.TrimLeft(line, " "), "```")
		switch {
		case fence && open == nil:
			open = &block{line: i + 2, info: info}
		case fence:
			p.blocks = append(p.blocks, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	if open != nil {
		t.Fatalf("%s:%d: the block has no end", name, open.line)
	}
	return p
}

// table returns the rows of the first table below a heading, without the marks
// of code around a cell.
func (p *page) table(t *testing.T, heading string) [][]string {
	t.Helper()
	_, rest, ok := strings.Cut(p.text, "\n"+heading+"\n")
	if !ok {
		t.Fatalf("%s has no heading %q", p.name, heading)
	}
	return p.rows(t, heading, rest)
}

// tableAt returns the rows of the table whose header is this line.
func (p *page) tableAt(t *testing.T, header string) [][]string {
	t.Helper()
	_, rest, ok := strings.Cut(p.text, "\n"+header+"\n")
	if !ok {
		t.Fatalf("%s has no table %q", p.name, header)
	}
	return p.rows(t, header, header+"\n"+rest)
}

// rows returns those of the first table of a text.
func (p *page) rows(t *testing.T, where, rest string) [][]string {
	t.Helper()
	var rows [][]string
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			if len(rows) > 0 || strings.HasPrefix(line, "#") {
				break
			}
			continue
		}
		var cells []string
		for c := range strings.SplitSeq(strings.Trim(line, "|"), " | ") {
			cells = append(cells, code(strings.TrimSpace(c)))
		}
		rows = append(rows, cells)
	}
	if len(rows) < 3 {
		t.Fatalf("%s: there is no table below %q", p.name, where)
	}
	return rows[2:]
}

// code takes the marks off a cell that is code and nothing else.
func code(cell string) string {
	if len(cell) > 2 && strings.Count(cell, "`") == 2 && cell[0] == '`' && cell[len(cell)-1] == '`' {
		return cell[1 : len(cell)-1]
	}
	return cell
}

// column returns one cell of each row.
func column(rows [][]string, n int) []string {
	var c []string
	for _, r := range rows {
		c = append(c, r[n])
	}
	return c
}

var (
	link    = regexp.MustCompile(`\]\(([^)#:]*)(#[^)]*)?\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped = regexp.MustCompile("[^a-z0-9 _-]")
)

// prose is the page without its blocks.
func (p *page) prose() string {
	var text strings.Builder
	inside := false
	for line := range strings.Lines(p.text) {
		if strings.HasPrefix(strings.TrimLeft(line, " "), "```") {
			inside = !inside
		} else if !inside {
			text.WriteString(line)
		}
	}
	return text.String()
}

// anchors are what links into the page may name.
func (p *page) anchors() map[string]bool {
	all := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(p.prose(), -1) {
		all["#"+strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return all
}

// TestLinks follows every link into the repository.
func TestLinks(t *testing.T) {
	for _, name := range []string{"README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/protocol.md", "docs/operations.md", "docs/reliability.md", "docs/adr/README.md"} {
		p := read(t, name)
		for _, m := range link.FindAllStringSubmatch(p.prose(), -1) {
			to := p
			if m[1] != "" {
				file := filepath.Join(filepath.Dir(name), m[1])
				if _, err := os.Stat(filepath.Join(root, file)); err != nil {
					t.Errorf("%s links to %s: %v", name, m[1], err)
					continue
				}
				if m[2] == "" {
					continue
				}
				to = read(t, file)
			}
			if !to.anchors()[m[2]] {
				t.Errorf("%s links to %s%s: there is no such heading", name, m[1], m[2])
			}
		}
	}
}
