// Command worker-raw starts a worker that is written in Python and uses no library
// at all: worker.py speaks the text protocol of NATS over TCP, and that is all that
// a handler needs. It answers requests on ops.handler.paint.
//
// Where there is no Python, this program says so on stderr and does nothing.
//
// Output:
//
//	worker.py serves the type paint
//	the wall is "green" with 3 coats: version 2, 1 attempt
//	the wall is "gold" with 1 coats: version 3, 2 attempts
//	octarine: REJECTED terminal_error, no_paint: wizards only
//	worker.py was asked to end and has ended
package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"

	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/pkg/optest"
)

//go:embed worker.py
var program string

// The type is in the pool of the common executors, which ask on ops.handler.paint
// because none of them has a handler for it.
const policy = `{"types": {"paint": {"attempt_timeout": "5s"}}}`

func main() {
	python, err := exec.LookPath("python3")
	if err != nil {
		fmt.Fprintln(os.Stderr, "SKIPPED: examples/worker-raw needs python3, which is not here; nothing was tried")
		return
	}
	if err := run(context.Background(), python); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, python string) error {
	system, err := optest.Open(ctx, optest.WithPolicy(policy), optest.WithListener())
	if err != nil {
		return err
	}
	defer system.Close()

	// By hand: python3 worker.py nats://127.0.0.1:4222
	worker := exec.CommandContext(ctx, python, "-c", program, system.URL())
	worker.Stderr = os.Stderr
	said, err := worker.StdoutPipe()
	if err != nil {
		return err
	}
	if err := worker.Start(); err != nil {
		return err
	}
	defer func() { _ = worker.Process.Kill() }() // it has ended, unless something went wrong
	if line, err := bufio.NewReader(said).ReadString('\n'); err != nil || line != "ready\n" {
		return fmt.Errorf("worker.py says %q: %w", line, err)
	}
	fmt.Println("worker.py serves the type paint")

	if err := use(ctx, system.Client()); err != nil {
		return err
	}
	if err := worker.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, said); err != nil {
		return err
	}
	if err := worker.Wait(); err != nil {
		return err
	}
	fmt.Println("worker.py was asked to end and has ended")
	return nil
}

// use submits operations, as any service does.
func use(ctx context.Context, c *client.Client) error {
	if _, err := c.Do(ctx, op.Operation{Type: op.TypeCreate, Target: "wall"}); err != nil {
		return err
	}
	for _, params := range []map[string]any{{"colour": "green", "coats": 3}, {"colour": "gold"}} {
		out, err := c.Do(ctx, paint(params))
		if err != nil {
			return err
		}
		wall, err := c.Entity(ctx, "@wall")
		if err != nil {
			return err
		}
		plural := "s"
		if out.Attempts == 1 {
			plural = ""
		}
		fmt.Printf("the wall is %s with %s coats: version %d, %d attempt%s\n",
			wall.Fields["colour"], wall.Fields["coats"], out.Version, out.Attempts, plural)
	}
	out, err := c.Do(ctx, paint(map[string]any{"colour": "octarine"}))
	if !errors.Is(err, client.ErrFailed) {
		return fmt.Errorf("it should have failed: %w", err)
	}
	fmt.Printf("octarine: %s %s, %s: %s\n", out.Status, out.Reason, out.Error.Code, out.Error.Message)
	return nil
}

func paint(params map[string]any) op.Operation {
	return op.Operation{Type: "paint", Target: "wall", Params: client.Params(params)}
}
