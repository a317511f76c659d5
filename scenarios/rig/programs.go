package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// bin is where the programs are.
var bin string

// Main is the TestMain of a package that uses rigs: it builds the programs as they
// are shipped, with the nats-server of our own go.mod, and runs the tests.
func Main(m *testing.M) {
	sweep()
	dir, err := os.MkdirTemp("", fmt.Sprintf("%srig-%d-", mark, os.Getpid()))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	bin = dir
	code := 1
	if err := Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, "rig:", err)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// Build compiles the programs as they are shipped into dir, and the nats-server of our
// own go.mod.
func Build(dir string, flags ...string) error {
	args := append([]string{"build"}, flags...)
	args = append(args, "-o", dir+string(filepath.Separator))
	for _, name := range []string{"hierarchy", "resolver", "executor", "submitter", "observer"} {
		args = append(args, "github.com/hierarchy-bus/hierarchy/cmd/"+name)
	}
	cmd := exec.CommandContext(context.Background(), "go", append(args, "github.com/nats-io/nats-server/v2")...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build the programs: %w", err)
	}
	return nil
}
