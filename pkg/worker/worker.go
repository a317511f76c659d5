package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/executor"
	"github.com/hierarchy-bus/hierarchy/internal/service"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// ErrStopped: the worker was stopped before it ran, or ran before.
var ErrStopped = errors.New("worker: it was stopped, or has run already")

// Worker runs handlers. Its methods may be called from any goroutine; [Register]
// comes before [Worker.Run].
type Worker struct {
	nc    *nats.Conn
	own   bool // the connection is closed in the end
	opts  *options
	ready chan struct{}
	ended chan struct{}

	mu       sync.Mutex
	handlers map[string]*registration
	mistakes []error
	stop     context.CancelFunc // nil: it does not run
	over     bool               // it has run, or must not
}

// New returns a worker on a connection that stays the caller's. It should
// reconnect for as long as the worker lives ([nats.MaxReconnects] of -1).
func New(nc *nats.Conn, opts ...Option) *Worker { return newWorker(nc, read(opts)) }

// Connect connects to a NATS server and returns a worker that closes the
// connection in the end. The connection comes back by itself when it is lost.
func Connect(url string, opts ...Option) (*Worker, error) {
	o := read(opts)
	nc, err := nats.Connect(url, append([]nats.Option{nats.Name("hierarchy worker " + o.name), nats.MaxReconnects(-1)}, o.nats...)...)
	if err != nil {
		return nil, fmt.Errorf("worker: connect to %s: %w", url, err)
	}
	w := newWorker(nc, o)
	w.own = true
	return w, nil
}

func read(opts []Option) *options {
	o := &options{pool: DefaultPool, name: name(), logger: slog.New(slog.DiscardHandler)}
	for _, set := range opts {
		set(o)
	}
	return o
}

// name is unique, and says where the worker runs.
func name() string {
	host, _ := os.Hostname() // unknown is as good
	host = strings.Map(func(c rune) rune {
		if c < 128 && op.Token(string(c)) {
			return c
		}
		return '-'
	}, host)
	id := nuid.Next()
	return "worker-" + host[:min(len(host), 40)] + "-" + id[len(id)-8:]
}

func newWorker(nc *nats.Conn, o *options) *Worker {
	return &Worker{
		nc: nc, opts: o, ready: make(chan struct{}), ended: make(chan struct{}), handlers: map[string]*registration{},
	}
}

// register adds a handler, or notes why not.
func (w *Worker) register(kind string, r *registration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, builtin := op.BuiltinTypes()[kind]
	why := ""
	switch {
	case !op.Token(kind):
		why = "its name is not 1 to 64 characters out of A-Z a-z 0-9 _ -"
	case builtin:
		why = "it is built in"
	case w.handlers[kind] != nil:
		why = "it has a handler already"
	case w.over:
		why = "the worker runs already"
	}
	if why != "" {
		w.mistakes = append(w.mistakes, fmt.Errorf("worker: the type %.80q cannot be registered: %s", kind, why))
		return
	}
	w.handlers[kind] = r
}

// Ready is closed when the worker takes work.
func (w *Worker) Ready() <-chan struct{} { return w.ready }

// Name is who the worker is in records and logs.
func (w *Worker) Name() string { return w.opts.name }

