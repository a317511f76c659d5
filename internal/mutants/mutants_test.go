package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// TestTable asks of every mutant what can be asked without running it: its text
// stands where it should, once, and the test it names exists. Whoever moves a line
// hears of it here, and not weeks later.
func TestTable(t *testing.T) {
	all := table()
	if err := check(all); err != nil {
		t.Fatal(err)
	}
	if len(all) < 30 {
		t.Errorf("only %d mutants", len(all))
	}
	for i := range all {
		m := &all[i]
		if _, err := m.apply(root); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		name := strings.Trim(m.run, "^$")
		files, err := filepath.Glob(filepath.Join(root, m.pkg, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(files, func(file string) bool {
			text, err := os.ReadFile(file)
			return err == nil && strings.Contains(string(text), "\nfunc "+name+"(t *testing.T)")
		}) {
			t.Errorf("%s: there is no %s in %s", m.name, name, m.pkg)
		}
	}
}

func TestCheck(t *testing.T) {
	good := mutant{name: "a", wrong: "b", file: "c", old: "d", new: "e", test: test{pkg: "f", run: "g"}, says: "h"}
	if err := check([]mutant{good}); err != nil {
		t.Errorf("a good one is refused: %v", err)
	}
	nothing, nobody, anybody, file := good, good, good, good
	nothing.new, nobody.says, anybody.says, file.says = nothing.old, "", "--- FAIL", "sum_test.go:3"
	for what, all := range map[string][]mutant{
		"one that changes nothing": {nothing}, "one that nobody catches": {nobody}, "two of one name": {good, good},
		"one that every failure catches": {anybody}, "one that every failure in a file catches": {file},
	} {
		if check(all) == nil {
			t.Errorf("%s is accepted", what)
		}
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name, out string
		code      int
		caught    bool
		why       string
	}{
		{"caught", "--- FAIL: TestSum (0.00s)\n    a_test.go:3: the sum is wrong\nFAIL\n", 1, true, ""},
		{"caught by a panic", "--- FAIL: TestSum (0.00s)\npanic: the sum is wrong [recovered]\n", 2, true, ""},
		{"survived", "PASS\n", 0, false, "SURVIVED"},
		{"another reason", "--- FAIL: TestSum (0.00s)\n    a_test.go:3: no server\nFAIL\n", 1, false, "does not say"},
		{"a time-out", "panic: test timed out after 1s\n--- FAIL: TestSum: the sum is wrong\n", 2, false, "did not end in time"},
		{"no test", "the sum is wrong\n", 3, false, "no test failed"},
	} {
		v := judge(c.out, c.code, "the sum is wrong")
		if v.caught != c.caught || !strings.Contains(v.why, c.why) {
			t.Errorf("%s: %+v", c.name, v)
		}
		if c.caught && v.by != "TestSum" {
			t.Errorf("%s: caught by %q", c.name, v.by)
		}
	}
}

// TestHunt goes all the way in a module of its own, with mutants of every fate.
func TestHunt(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":   "module sum\n\ngo 1.26\n",
		"s/sum.go": "package s\n\nfunc sum(a, b int) int { return a + b }\n\nfunc double(a int) int { return 2 * a }\n",
		"s/sum_test.go": "package s\n\nimport \"testing\"\n\nfunc TestSum(t *testing.T) {\n\tif sum(1, 2) != 3 {\n\t\tt.Error(\"the sum is wrong\")\n\t}\n}\n\n" +
			"func TestRed(t *testing.T) { t.Error(\"red\") }\n\nfunc TestSkipped(t *testing.T) { t.Skip() }\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fault := func(name, old, instead, run string) mutant {
		return mutant{name: name, wrong: name, file: "s/sum.go", old: old, new: instead, test: test{pkg: "s", run: run}, says: "the sum is wrong"}
	}
	all := []mutant{
		fault("caught", "a + b", "a - b", "^TestSum$"),
		fault("survives", "2 * a", "3 * a", "^TestSum$"),
		fault("moved", "b + a", "b - a", "^TestSum$"),
		fault("ambiguous", "return", "return -", "^TestSum$"),
		fault("no Go", "a + b", "a +", "^TestSum$"),
		fault("red anyway", "a + b", "a - b", "^TestRed$"),
		fault("skipped", "a + b", "a - b", "^TestSkipped$"),
		fault("no such test", "a + b", "a - b", "^TestDifference$"),
	}
	var out strings.Builder
	l := &lab{root: dir, dir: t.TempDir()}
	if err := hunt(t.Context(), &out, l, all, 2, false); err == nil || !strings.Contains(err.Error(), "7 of 8") {
		t.Errorf("%v\n%s", err, out.String())
	}
	for name, want := range map[string]string{
		"caught": "caught  caught", "survives": "SURVIVED", "moved": "its text stands 0 times", "ambiguous": "its text stands 2 times",
		"no Go": "does not compile", "red anyway": "it fails without a fault, too", "skipped": "it was skipped", "no such test": "there is no such test",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: %q is missing in\n%s", name, want, out.String())
		}
	}
	out.Reset()
	if err := hunt(t.Context(), &out, l, all[:1], 1, true); err != nil || !strings.Contains(out.String(), "1 mutants: 1 caught, 0 not") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
