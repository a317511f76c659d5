package executor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Defaults of [Config].
const (
	DefaultConcurrency  = 64
	DefaultDrainTimeout = 10 * time.Second
	DefaultMaxAbandoned = 1024
	DefaultLease        = 30 * time.Second // of work that does not say
)

// A report waits for a commit and costs no processor, so it must not keep a
// handler from starting: rate = attempts in flight / latency of a commit. These
// are the attempts in flight for each handler that may run. A quarter as many may
// be fetched ahead, with their leases running, which is nothing to the built-in
// types and much to handlers that take seconds.
const (
	inFlightBuiltin = 16
	inFlightCustom  = 2
)

// Config is what an executor needs. Bus and Name are required.
type Config struct {
	Bus    *bus.Bus
	Name   string // of this process, for records and logs
	Logger *slog.Logger

	// Pool whose work is taken; "" is op.DefaultPool. All executors of a pool
	// share its work, so all of them must be able to do it: a type with handlers
	// of its own belongs in a pool of its own.
	Pool string
	// Concurrency bounds the handlers that run at once; 0 means
	// DefaultConcurrency.
	Concurrency int
	// DrainTimeout bounds how long attempts that run when ctx ends may go on,
	// their reports included; 0 means DefaultDrainTimeout.
	DrainTimeout time.Duration
	// MaxAbandoned bounds the handlers that do not return although their attempt
	// is over and that no longer count as running: each keeps its goroutine and
	// its memory. Those above keep their slots, see [ErrStuck]. 0 means
	// DefaultMaxAbandoned, less than 0 none.
	MaxAbandoned int
	// Handlers serve custom types by name. A built-in type cannot be replaced.
	// Other types that the policy gives to the pool are asked for over NATS, see
	// [HandlerSubject].
	Handlers map[string]Handler
	// Ready is told when work is being fetched, and when it no longer is. It
	// may be nil.
	Ready func(bool)
	// Metrics are for a scrape; nil counts for nobody.
	Metrics *metrics.Executor
	// Stats, if set, is counted into; otherwise the executor has its own.
	Stats *Stats
	// Before is for fault injection in tests and demonstrations only: it runs
	// before the attempt, and its error becomes the attempt's failure. It may
	// panic, and it may block for as long as it likes.
	Before func(op.Work) error
}

func (c *Config) defaults() error {
	if c.Bus == nil || c.Name == "" {
		return errors.New("executor: a bus and a name are required")
	}
	return c.complete()
}

// complete fills in what is left out, except for the bus.
func (c *Config) complete() error {
	builtin := op.BuiltinTypes()
	for name := range c.Handlers {
		if _, taken := builtin[name]; taken {
			return fmt.Errorf("executor: the built-in type %s cannot be replaced", name)
		}
	}
	if c.Pool == "" {
		c.Pool = op.DefaultPool
	}
	if !op.Token(c.Pool) {
		return fmt.Errorf("executor: pool %.80q is not a token", c.Pool)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Concurrency <= 0 {
		c.Concurrency = DefaultConcurrency
	}
	if c.DrainTimeout <= 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	if c.MaxAbandoned == 0 {
		c.MaxAbandoned = DefaultMaxAbandoned
	}
	if c.Ready == nil {
		c.Ready = func(bool) {}
	}
	if c.Stats == nil {
		c.Stats = new(Stats)
	}
	if c.Metrics == nil {
		var nobody *metrics.Registry
		c.Metrics = nobody.Executor()
	}
	return nil
}

// Run executes until ctx ends, then stops fetching, finishes what runs within
// DrainTimeout, hands back what has not started, and returns nil. Handlers that do
// not return even then are left behind. The error is for a configuration that
// makes no sense, a queue that cannot be read, or [ErrStuck].
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.defaults(); err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	e := newExecutor(cfg, cfg.Bus, realWorld())
	rumours := newRumours(cfg.Bus.Conn())
	e.fail, e.hear, e.remote = fail, rumours.listen, newRemote(cfg.Bus.Conn(), cfg.Logger)
	cfg.Metrics.Capacity.Add(float64(cfg.Concurrency))
	defer cfg.Metrics.Capacity.Sub(float64(cfg.Concurrency))
	// What runs when ctx ends goes on: only the drain's end stops it.
	running, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	if err := cfg.Bus.WatchPolicy(running, e.types.put); err != nil {
		return fmt.Errorf("executor: read the policy: %w", err)
	}
	go rumours.run(running.Done())
	defer e.listen()()
	defer e.remote.listen()()
	err := e.work(ctx, running)
	cfg.Ready(false)
	e.drain(stop)
	if errors.Is(context.Cause(ctx), ErrStuck) {
		return context.Cause(ctx)
	}
	return err
}

