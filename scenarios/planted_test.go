package scenarios

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A demo that cannot fail proves nothing: built with a fault that lets the
// runner-up through, it says what is wrong and exits with 1.
func TestThePlantedFaultIsFound(t *testing.T) {
	faulty := filepath.Join(t.TempDir(), "hierarchy")
	build := exec.Command("go", "build", "-tags", "plantedfault", "-o", faulty, "../cmd/hierarchy")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		t.Fatal(err)
	}
	for program, want := range map[string]int{faulty: 1, filepath.Join(bin, "hierarchy"): 0} {
		out, err := exec.Command(program, "demo", "--duration", "2s").CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		code := 0
		if exit != nil {
			code = exit.ExitCode()
		}
		if code != want {
			t.Errorf("%s demo exits %d, want %d\n%s", program, code, want, out)
		}
		if found := strings.Contains(string(out), "resolution.winner_not_best"); found != (want == 1) {
			t.Errorf("%s demo names the broken invariant: %v\n%s", program, found, out)
		}
	}
}