// Run takes work until ctx ends or [Worker.Stop] is called, then takes no more,
// lets handlers that run finish within the drain timeout, hands the rest to other
// workers, and returns nil. A worker runs once.
//
// The error is for a mistake in the registration, for a policy that gives a type
// to another pool, for a server that is not set up or cannot be reached at the
// start, or [ErrStuck].
func (w *Worker) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	handlers, err := w.begin(cancel)
	if errors.Is(err, ErrStopped) {
		return err
	}
	defer close(w.ended)
	if w.own {
		defer w.nc.Close()
	}
	if err != nil {
		return err
	}
	b, err := bus.Open(ctx, w.nc)
	if err != nil {
		if ctx.Err() != nil {
			return nil // asked to end before there was anything to end
		}
		return fmt.Errorf("worker: %w", err)
	}
	if err := w.watch(ctx, b); err != nil {
		return err
	}
	stats := &executor.Stats{}
	s, err := service.Start(w.nc, service.Config{
		Role: "executor", Name: w.opts.name, Version: w.opts.version, Logger: w.opts.logger,
		Description: "Runs handlers of the pool " + w.opts.pool + ".",
		Metadata:    map[string]string{"pool": w.opts.pool, "types": strings.Join(slices.Sorted(maps.Keys(handlers)), ",")},
	})
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	s.Describe(func() any { return stats.Read() })
	first := sync.OnceFunc(func() { close(w.ready) })
	err = executor.Run(ctx, executor.Config{
		Bus: b, Name: w.opts.name, Pool: w.opts.pool, Logger: w.opts.logger, Stats: stats,
		Concurrency: w.opts.concurrency, DrainTimeout: w.opts.drain, Handlers: handlers,
		Ready: func(is bool) {
			s.SetReady(is)
			if is {
				first()
			}
		},
	})
	err = errors.Join(err, s.Stop())
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	return nil
}

// begin checks the registration and notes that the worker runs.
func (w *Worker) begin(cancel context.CancelFunc) (map[string]executor.Handler, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return nil, ErrStopped
	}
	w.stop, w.over = cancel, true
	if len(w.mistakes) > 0 {
		return nil, errors.Join(w.mistakes...)
	}
	if len(w.handlers) == 0 {
		return nil, errors.New("worker: there is no handler")
	}
	if !op.Token(w.opts.pool) || !op.Token(w.opts.name) {
		return nil, fmt.Errorf("worker: the pool %.80q and the name %.80q must be 1 to 64 characters out of A-Z a-z 0-9 _ -", w.opts.pool, w.opts.name)
	}
	handlers := map[string]executor.Handler{}
	for kind, r := range w.handlers {
		handlers[kind] = r.handler(w.opts.around)
	}
	return handlers, nil
}

// Stop has [Worker.Run] end as if its context had, and waits for that until ctx
// ends, whose error it returns. A worker that does not run will not run any more.
func (w *Worker) Stop(ctx context.Context) error {
	w.mu.Lock()
	stop := w.stop
	if stop == nil && !w.over {
		w.over = true
		close(w.ended)
		if w.own {
			w.nc.Close()
		}
	}
	w.mu.Unlock()
	if stop != nil {
		stop()
	}
	select {
	case <-w.ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("worker: handlers are still running: %w", context.Cause(ctx))
	}
}

// watch compares the policy with what is registered, now and when it changes. A
// worker that waits for work which goes elsewhere would wait without a word.
func (w *Worker) watch(ctx context.Context, b *bus.Bus) error {
	data, known, err := b.Policy(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("worker: read the policy: %w", err)
	}
	if err := w.compare(data, known); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	err = b.WatchPolicy(ctx, func(data []byte, rev uint64) {
		if rev <= known {
			return
		}
		if err := w.compare(data, rev); err != nil {
			w.opts.logger.Warn("a new policy does not fit", "revision", rev, "error", err)
		}
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("worker: read the policy: %w", err)
	}
	return nil
}

// compare says which type goes to another pool, and warns of those that nobody can
// submit. A policy that cannot be read is in force nowhere.
func (w *Worker) compare(data []byte, rev uint64) error {
	policy, err := arbiter.ParsePolicy(data, rev)
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	w.mu.Lock()
	kinds := slices.Sorted(maps.Keys(w.handlers))
	w.mu.Unlock()
	for _, kind := range kinds {
		t, ok := policy.Types[kind]
		if !ok {
			w.opts.logger.Warn("the policy does not know a type, so nobody can submit operations of it", "op_type", kind, "revision", rev)
			continue
		}
		pool := t.Pool
		if pool == "" {
			pool = op.DefaultPool
		}
		if pool != w.opts.pool {
			return fmt.Errorf("the policy gives the type %s to the pool %s, and this worker is of the pool %s", kind, pool, w.opts.pool)
		}
	}
	return nil
}
