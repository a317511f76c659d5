package examples

import (
	"slices"
	"testing"
	"testing/fstest"
)

// The harness finds what it is there to find.
func TestFind(t *testing.T) {
	file := &fstest.MapFile{}
	programs, dead, err := find(fstest.MapFS{
		"examples_test.go":  file,
		"runs/main.go":      file,
		"tests/a_test.go":   file,
		"nothing/README.md": file,
		"testdata/x.txt":    file,
	})
	if err != nil || !slices.Equal(programs, []string{"runs"}) || !slices.Equal(dead, []string{"nothing"}) {
		t.Errorf("programs %v, dead %v, %v", programs, dead, err)
	}
}

func TestPattern(t *testing.T) {
	p := pattern("\n\tone (1)\n\n\ttwo …\n")
	for text, want := range map[string]bool{
		"one (1)\n\ntwo 2.5 ms\n":    true,
		"one (1)\n\ntwo \n":          true,
		"one (1)\n\ntwo 2\nthree\n":  false,
		"one (1)\ntwo 2\n":           false,
		"zero\none (1)\n\ntwo 2\n":   false,
		"one (1)\n\ntwo 2":           false,
		"one 1\n\ntwo 2.5 seconds\n": false,
	} {
		if p.MatchString(text) != want {
			t.Errorf("%q matches: %v, want %v", text, !want, want)
		}
	}
}
