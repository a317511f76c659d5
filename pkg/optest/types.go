package optest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/cluster"
	"github.com/hierarchy-bus/hierarchy/pkg/worker"
)

// WithType registers an operation type and runs its handler in a worker of the
// system: A's Kind is the name, and schema is the JSON Schema of the params, or ""
// for any. The function of a [worker.Handler] is its method: h.Handle.
//
//	optest.WithType(`{"required":["name"]}`, func(ctx context.Context, job *worker.Job[Greet]) (worker.Effect, error) {
//		return worker.Set("greeting", "Hello, "+job.Args.Name), nil
//	})
//
// Everything else about the type is for [WithPolicy] to say:
// {"types":{"greet":{"max_retries":1}}}.
func WithType[A worker.Args](schema string, h worker.HandlerFunc[A], opts ...TypeOption) Option {
	return func(c *config) error {
		var zero A
		t := &typeConfig{pool: worker.DefaultPool}
		for _, o := range opts {
			o(t)
		}
		fields := map[string]any{"pool": t.pool}
		if schema != "" {
			if !json.Valid([]byte(schema)) {
				return fmt.Errorf("optest: the schema of %s is not JSON", zero.Kind())
			}
			fields["schema"] = json.RawMessage(schema)
		}
		c.rules.addType(zero.Kind(), fields)
		pool := c.workers[t.pool]
		if pool == nil {
			pool = &handlers{}
			c.workers[t.pool] = pool
		}
		pool.register = append(pool.register, func(w *worker.Worker) { worker.Register(w, h, t.handler...) })
		return nil
	}
}

// TypeOption changes how [WithType] registers a type.
type TypeOption func(*typeConfig)

type typeConfig struct {
	pool    string
	handler []worker.HandlerOption
}

// InPool gives the type to another pool than [worker.DefaultPool]. Each pool has a
// worker of its own.
func InPool(name string) TypeOption { return func(t *typeConfig) { t.pool = name } }

// WithHandlerOption passes an option to [worker.Register].
func WithHandlerOption(o worker.HandlerOption) TypeOption {
	return func(t *typeConfig) { t.handler = append(t.handler, o) }
}

// handlers are those of one pool.
type handlers struct {
	register []func(*worker.Worker)
}

// workers are the workers of all types.
func workers(c *config) (all []cluster.Worker) {
	for _, pool := range slices.Sorted(maps.Keys(c.workers)) {
		name := "worker-1"
		if pool != worker.DefaultPool {
			name = "worker-" + pool + "-1"
		}
		all = append(all, cluster.Worker{Name: name, New: func(nc *nats.Conn) *worker.Worker {
			opts := []worker.Option{
				worker.WithName(name), worker.WithPool(pool), worker.WithConcurrency(c.Concurrency), worker.WithDrainTimeout(c.Drain),
			}
			if c.Logger != nil {
				opts = append(opts, worker.WithLogger(c.Logger))
			}
			w := worker.New(nc, opts...)
			for _, register := range c.workers[pool].register {
				register(w)
			}
			return w
		}})
	}
	return all
}
