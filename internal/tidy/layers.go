package tidy

import (
	"slices"
	"strconv"
	"strings"
)

// Layer is a floor of the house. A package may import packages of the floors
// below its own and none of its own floor.
type Layer struct {
	Name     string
	Packages []string // directories; "cmd/..." is everything below cmd
}

// Layers is the house from the ground up. A package that is missing here fails
// the test, so that a new package is a decision. Test files are free, but what
// stands on the top floor is for tests alone.
var Layers = []Layer{
	{"words", []string{"internal/guess"}},
	{"vocabulary", []string{"pkg/op", "internal/failpoint"}},
	{"pure rules", []string{"internal/retry", "internal/entity"}},
	{"pure machine", []string{"internal/arbiter"}},
	{"pure judgement", []string{"internal/audit", "internal/registry", "internal/replay"}},
	{"substrate", []string{"internal/bus", "internal/natsd", "internal/metrics"}},
	{"on the substrate", []string{"internal/await", "internal/service", "internal/verify"}},
	{"roles", []string{"internal/resolver", "internal/executor", "internal/submitter", "internal/observer"}},
	{"for programmers", []string{"pkg/client", "pkg/worker"}},
	{"for operators", []string{"internal/doctor", "internal/rebuild"}},
	{"process", []string{"internal/daemon"}},
	{"assembly", []string{"internal/cluster", "internal/natstest"}},
	{"load", []string{"internal/stress", "internal/torture", "internal/systest", "pkg/optest"}},
	{"programs", []string{"cmd/...", "bench/...", "examples/..."}},
	{"for tests only", []string{"internal/linear", "internal/mutants", "internal/sim", "internal/tidy", "scenarios/..."}},
}

// Reservation keeps an import for the packages that own it.
type Reservation struct {
	Import   string   // the path and everything below it
	Packages []string // as in Layer
	Why      string
}

// Reservations are the imports that not everyone may have.
var Reservations = []Reservation{
	{
		"github.com/nats-io/nats.go/jetstream",
		// A benchmark measures the bare substrate, too, and an example is what a user writes.
		[]string{"internal/bus", "internal/natstest", "bench/...", "examples/..."},
		"streams and what they promise are known in one place",
	},
	{
		"github.com/nats-io/nats-server",
		[]string{"internal/natsd", "internal/natstest"},
		"only an embedded server needs the server's code",
	},
	{
		"github.com/rs/zerolog",
		[]string{"internal/daemon"},
		"everyone else gets a *slog.Logger",
	},
	{
		"github.com/spf13/cobra",
		[]string{"internal/daemon", "cmd/..."},
		"flags belong to programs",
	},
	{
		"testing",
		[]string{"pkg/optest", "internal/natstest", "internal/systest", "scenarios/..."},
		"a program does not carry a test library",
	},
	{
		Module + "/internal/natstest",
		[]string{"pkg/optest"},
		"a program does not carry a test library",
	},
	{
		Module + "/internal/systest",
		nil, // test files are free
		"a program does not carry a test library",
	},
	{
		Module + "/pkg/optest",
		[]string{"examples/..."},
		"a program does not carry a test library; an example brings its own system",
	},
}

// namesThatSayNothing are package names under which everything would fit.
var namesThatSayNothing = []string{"util", "utils", "common", "types", "helper", "helpers", "misc", "base", "shared"}

// CheckLayers finds imports that point up or sideways, packages without a place
// in layers, imports that are reserved for others, and package names that say
// nothing.
func CheckLayers(t *Tree, layers []Layer, reserved []Reservation) []Finding {
	var found []Finding
	for _, f := range t.Files {
		if slices.Contains(namesThatSayNothing, f.AST.Name.Name) {
			found = append(found, t.at(f, f.AST.Name.Pos(), "package name %q says nothing", f.AST.Name.Name))
		}
		if f.Test {
			continue
		}
		own := floor(layers, f.Dir)
		if own < 0 {
			found = append(found, t.at(f, f.AST.Package, "package %s has no place in internal/tidy's table of layers", f.Dir))
			continue
		}
		for _, spec := range f.AST.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
			for _, r := range reserved {
				if under(imported, r.Import) && !matches(r.Packages, f.Dir) {
					found = append(found, t.at(f, spec.Pos(), "%s may not import %s: %s", f.Dir, imported, r.Why))
				}
			}
			dir, ours := strings.CutPrefix(imported, Module+"/")
			if !ours || under(dir, f.Dir) {
				continue
			}
			if other := floor(layers, dir); other >= own {
				found = append(found, t.at(f, spec.Pos(), "arrows point down only: %s (%s) imports %s (%s)",
					f.Dir, layers[own].Name, dir, layers[other].Name))
			}
		}
	}
	return found
}

func floor(layers []Layer, dir string) int {
	return slices.IndexFunc(layers, func(l Layer) bool { return matches(l.Packages, dir) })
}

func matches(patterns []string, dir string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if root, all := strings.CutSuffix(p, "/..."); all {
			return under(dir, root)
		}
		return p == dir
	})
}

func under(p, root string) bool {
	return p == root || strings.HasPrefix(p, root+"/")
}
