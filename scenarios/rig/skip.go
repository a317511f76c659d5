package rig

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Skip leaves a test out and says so where nobody can miss it, with what is missing.
func Skip(t *testing.T, format string, args ...any) {
	t.Helper()
	why := fmt.Sprintf(format, args...)
	fmt.Fprintf(os.Stderr, "\n*** SKIPPED, so NOT SHOWN: %s: %s\n\n", t.Name(), why)
	t.Skip(why)
}

// NeedRoot skips the test where it is not run by root, or a program is missing.
func NeedRoot(t *testing.T, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		Skip(t, "needs root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Skip(t, "needs the program %s", p)
		}
	}
}

// command runs a program of the system for at most half a minute.
func command(argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// mark is in the name of everything that outlives a process: mounts, namespaces.
const mark = "hm"

var (
	leftNS    = regexp.MustCompile(`^` + mark + `(\d+)(hub|n\d+)$`)
	leftMount = regexp.MustCompile(`/` + mark + `disk-(\d+)-`)
	leftDir   = regexp.MustCompile(`^` + mark + `(?:disk|rig)-(\d+)-`)
)

// sweep removes what test binaries that were killed have left behind.
func sweep() {
	defer sweepDirs()
	if os.Geteuid() != 0 {
		return
	}
	if out, err := command("ip", "netns", "list"); err == nil {
		for line := range strings.SplitSeq(out, "\n") {
			name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			if m := leftNS.FindStringSubmatch(name); m != nil && dead(m[1]) {
				_, _ = command("ip", "netns", "del", name)
			}
		}
	}
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return
	}
	for line := range strings.SplitSeq(string(mounts), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		if m := leftMount.FindStringSubmatch(f[1]); m != nil && dead(m[1]) {
			_, _ = command("umount", "-l", f[1])
		}
	}
}

// sweepDirs removes the directories of those who are gone. What is mounted in one is
// unmounted by then, or cannot be removed.
func sweepDirs() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), mark+"*-*-*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		if m := leftDir.FindStringSubmatch(filepath.Base(dir)); m != nil && dead(m[1]) {
			_ = os.RemoveAll(dir)
		}
	}
}

func dead(pid string) bool {
	n, err := strconv.Atoi(pid)
	if err != nil {
		return false
	}
	_, err = os.Stat("/proc/" + strconv.Itoa(n))
	return os.IsNotExist(err)
}
