// Command worker-go runs operation types of its own: a welcome mail that is sent
// once although its handler fails the first time, and a film that takes longer
// than an attempt may be silent.
//
// The type's name, pool and rules stand in the policy, which an operator writes;
// see examples/policy-and-types. The handlers are functions in this program.
//
// Output:
//
//	> welcome-1, attempt 1: the mail server is busy
//	> welcome-1, attempt 2: done
//	user-42 is welcome: version 2, 1 mail was sent
//	> welcome-2, attempt 1: user-43 has no address
//	welcome-2 is REJECTED terminal_error: no_address
//	> welcome-3, attempt 1: params of welcome have no field "lang"
//	welcome-3 is REJECTED invalid: bad_params
//	> film-1, attempt 1: done
//	film-7 has 25 frames, and one attempt took longer than an attempt may be silent
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
	"github.com/hierarchy-bus/hierarchy/pkg/optest"
	"github.com/hierarchy-bus/hierarchy/pkg/worker"
)

const policy = `{"types": {
	"welcome": {"pool": "workers", "max_retries": 5},
	"film": {"pool": "workers", "attempt_timeout": "1500ms"}
}}`

// Welcome are the params of the type "welcome".
type Welcome struct {
	Language string `json:"language"`
}

// Kind is the name of the type in the policy.
func (Welcome) Kind() string { return "welcome" }

// mails is a service outside. It sends a mail once for each key, however often it
// is asked to.
type mails struct {
	mu   sync.Mutex
	sent map[string]string
}

func (m *mails) send(key, address, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, again := m.sent[key]; !again {
		m.sent[key] = address + ": " + text
	}
}

// welcome computes what an operation changes, and does something outside. It may
// be called more than once for one operation: what it returns is applied once, but
// what it does outside is its own affair, for which it has a key.
func (m *mails) welcome(_ context.Context, job *worker.Job[Welcome]) (worker.Effect, error) {
	var address string
	known, err := job.Entity.Get("address", &address)
	if err != nil {
		return worker.Effect{}, err
	}
	if !known {
		// Trying again cannot help.
		err := fmt.Errorf("%s has no address", job.Operation.Target)
		return worker.Effect{}, worker.Terminal(worker.WithCode("no_address", err))
	}
	m.send(job.IdempotencyKey, address, map[string]string{"de": "Willkommen"}[job.Args.Language])
	if job.Attempt == 1 {
		// Any other error is tried again after a while.
		return worker.Effect{}, worker.WithCode("busy", errors.New("the mail server is busy"))
	}
	return worker.Set("welcome", true).Version().Note("Welcomed"), nil
}

// Film are the params of the type "film".
type Film struct {
	Frames int `json:"frames"`
}

// Kind is the name of the type in the policy.
func (Film) Kind() string { return "film" }

// film takes two and a half seconds and says every tenth of a second that it is
// alive. Without that the attempt would be over after one and a half.
func film(ctx context.Context, job *worker.Job[Film]) (worker.Effect, error) {
	frames := time.NewTicker(100 * time.Millisecond)
	defer frames.Stop()
	for range job.Args.Frames {
		<-frames.C
		if err := worker.Heartbeat(ctx); err != nil {
			return worker.Effect{}, err // cancelled, for example
		}
	}
	return worker.Create().Set("frames", job.Args.Frames), nil
}

// logged prints how each attempt ends.
func logged(next worker.Func) worker.Func {
	return func(ctx context.Context, task *worker.Task) (worker.Effect, error) {
		effect, err := next(ctx, task)
		how := "done"
		if err != nil {
			how = err.Error()
		}
		fmt.Printf("> %s, attempt %d: %s\n", task.Operation.ID, task.Attempt, how)
		return effect, err
	}
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
	nc, err := system.Connect()
	if err != nil {
		return err
	}
	// In a program of its own: worker.Connect("nats://127.0.0.1:4222", …).
	w := worker.New(nc, worker.WithMiddleware(logged), worker.WithConcurrency(8))
	post := &mails{sent: map[string]string{}}
	worker.Register(w, worker.HandlerFunc[Welcome](post.welcome))
	worker.Register(w, worker.HandlerFunc[Film](film))
	stopped := make(chan error, 1)
	go func() { stopped <- w.Run(ctx) }()

	if err := use(ctx, system.Client(), post); err != nil {
		return err
	}
	// What runs is finished, and the rest is left to other workers.
	if err := w.Stop(ctx); err != nil {
		return err
	}
	return <-stopped
}

// use submits operations, as any service does.
func use(ctx context.Context, c *client.Client, post *mails) error {
	for id, fields := range map[string]map[string]any{"user-42": {"address": "bob@example.org"}, "user-43": {}} {
		if _, err := c.Do(ctx, op.Operation{Type: op.TypeCreate, Target: id, Params: client.Params(map[string]any{"fields": fields})}); err != nil {
			return err
		}
	}
	out, err := c.Do(ctx, operation("welcome-1", "welcome", "user-42", map[string]any{"language": "de"}))
	if err != nil {
		return err
	}
	fmt.Printf("user-42 is welcome: version %d, %d mail was sent\n", out.Version, len(post.sent))

	for _, o := range []op.Operation{
		operation("welcome-2", "welcome", "user-43", map[string]any{"language": "de"}),
		operation("welcome-3", "welcome", "user-42", map[string]any{"lang": "de"}),
	} {
		out, err := c.Do(ctx, o)
		var failure *op.Failure
		if !errors.As(err, &failure) {
			return fmt.Errorf("it should have failed: %w", err)
		}
		fmt.Printf("%s is %s %s: %s\n", o.ID, out.Status, out.Reason, failure.Code)
	}

	if _, err := c.Do(ctx, operation("film-1", "film", "film-7", map[string]any{"frames": 25})); err != nil {
		return err
	}
	frames, err := c.Get(ctx, "@film-7.frames")
	if err != nil {
		return err
	}
	fmt.Printf("film-7 has %s frames, and one attempt took longer than an attempt may be silent\n", frames.Raw)
	return nil
}

func operation(id, opType, target string, params map[string]any) op.Operation {
	return op.Operation{ID: id, Type: opType, Target: target, Params: client.Params(params)}
}
