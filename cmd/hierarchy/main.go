// Command hierarchy is the whole system in one process (demo, dev) and the
// operator's command line: it submits operations, follows them, explains what
// became of them and checks the history.
//
// Data goes to stdout and everything else to stderr. The exit code says what
// became of an operation: see exit.go, or `hierarchy --help`.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// version is set by the linker.
var version = "dev"

// gcPercent keeps a system in one process small: half of its live memory are the
// server's buffers, and letting garbage grow to the size of both costs tens of
// megabytes for no speed that a laptop would notice ([frugal]: unless it does).
const gcPercent = 50

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs one command line and returns its exit code. The first signal asks it
// to finish, a second one ends the process at once.
func run(args []string, in io.Reader, out, errs io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // back to the default, which is to die
	a := &app{in: in, out: out, errs: errs}
	cmd := a.root()
	cmd.SetArgs(args)
	cmd.SetIn(in)
	cmd.SetOut(out)
	cmd.SetErr(errs)
	return a.exit(ctx, cmd.ExecuteContext(ctx))
}
