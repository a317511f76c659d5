// Package readme checks that the pages for users say what is so: every command
// they show is run, every output compared, every example read by the code that
// will read the reader's, and every table compared with what it lists.
//
// The commands of a page run in a shell, in order, against one system on free
// ports. Two programs that need not be installed stand in for themselves: nats
// sends what the nats program sends, through the client library, and curl asks
// the system's own address.
package readme

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// root is the repository.
const root = "../.."

// programs is where TestMain puts the program that the pages are about.
var programs string

// envHTTP tells the stand-in for curl where the system of the page listens.
const envHTTP = "OPS_README_HTTP"

func TestMain(m *testing.M) {
	testscript.Main(built{m}, map[string]func(){"nats": natsMain, "curl": curlMain})
}

// built builds the program before the tests run.
type built struct{ m *testing.M }

// Run implements testscript.TestingM.
func (b built) Run() int {
	dir, err := os.MkdirTemp("", "hierarchy-readme-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "hierarchy"), "./cmd/hierarchy")
	cmd.Dir = root
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "readme: build the program:", err)
		return 1
	}
	programs = dir
	return b.m.Run()
}
