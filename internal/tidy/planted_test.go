package tidy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// Each rule is tried on sources with planted faults. A line that a rule must
// find ends in a comment `// want`; the rule has to find exactly those lines.

func plant(t *testing.T, files map[string]string) *Tree {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	tree, err := Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func wantFound(t *testing.T, files map[string]string, found []Finding) {
	t.Helper()
	var want, got []string
	for name, text := range files {
		for i, line := range strings.Split(text, "\n") {
			if strings.HasSuffix(line, "// want") {
				want = append(want, fmt.Sprintf("%s:%d", name, i+1))
			}
		}
	}
	for _, f := range found {
		got = append(got, fmt.Sprintf("%s:%d", f.Path, f.Line))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
		t.Errorf("lines found (-want +got):\n%s\n%v", diff, found)
	}
}

func TestLayersFindsPlantedFaults(t *testing.T) {
	files := map[string]string{
		"pkg/op/a.go": `package op
import _ "github.com/hierarchy-bus/hierarchy/internal/bus" // want
import _ "strings"
`,
		"internal/bus/a.go": `package bus
import _ "github.com/hierarchy-bus/hierarchy/pkg/op"
import _ "github.com/hierarchy-bus/hierarchy/internal/metrics" // want
import _ "github.com/nats-io/nats.go/jetstream"
`,
		"internal/resolver/a.go": `package resolver
import _ "github.com/nats-io/nats.go/jetstream" // want
import _ "github.com/nats-io/nats.go"
import _ "github.com/nats-io/nats.go/micro"
import _ "github.com/nats-io/nats-server/v2/server" // want
import _ "github.com/hierarchy-bus/hierarchy/internal/executor" // want
import _ "github.com/hierarchy-bus/hierarchy/internal/natstest" // want
import _ "testing" // want
`,
		"internal/resolver/a_test.go": `package resolver
import _ "github.com/hierarchy-bus/hierarchy/internal/natstest"
import _ "testing"
`,
		"cmd/hierarchy/main.go": `package main
import _ "github.com/hierarchy-bus/hierarchy/cmd/hierarchy/page"
import _ "github.com/hierarchy-bus/hierarchy/internal/resolver"
import _ "github.com/spf13/cobra"
import _ "github.com/hierarchy-bus/hierarchy/internal/unheard"
`,
		"cmd/hierarchy/page/a.go": "package page\n",
		// Without a place it has no floor that an import of it could point up to: it is
		// found where it stands.
		"internal/unheard/a.go": "package unheard // want",
		"internal/entity/a.go":  "package util // want",
	}
	wantFound(t, files, CheckLayers(plant(t, files), Layers, Reservations))
}

func TestPureFindsPlantedFaults(t *testing.T) {
	files := map[string]string{
		"p/a.go": `package p

import (
	"encoding/json"
	"maps"
	"math/rand" // want
	"net/http" // want
	"slices"
	"sync" // want
	"time"

	"github.com/google/uuid"
)

type set map[string]bool

var clock = time.Now // want

func f(m set, h http.Header, l []int) {
	go f(m, h, l) // want
	for range m { // want
	}
	for k := range h { // want
		_ = k
	}
	for range l {
	}
	for range maps.Keys(m) { // want
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		_ = k
	}
	for _, k := range slices.SortedFunc(maps.Values(m), func(a, b bool) int { return 0 }) {
		_ = k
	}
	_ = slices.Collect(maps.Keys(m)) // want
	_ = maps.Clone(m)
	_ = time.Since(time.Time{}) // want
	_ = time.Unix(0, 0).After(time.Time{})
	_ = uuid.NewSHA1(uuid.Nil, nil)
	_ = uuid.NewString() // want
	_ = rand.Int()
	_, _ = json.Marshal(m)
	var mu sync.Mutex
	mu.Lock()
	c := make(chan int) // want
	c <- 1 // want
	<-c // want
	select {} // want
}
`,
		"p/id.go":     "package p\n\nimport \"time\"\n\nvar now = time.Now\n",
		"p/on.go":     "//go:build planted\n\npackage p\n\ntype set int\n",
		"p/off.go":    "//go:build !planted\n\npackage p\n\nvar _ = make(chan int) // want\n",
		"p/a_test.go": "package p\n\nimport \"time\"\n\nvar later = time.Now\n",
	}
	tree := plant(t, files)
	imp, err := Importer(tree.Fset, root, "encoding/json", "maps", "math/rand", "net/http", "slices", "sync", "time", "github.com/google/uuid")
	if err != nil {
		t.Fatal(err)
	}
	found, err := CheckPure(tree, []string{"p"}, map[string]string{"p/id.go": "an exception"}, imp)
	if err != nil {
		t.Fatal(err)
	}
	wantFound(t, files, found)
}

func TestFileLengthFindsPlantedFaults(t *testing.T) {
	files := map[string]string{
		"a/short.go":     "package a\n\n\n",
		"a/long.go":      "package a\n\n\n\n",
		"a/long_test.go": "package a\n\n\n\n\n\n",
	}
	found := CheckLength(plant(t, files), 3)
	if len(found) != 1 || found[0].Path != "a/long.go" {
		t.Errorf("found %v, want a/long.go alone", found)
	}
}

func TestDocsFindsPlantedFaults(t *testing.T) {
	files := map[string]string{
		"pkg/a/a.go": `package a

func Bare() {}

// Said is documented.
func Said() {}

func own() {}

type T struct{}

func (T) Method() {}

func (t *T) Pointer() {}

type hidden struct{}

func (hidden) Exported() {}

// A group.
const (
	One = 1
	Two = 2
)

const Three = 3 // three
const (
	Four = 4 // four
	Five = iota
	six

	// Seven is documented.
	Seven
)

type (
	// U is documented.
	U int
	V int
)

type G[X any] struct{}

func (g *G[X]) M() {}
`,
		"cmd/b/b.go":        "// Command b needs no comment on its names.\npackage main\n\nfunc Bare() {}\n",
		"cmd/c/c.go":        "package main",
		"pkg/a/a_test.go":   "package a\n\nfunc Help() {}\n",
		"internal/d/doc.go": "// Package d is documented in one of its files.\npackage d\n",
		"internal/d/d.go":   "package d\n\nvar Naked int\n\nvar Said int // said\n",
	}
	// Lines cannot be marked here: a comment at the end of one documents it.
	var got []string
	for _, f := range CheckDocs(plant(t, files)) {
		name, _, _ := strings.Cut(strings.TrimPrefix(f.Text, "package "), " ")
		got = append(got, f.Path+" "+name)
	}
	want := []string{
		"cmd/c/c.go main",
		"internal/d/d.go Naked",
		"pkg/a/a.go a", "pkg/a/a.go Bare", "pkg/a/a.go T", "pkg/a/a.go Method", "pkg/a/a.go Pointer",
		"pkg/a/a.go Five", "pkg/a/a.go V", "pkg/a/a.go G", "pkg/a/a.go M",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names found (-want +got):\n%s", diff)
	}
}

func TestWordsFindsPlantedFaults(t *testing.T) {
	lines := []struct {
		text string
		want bool
	}{
		{"see /ho" + "me/someone/notes", true},
		{"`/ro" + "ot/go/pkg`", true},
		{"ls /wo" + "rk/main", true},
		{"store in /data and /var/lib/work/x", false},
		{"../shared/data", false},
		{"// TO" + "DO: later", true},
		{"mktemp -d hierarchy.XX" + "XXXX", false},
		{"XX" + "X", true},
		{"this is not imple" + "mented", true},
		{"<<<<" + "<<< HEAD", true},
		{"a plain line", false},
	}
	for _, l := range lines {
		if got := len(CheckWords("x.md", []byte("first\n"+l.text+"\n"))) > 0; got != l.want {
			t.Errorf("%q: found %v, want %v", l.text, got, l.want)
		}
	}
	if found := CheckWords("go.sum", []byte("XX"+"X")); len(found) > 0 {
		t.Errorf("go.sum is read: %v", found)
	}
}
