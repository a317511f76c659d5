package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Bounds of one command. A test that takes longer has not caught anything.
const (
	buildTimeout = 5 * time.Minute
	testTimeout  = 90 * time.Second
)

// lab builds and runs tests, with a fault or without.
type lab struct {
	root string // of the repository
	dir  string // for binaries and changed files
}

// build compiles the tests of a package; overlay is "" for the code as it is.
func (l *lab) build(ctx context.Context, pkg, binary, overlay string) error {
	ctx, cancel := context.WithTimeout(ctx, buildTimeout)
	defer cancel()
	args := []string{"test", "-c", "-vet=off", "-ldflags=-s -w", "-o", binary}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+pkg)...)
	cmd.Dir = l.root
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// run runs the chosen tests of a binary and returns what they print, and their
// exit code.
func (l *lab) run(ctx context.Context, binary string, t test, verbose bool) (out string, code int, err error) {
	ctx, cancel := context.WithTimeout(ctx, testTimeout+10*time.Second)
	defer cancel()
	args := []string{"-test.run=" + t.run, "-test.timeout=" + testTimeout.String(), "-test.count=1"}
	if verbose {
		args = append(args, "-test.v")
	}
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = filepath.Join(l.root, t.pkg)
	cmd.WaitDelay = time.Second
	text, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		return string(text), exit.ExitCode(), nil
	}
	return string(text), 0, err
}

// passes runs a test on the code as it is. Without that, "caught" means nothing.
func (l *lab) passes(ctx context.Context, binary string, t test) error {
	out, code, err := l.run(ctx, binary, t, true)
	if err != nil {
		return err
	}
	return clean(out, code)
}

// clean judges a verbose run without a fault: something ran, nothing was skipped,
// and everything passed.
func clean(out string, code int) error {
	switch {
	case code != 0:
		return fmt.Errorf("it fails without a fault, too:\n%s", tail(out))
	case strings.Contains(out, "--- SKIP: "):
		return errors.New("it was skipped")
	case !strings.Contains(out, "\n--- PASS: "):
		return errors.New("there is no such test")
	}
	return nil
}

// verdict is what became of a mutant.
type verdict struct {
	caught bool
	why    string // it was not
	by     string // the test that failed
	out    string
	took   time.Duration
}

// try builds m in an overlay and runs its test.
func (l *lab) try(ctx context.Context, m *mutant, id string) (v verdict) {
	begun := time.Now()
	defer func() { v.took = time.Since(begun) }()
	text, err := m.apply(l.root)
	if err != nil {
		return verdict{why: "does not apply: " + err.Error()}
	}
	changed, overlay, binary := filepath.Join(l.dir, id+".go"), filepath.Join(l.dir, id+".json"), filepath.Join(l.dir, id+".test")
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(l.root, m.file): changed}})
	if err == nil {
		err = errors.Join(os.WriteFile(changed, text, 0o600), os.WriteFile(overlay, list, 0o600))
	}
	if err != nil {
		return verdict{why: err.Error()}
	}
	defer os.Remove(binary) //nolint:errcheck // the whole folder goes in the end
	if err := l.build(ctx, m.pkg, binary, overlay); err != nil {
		return verdict{why: "does not compile: " + err.Error()}
	}
	out, code, err := l.run(ctx, binary, m.test, false)
	if err != nil {
		return verdict{why: "its test could not be run: " + err.Error(), out: out}
	}
	return judge(out, code, m.says)
}

var failedTest = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)

// judge says whether a test has failed for the named reason.
func judge(out string, code int, says string) verdict {
	failed := failedTest.FindStringSubmatch(out)
	switch {
	case code == 0:
		return verdict{why: "SURVIVED", out: out}
	case strings.Contains(out, "panic: test timed out"):
		return verdict{why: "its test did not end in time", out: out}
	case failed == nil:
		return verdict{why: "no test failed, and yet the exit code is not 0", out: out}
	case !strings.Contains(out, says):
		return verdict{why: fmt.Sprintf("%s fails, and does not say %q", failed[1], says), out: out}
	}
	return verdict{caught: true, by: failed[1], out: out}
}

// tail is the end of an output, for a message.
func tail(out string) string {
	const most = 3000
	if len(out) > most {
		out = "… " + out[len(out)-most:]
	}
	return out
}
