package rig

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// skewEnv sets the clock of a program of [Skewable] wrong: by so many seconds, so
// many seconds after its start.
const skewEnv = "HIERARCHY_CLOCK_SKEW"

// Skew is an environment in which a program of [Skewable] has a wrong clock, from so
// long after its start on. Timers and durations stay right, as on a machine whose
// clock is set.
func Skew(by, after time.Duration) []string {
	return []string{fmt.Sprintf("%s=%d@%d", skewEnv, int64(by/time.Second), int64(after/time.Second))}
}

// skewed is added to the package time.
const skewed = `package time

import "syscall"

var skewBy, skewFrom = readSkew()

func readSkew() (by, from int) {
	v, ok := syscall.Getenv("` + skewEnv + `")
	if !ok {
		return 0, 0
	}
	for i := range len(v) {
		if v[i] == '@' {
			by, err := atoi(v[:i])
			from, err2 := atoi(v[i+1:])
			if err != nil || err2 != nil {
				panic("time: bad ` + skewEnv + `")
			}
			return by, from
		}
	}
	panic("time: bad ` + skewEnv + `")
}

func skew(sec, mono int64) int64 {
	if skewBy != 0 && mono-startNano >= int64(skewFrom)*int64(Second) {
		return sec + int64(skewBy)
	}
	return sec
}
`

// Skewable builds the programs, the server among them, with a package time whose
// clock an environment variable sets wrong: static programs ask no library that could
// be replaced, and a namespace of time does not move the wall clock. It returns
// their directory, or skips the test where that cannot be built.
func Skewable(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(context.Background(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	pkg := filepath.Join(strings.TrimSpace(string(out)), "src", "time")
	source, err := os.ReadFile(filepath.Join(pkg, "time.go"))
	if err != nil {
		Skip(t, "needs the source of the package time: %v", err)
	}
	const reads = "\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {"
	patched := strings.Replace(string(source), reads, "\tsec, nsec, mono := runtimeNow()\n\tsec = skew(sec, mono)\n\tif mono == 0 {", 1)
	if patched == string(source) {
		Skip(t, "time.Now of this release of Go is not what the patch expects")
	}
	dir := t.TempDir()
	files := map[string]string{"time.go": patched, "skew_hierarchy.go": skewed}
	replace := map[string]string{}
	for name, text := range files {
		at := filepath.Join(dir, name)
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(pkg, name)] = at
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	programs := t.TempDir()
	if err := Build(programs, "-overlay", path); err != nil {
		Skip(t, "needs programs with a clock that can be set: %v", err)
	}
	return programs
}
