// Command realinput submits a real history to a real process and compares the
// outcome with the oracle that comes with it.
//
//	go run ./bench/realinput -data git-history.ndjson -oracle git-history.oracle.json
//
// First as it is (on_conflict queue): every operation succeeds and every entity's
// fields equal the oracle's. Then with on_conflict removed (reject): every
// operation ends, submitted = succeeded + rejected, and every loser's record
// names a winner that ranked above it. Both runs use `hierarchy dev --store` as
// one process and `hierarchy submit -f --wait` as another, and end with
// `hierarchy verify`.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

func main() {
	data := flag.String("data", "", "operations, NDJSON")
	oracle := flag.String("oracle", "", "the state they must lead to, JSON")
	server := flag.String("server", "", "use this running system for the first part instead of a process of its own, and leave out the second")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *data, *oracle, *server); err != nil {
		fmt.Fprintln(os.Stderr, "realinput:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, data, oracle, server string) error {
	if data == "" || oracle == "" {
		return errors.New("-data and -oracle are required")
	}
	dir, err := os.MkdirTemp("", "hierarchy-realinput-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if server != "" {
		return compare(ctx, server, oracle)
	}
	program := filepath.Join(dir, "hierarchy")
	if err := command(ctx, "go", "build", "-o", program, "./cmd/hierarchy"); err != nil {
		return err
	}
	fmt.Println("as it is: on_conflict queue")
	err = through(ctx, program, filepath.Join(dir, "queue"), data, 0, func(url string) error { return compare(ctx, url, oracle) })
	if err != nil {
		return err
	}
	fmt.Println("with on_conflict removed: losers are rejected")
	plain := filepath.Join(dir, "plain.ndjson")
	n, err := withoutPolicy(data, plain)
	if err != nil {
		return err
	}
	return through(ctx, program, filepath.Join(dir, "reject"), plain, lostArbitration, func(url string) error { return losers(ctx, url, n) })
}

// lostArbitration is the exit code of `hierarchy submit --wait` when some of the
// operations lost.
const lostArbitration = 4

// through runs one file through a fresh process and checks what it led to.
func through(ctx context.Context, program, store, file string, exit int, check func(url string) error) error {
	urlFile := store + ".url"
	dev := exec.CommandContext(ctx, program, "dev", "--store", store, "--port", "0", "--http", "", "--url-file", urlFile)
	dev.Stderr = os.Stderr
	dev.Cancel = func() error { return dev.Process.Signal(syscall.SIGTERM) }
	if err := dev.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- dev.Wait() }()
	stop := func() error {
		if err := dev.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		return <-ended
	}
	url, err := waitFor(ctx, urlFile, ended)
	if err != nil {
		return err
	}
	begun := time.Now()
	err = command(ctx, program, "submit", "-f", file, "--wait", "--server", url)
	took := time.Since(begun)
	var code *exec.ExitError
	if errors.As(err, &code) && code.ExitCode() == exit {
		err = nil
	}
	if err == nil {
		fmt.Printf("  submitted and ended in %.1f s\n", took.Seconds())
		err = errors.Join(check(url), command(ctx, program, "verify", "--quiescent", "--server", url))
	}
	return errors.Join(err, stop())
}

func command(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// waitFor returns the content of the file once it is there.
func waitFor(ctx context.Context, file string, ended <-chan error) (string, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if url, err := os.ReadFile(file); err == nil {
			return strings.TrimSpace(string(url)), nil
		}
		select {
		case <-tick.C:
		case err := <-ended:
			return "", fmt.Errorf("the process ended before it was ready: %w", err)
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// withoutPolicy copies the operations without their on_conflict and returns how
// many there are.
func withoutPolicy(from, to string) (int, error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	var out bytes.Buffer
	n := 0
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var o map[string]json.RawMessage
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return 0, err
		}
		delete(o, "on_conflict")
		line, err := json.Marshal(o)
		if err != nil {
			return 0, err
		}
		out.Write(append(line, '\n'))
		n++
	}
	return n, errors.Join(lines.Err(), os.WriteFile(to, out.Bytes(), 0o600))
}

func open(ctx context.Context, url string) (*bus.Bus, func(), error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return nil, nil, err
	}
	b, err := bus.Open(ctx, nc)
	return b, nc.Close, err
}