type executor struct {
	cfg      Config
	bus      Log
	world    World
	log      *slog.Logger
	stats    *Stats
	metrics  *metrics.Executor
	builtin  op.Types
	types    *types
	remote   *remote
	hear     func(*hold) (stop func()) // has an attempt hear of what it may have missed
	stir     func(h *hold, done <-chan outcome, answers <-chan pulse, d time.Duration) (outcome, bool)
	handlers chan struct{} // a slot for each handler that may run
	reigns   reigns
	wg       sync.WaitGroup // of attempts and their heartbeats

	abandoned, stuck atomic.Int64 // handlers that do not return: without a slot, and with one
	fail             context.CancelCauseFunc
}

func newExecutor(cfg Config, log Log, world World) *executor {
	return &executor{
		cfg: cfg, bus: log, world: world, log: cfg.Logger.With("executor", cfg.Name), stats: cfg.Stats, metrics: cfg.Metrics,
		builtin: op.BuiltinTypes(), handlers: make(chan struct{}, cfg.Concurrency), types: newTypes(&cfg, log),
		stir: (*hold).stir, fail: func(error) {},
	}
}

// spawn runs f beside an attempt; the drain waits for it.
func (e *executor) spawn(f func()) {
	e.wg.Add(1)
	e.world.Go(func() {
		defer e.wg.Done()
		f()
	})
}

// work fetches and starts attempts until ctx ends. How much is fetched ahead
// depends on what the pool does, which a new policy may change.
func (e *executor) work(ctx, running context.Context) error {
	for begun := false; ctx.Err() == nil; begun = true {
		err := e.round(ctx, running)
		switch {
		case err == nil || ctx.Err() != nil:
		case !begun || errors.Is(err, errFeed):
			return fmt.Errorf("executor: read work: %w", err)
		default: // it has worked before
			e.log.Warn("work cannot be fetched for the moment", "error", err)
			_ = bus.Sleep(ctx, lastPause)
		}
	}
	return nil
}

// queuePatience is when an executor that cannot begin says what it waits for. It may
// be an election, or a right that it lacks: neither has an answer.
const queuePatience = 10 * time.Second

// errFeed: the queue is of no use any more.
var errFeed = errors.New("the feed has ended")

// round is [executor.work] until the pool does something else.
func (e *executor) round(ctx, running context.Context) error {
	custom, changed := e.types.custom()
	inFlight := inFlightBuiltin
	if custom {
		inFlight = inFlightCustom
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	slow := time.AfterFunc(queuePatience, func() {
		e.log.Warn("the work queue does not answer; still waiting for it", "pool", e.cfg.Pool)
	})
	feed, err := e.cfg.Bus.Work(ctx, e.cfg.Pool, e.cfg.Concurrency*inFlight)
	slow.Stop()
	if err != nil {
		return err
	}
	go func() {
		select {
		case <-changed:
			end()
		case <-ctx.Done():
		}
	}()
	e.cfg.Ready(true)
	e.serve(ctx, running, feed.C())
	if err := feed.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", errFeed, err)
	}
	return nil
}

// serve starts an attempt for each item until ctx or the feed ends. A handler's
// slot comes first: work that is not taken has no lease running here, and another
// executor can have it. The feed bounds how many are in flight.
func (e *executor) serve(ctx, running context.Context, work <-chan bus.WorkItem) {
	for {
		select {
		case <-ctx.Done():
			e.handBack(work)
			return
		case e.handlers <- struct{}{}:
		}
		select {
		case <-ctx.Done():
			<-e.handlers
			e.handBack(work)
			return
		case m, ok := <-work:
			if !ok {
				<-e.handlers
				return
			}
			received := time.Now()
			e.wg.Go(func() { e.attempt(running, m, received) })
		}
	}
}

// handBack returns work that was fetched and not started, so that another
// executor has it at once instead of after the server's patience.
func (e *executor) handBack(work <-chan bus.WorkItem) {
	for {
		select {
		case m, ok := <-work:
			if !ok {
				return
			}
			e.giveBack(m)
		default:
			return
		}
	}
}

func (e *executor) giveBack(m bus.WorkItem) {
	m.Nak(0)
	e.stats.HandedBack.Add(1)
	e.metrics.Dropped.WithLabelValues("shutdown").Inc()
}

// drain waits for what runs, and calls stop when the time for that is over.
func (e *executor) drain(stop context.CancelCauseFunc) {
	done := make(chan struct{})
	go func() {
		e.wg.Wait()
		close(done)
	}()
	t := time.NewTimer(e.cfg.DrainTimeout)
	defer t.Stop()
	select {
	case <-done:
		return
	case <-t.C:
	}
	e.log.Warn("attempts were left unfinished, to another executor or the end of their leases", "attempts", e.stats.InFlight.Load())
	stop(ErrDrained)
	<-done
}
