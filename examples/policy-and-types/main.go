// Command policy-and-types registers an operation type: a name, a schema for its
// params, a pool of workers and rules of its own. All of that stands in the policy,
// which an operator writes; the handler is a function in a worker.
//
// The policy here lies in policy.json, as `hierarchy config set` takes it.
//
// Output:
//
//	painted door-1 green: version 2, 2 coats
//	refused: OPS-1014 params.coats must be at most 5, not 99
//	refused: OPS-1014 params.colour is missing
//	refused: OPS-1008 there is no operation type "varnish"
//	no paint: door-1 is REJECTED terminal_error after 1 attempt: there is no chartreuse
//	intern asked for CRITICAL(10) and got NORMAL(5)
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log"

	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/pkg/optest"
	"github.com/hierarchy-bus/hierarchy/pkg/worker"
)

//go:embed policy.json
var policy string

// Paint are the params of the type "paint".
type Paint struct {
	Colour string `json:"colour"`
	Coats  int    `json:"coats"`
}

// Kind is the name of the type in the policy.
func (Paint) Kind() string { return "paint" }

// paint computes what an operation changes. It may run more than once; what it
// returns is applied once.
func paint(_ context.Context, job *worker.Job[Paint]) (worker.Effect, error) {
	if job.Args.Colour == "chartreuse" {
		// Trying again cannot help. Any other error is tried again later.
		return worker.Effect{}, worker.Terminal(worker.WithCode("no_paint", errors.New("there is no chartreuse")))
	}
	coats := 0
	if _, err := job.Entity.Get("coats", &coats); err != nil {
		return worker.Effect{}, err
	}
	return worker.Set("colour", job.Args.Colour).Set("coats", coats+job.Args.Coats).Version().Note("Painted %s", job.Args.Colour), nil
}

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

	// The worker: in a program of its own it would be
	//	w, err := worker.Connect("nats://127.0.0.1:4222", worker.WithPool("painters"))
	nc, err := system.Connect()
	if err != nil {
		return err
	}
	w := worker.New(nc, worker.WithPool("painters"))
	worker.Register(w, worker.HandlerFunc[Paint](paint))
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

// use submits operations of the type, as any service does.
func use(ctx context.Context, c *client.Client) error {
	if _, err := c.Do(ctx, op.Operation{Type: op.TypeCreate, Target: "door-1"}); err != nil {
		return err
	}
	out, err := c.Do(ctx, operation(map[string]any{"colour": "green", "coats": 2}))
	if err != nil {
		return err
	}
	coats, err := c.Get(ctx, "@door-1.coats")
	if err != nil {
		return err
	}
	fmt.Printf("painted door-1 green: version %d, %s coats\n", out.Version, coats.Raw)

	// Params are checked against the schema before anything is stored.
	unknown := operation(nil)
	unknown.Type = "varnish"
	for _, o := range []op.Operation{operation(map[string]any{"colour": "green", "coats": 99}), operation(map[string]any{"coats": 1}), unknown} {
		_, err := c.Submit(ctx, o)
		var refused *client.Error
		if !errors.As(err, &refused) || !errors.Is(err, client.ErrInvalid) {
			return fmt.Errorf("it should have been refused: %w", err)
		}
		fmt.Printf("refused: %s %s\n", refused.Code, refused.Message)
	}

	out, err = c.Do(ctx, operation(map[string]any{"colour": "chartreuse", "coats": 1}))
	if !errors.Is(err, client.ErrFailed) {
		return fmt.Errorf("it should have failed: %w", err)
	}
	fmt.Printf("no paint: door-1 is %s %s after %d attempt: %s\n", out.Status, out.Reason, out.Attempts, out.Error.Message)

	// The policy bounds the priorities that the submitter "intern" may use.
	eager := operation(map[string]any{"colour": "red", "coats": 1})
	eager.Priority, eager.Submitter = op.Critical, "intern"
	out, err = c.Do(ctx, eager)
	if err != nil {
		return err
	}
	fmt.Printf("intern asked for %s(%d) and got %s(%d)\n", out.Record.Asked, out.Record.Asked, out.Record.Priority, out.Record.Priority)
	return nil
}

func operation(params map[string]any) op.Operation {
	return op.Operation{Type: "paint", Target: "door-1", Params: client.Params(params)}
}
