// Command shell-handler has a shell script do the work: handler.sh gets an
// operation in its environment and prints the fields to set. Whatever a command
// line can do can be an operation type.
//
// The command is killed when its operation is cancelled, and when it takes longer
// than attempt_timeout.
//
// Output:
//
//	count-1 SUCCEEDED at attempt 1: counted=1 letters=30 words=6
//	count-2 SUCCEEDED at attempt 1: counted=2 letters=11 words=2
//	count-3 REJECTED terminal_error, exit_65: there is no text
//	print-1 SUCCEEDED at attempt 3: counted=2 letters=11 printed=true words=2
package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/pkg/optest"
	"github.com/hierarchy-bus/hierarchy/pkg/worker"
)

//go:embed handler.sh
var script string

const policy = `{"types": {
	"count_words": {"pool": "workers", "attempt_timeout": "10s"},
	"wait_for_printer": {"pool": "workers", "attempt_timeout": "10s"}
}}`

// tryAgain is the exit code for a failure that may be gone later, EX_TEMPFAIL of
// sysexits.h.
const tryAgain = 75

// shell runs the script for one operation.
func shell(ctx context.Context, task *worker.Task) (worker.Effect, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", script) // killed when ctx ends
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(), "OP_ID="+task.Operation.ID, "OP_TYPE="+task.Operation.Type, "OP_TARGET="+task.Operation.Target,
		fmt.Sprintf("ATTEMPT=%d", task.Attempt))
	if task.Entity != nil {
		cmd.Env = append(cmd.Env, environ("FIELD_", task.Entity.Fields)...)
	}
	var params map[string]json.RawMessage
	if len(task.Operation.Params) > 0 {
		if err := json.Unmarshal(task.Operation.Params, &params); err != nil {
			return worker.Effect{}, worker.Terminal(err)
		}
	}
	cmd.Env = append(cmd.Env, environ("PARAM_", params)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		err = worker.WithCode(fmt.Sprintf("exit_%d", exit.ExitCode()), errors.New(lines[len(lines)-1]))
		if exit.ExitCode() != tryAgain {
			err = worker.Terminal(err)
		}
	}
	if err != nil {
		return worker.Effect{}, err
	}
	effect := worker.Version()
	for line := range strings.Lines(string(out)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			return worker.Effect{}, worker.Terminal(fmt.Errorf("the script prints %.40q, which is not name=value", line))
		}
		effect = effect.Set(name, parsed(value))
	}
	return effect, nil
}

// environ gives values as variables: strings as they are, the rest as JSON. A
// value is data to the script and never a part of its text.
func environ(prefix string, values map[string]json.RawMessage) (env []string) {
	for name, raw := range values {
		var text string
		if json.Unmarshal(raw, &text) != nil {
			text = string(raw)
		}
		env = append(env, prefix+name+"="+text)
	}
	return env
}

// parsed is a value as JSON where it is that, and as a string otherwise.
func parsed(value string) any {
	if json.Valid([]byte(value)) {
		return json.RawMessage(value)
	}
	return value
}

// CountWords and WaitForPrinter are the types that the script knows. The handler
// is the same, and reads the params by itself.
type (
	CountWords     map[string]json.RawMessage
	WaitForPrinter map[string]json.RawMessage
)

// Kind is the name of the type in the policy.
func (CountWords) Kind() string { return "count_words" }

// Kind is the name of the type in the policy.
func (WaitForPrinter) Kind() string { return "wait_for_printer" }

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	system, err := optest.Open(ctx, optest.WithPolicy(policy))
	if err != nil {
		return err
	}
	defer system.Close()
	nc, err := system.Connect()
	if err != nil {
		return err
	}
	// In a program of its own: worker.Connect("nats://127.0.0.1:4222", …).
	w := worker.New(nc, worker.WithConcurrency(4)) // so many commands at once
	worker.Register(w, worker.HandlerFunc[CountWords](func(ctx context.Context, job *worker.Job[CountWords]) (worker.Effect, error) {
		return shell(ctx, &job.Task)
	}))
	worker.Register(w, worker.HandlerFunc[WaitForPrinter](func(ctx context.Context, job *worker.Job[WaitForPrinter]) (worker.Effect, error) {
		return shell(ctx, &job.Task)
	}))
	stopped := make(chan error, 1)
	go func() { stopped <- w.Run(ctx) }()
	if err := use(ctx, system.Client()); err != nil {
		return err
	}
	if err := w.Stop(ctx); err != nil {
		return err
	}
	return <-stopped
}

// use submits operations, as any service does.
func use(ctx context.Context, c *client.Client) error {
	if _, err := c.Do(ctx, op.Operation{Type: op.TypeCreate, Target: "page-1"}); err != nil {
		return err
	}
	for _, o := range []op.Operation{
		{ID: "count-1", Type: "count_words", Params: client.Params(map[string]any{"text": "shell scripts are handlers, too; $(date)"})},
		{ID: "count-2", Type: "count_words", Params: client.Params(map[string]any{"text": "good'bye!; moon"})},
		{ID: "count-3", Type: "count_words"},
		{ID: "print-1", Type: "wait_for_printer"},
	} {
		o.Target = "page-1"
		out, err := c.Do(ctx, o)
		if errors.Is(err, client.ErrFailed) {
			fmt.Printf("%s %s %s, %s: %s\n", o.ID, out.Status, out.Reason, out.Error.Code, out.Error.Message)
			continue
		}
		if err != nil {
			return err
		}
		page, err := c.Entity(ctx, "@page-1")
		if err != nil {
			return err
		}
		fmt.Printf("%s %s at attempt %d:", o.ID, out.Status, out.Attempts)
		for _, name := range slices.Sorted(maps.Keys(page.Fields)) {
			fmt.Printf(" %s=%s", name, page.Fields[name])
		}
		fmt.Println()
	}
	return nil
}
