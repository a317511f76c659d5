package worker_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/pkg/optest"
	"github.com/hierarchy-bus/hierarchy/pkg/worker"
)

// Greet are the params of the type "greet".
type Greet struct {
	Name string `json:"name"`
}

// Kind is the name of the type in the policy.
func (Greet) Kind() string { return "greet" }

func Example() {
	ctx := context.Background()
	system, err := optest.Open(ctx, optest.WithPolicy(`{"types": {"greet": {"pool": "workers"}}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer system.Close()

	// worker.Connect(url) in a program of its own.
	w := worker.New(system.Conn())
	worker.Register(w, worker.HandlerFunc[Greet](func(_ context.Context, job *worker.Job[Greet]) (worker.Effect, error) {
		if job.Args.Name == "" {
			return worker.Effect{}, worker.Terminal(worker.WithCode("no_name", errors.New("there is nobody to greet")))
		}
		if job.Entity == nil {
			return worker.Create().Set("greeting", "Hello, "+job.Args.Name), nil
		}
		return worker.Set("greeting", "Hello again, "+job.Args.Name).Version(), nil
	}))
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	<-w.Ready()

	c := system.Client()
	for _, params := range []map[string]any{{"name": "Ada"}, {"name": "Bob"}, {}, {"title": "Dr"}} {
		out, err := c.Do(ctx, op.Operation{Type: "greet", Target: "door-1", Params: client.Params(params)})
		var failure *op.Failure
		if errors.As(err, &failure) {
			fmt.Println(out.Status, out.Reason, failure.Code+":", failure.Message)
			continue
		}
		door, err := c.Get(ctx, "@door-1.greeting")
		fmt.Println(out.Status, string(door.Raw), door.Version, err)
	}

	stop, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	fmt.Println("stopped:", w.Stop(stop), <-ended)

	// Output:
	// SUCCEEDED "Hello, Ada" 1 <nil>
	// SUCCEEDED "Hello again, Bob" 2 <nil>
	// REJECTED terminal_error no_name: there is nobody to greet
	// REJECTED invalid bad_params: params of greet have no field "title"
	// stopped: <nil> <nil>
}

func ExampleHeartbeat() {
	handler := worker.HandlerFunc[Greet](func(ctx context.Context, job *worker.Job[Greet]) (worker.Effect, error) {
		for range 3 { // parts of something that takes long
			if err := worker.Heartbeat(ctx); err != nil {
				return worker.Effect{}, err // nothing counts any more: stop
			}
		}
		return worker.Set("greeting", "Hello, "+job.Args.Name), nil
	})
	// A handler can be tried by itself.
	effect, err := handler.Handle(context.Background(), &worker.Job[Greet]{Args: Greet{Name: "Ada"}})
	body, _ := effect.MarshalJSON()
	fmt.Println(string(body), err)

	// Output:
	// {"set":{"greeting":"Hello, Ada"}} <nil>
}
