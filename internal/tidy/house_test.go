package tidy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	makeTarget  = regexp.MustCompile(`^([a-z][a-z-]*):([^=]|$)`)
	natsService = regexp.MustCompile(`^  (nats-\d):$`)
	otherwise   = regexp.MustCompile(`^  [a-z-]+:`)
	record      = regexp.MustCompile(`^\d{4}-[a-z0-9-]+\.md$`)
)

// undocumentedTargets are the targets that `make help` would not show.
func undocumentedTargets(makefile string) (bare []string) {
	for line := range strings.Lines(makefile) {
		if m := makeTarget.FindStringSubmatch(line); m != nil && !strings.Contains(line, "## ") {
			bare = append(bare, m[1])
		}
	}
	return bare
}

// selfRoutes are the NATS nodes that have a route to themselves.
func selfRoutes(compose string) (nodes []string) {
	node := ""
	for line := range strings.Lines(compose) {
		line = strings.TrimRight(line, "\n")
		if m := natsService.FindStringSubmatch(line); m != nil {
			node = m[1]
		} else if otherwise.MatchString(line) {
			node = ""
		}
		if node != "" && strings.Contains(line, "--routes") && strings.Contains(line, "//"+node+":") {
			nodes = append(nodes, node)
		}
	}
	return nodes
}

// openPorts are published ports that are not bound to loopback.
func openPorts(compose string) (open []string) {
	port := regexp.MustCompile(`"([^"]*:\d+)"`)
	inPorts := false
	for line := range strings.Lines(compose) {
		trimmed := strings.TrimSpace(line)
		inPorts = strings.HasPrefix(trimmed, "ports:") || inPorts && strings.HasPrefix(trimmed, "- ")
		if !inPorts {
			continue
		}
		for _, m := range port.FindAllStringSubmatch(line, -1) {
			if !strings.HasPrefix(m[1], "127.0.0.1:") {
				open = append(open, m[1])
			}
		}
	}
	return open
}

func TestMakeTargetsExplainThemselves(t *testing.T) {
	if bare := undocumentedTargets(read(t, "Makefile")); bare != nil {
		t.Errorf("targets without a `## text`: %v", bare)
	}
	if bare := undocumentedTargets("X := a\nsaid: dep ## Text\nbare: dep\n\tcmd: x\n"); len(bare) != 1 || bare[0] != "bare" {
		t.Errorf("planted fault: found %v, want bare", bare)
	}
}

func TestCompose(t *testing.T) {
	compose := read(t, "docker-compose.yml")
	if n := strings.Count(compose, `"--routes"`); n != 3 {
		t.Errorf("%d nodes have routes, want 3", n)
	}
	if nodes := selfRoutes(compose); nodes != nil {
		t.Errorf("nodes with a route to themselves: %v", nodes)
	}
	if open := openPorts(compose); open != nil {
		t.Errorf("published beyond loopback: %v", open)
	}

	planted := strings.Replace(compose, "nats://nats-3:6222", "nats://nats-1:6222", 1)
	if nodes := selfRoutes(planted); len(nodes) != 1 || nodes[0] != "nats-1" {
		t.Errorf("planted self-route: found %v, want nats-1", nodes)
	}
	if open := openPorts(strings.ReplaceAll(compose, `127.0.0.1:`, "")); len(open) != 3 {
		t.Errorf("planted open ports: found %v, want 3", open)
	}
}

// TestADRIndex keeps docs/adr/README.md complete: a line a record, with its title.
func TestADRIndex(t *testing.T) {
	index := read(t, "docs/adr/README.md")
	entries, err := os.ReadDir(filepath.Join(root, "docs/adr"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "README.md" {
			continue
		}
		if !record.MatchString(e.Name()) {
			t.Errorf("docs/adr/%s: a record is called NNNN-some-words.md", e.Name())
			continue
		}
		text := read(t, "docs/adr/"+e.Name())
		first, _, _ := strings.Cut(text, "\n")
		title, ok := strings.CutPrefix(first, "# "+e.Name()[:4]+": ")
		if !ok {
			t.Errorf("docs/adr/%s: its first line is %q, want \"# %s: title\"", e.Name(), first, e.Name()[:4])
		}
		if line := "[" + e.Name()[:4] + "](" + e.Name() + ")"; !strings.Contains(index, line+" | "+title+" |") {
			t.Errorf("docs/adr/README.md has no line | %s | %s |", line, title)
		}
		for _, part := range []string{"## Context", "## Decision", "## Consequences"} {
			if !strings.Contains(text, "\n"+part+"\n") {
				t.Errorf("docs/adr/%s has no part %q", e.Name(), part)
			}
		}
	}
}
