package observer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
)

// Intervals of the observer's own work.
const (
	probeEvery   = 5 * time.Second
	probeTimeout = 4 * time.Second
)

// Config says how to observe. Bus and Name are required.
type Config struct {
	Bus     *bus.Bus
	Name    string            // of the instance
	Version string            // of the program
	Logger  *slog.Logger      // nil drops everything
	Metrics *metrics.Observer // nil: nobody scrapes
	Ready   func(bool)        // told true once the journal is read up to its end at the start; nil: nobody asks
	Console io.Writer         // one line per interesting event that happens from now on; nil: none
	// ProbeEvery is how often the server is asked how it does; 0 means 5 s. What
	// changes without a step is kept up at the metrics_collection_interval of the
	// policy.
	ProbeEvery time.Duration
}

// Observer follows the journal. Its methods may be called from any goroutine.
type Observer struct {
	cfg     Config
	log     *slog.Logger
	process *metrics.Process
	console *Console
	live    *live          // for the goroutine that follows the journal
	answers sync.WaitGroup // to questions of the API
	policy  atomic.Pointer[arbiter.RolePolicy]

	mu     sync.Mutex
	p      *projection
	probe  probe
	caught bool
}

// New returns an observer that has not read anything yet.
func New(cfg Config) (*Observer, error) {
	if cfg.Bus == nil || cfg.Name == "" {
		return nil, errors.New("observer: a bus and a name are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = (*metrics.Registry)(nil).Observer()
	}
	if cfg.Ready == nil {
		cfg.Ready = func(bool) {}
	}
	if cfg.ProbeEvery <= 0 {
		cfg.ProbeEvery = probeEvery
	}
	o := &Observer{
		cfg: cfg, log: cfg.Logger, process: metrics.NewProcess(), p: newProjection(cfg.Metrics),
		probe: probe{good: time.Now()}, live: newLive(cfg.Bus, cfg.Metrics),
	}
	if cfg.Console != nil {
		o.console = NewConsole(cfg.Console)
	}
	return o, nil
}

// Run observes until ctx ends, which is no error. See [Observer.Run].
func Run(ctx context.Context, cfg Config) error {
	o, err := New(cfg)
	if err != nil {
		return err
	}
	return o.Run(ctx)
}

// Run follows the journal from its first entry, serves the API and keeps the
// metrics until ctx ends, which is no error. It may be called once.
func (o *Observer) Run(ctx context.Context) error {
	first, last, err := o.cfg.Bus.JournalBounds(ctx)
	if err != nil {
		return err
	}
	o.live.begin(first)
	o.mu.Lock()
	o.audited()
	o.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	if err := o.keepTo(ctx); err != nil {
		return fmt.Errorf("observer: policy: %w", err)
	}
	s, err := o.serve(ctx)
	if err != nil {
		return err
	}
	ready := func(is bool) {
		s.SetReady(is)
		o.cfg.Ready(is)
	}
	g.Go(func() error { return o.follow(ctx, last, func() { ready(true) }) })
	g.Go(func() error { o.collect(ctx); return nil })
	g.Go(func() error { o.tellViolations(ctx); return nil })
	err = g.Wait()
	ready(false)
	err = errors.Join(err, s.Stop())
	o.answers.Wait()
	return err
}

// follow folds the journal. caughtUp is called once, when the entry with sequence
// last is read.
func (o *Observer) follow(ctx context.Context, last uint64, caughtUp func()) error {
	if last == 0 {
		o.setCaught()
		caughtUp()
	}
	for e, err := range o.cfg.Bus.JournalFollow(ctx, 0) {
		if err != nil {
			return fmt.Errorf("observer: journal: %w", err)
		}
		o.entry(&e)
		if e.Seq >= last && !o.isCaught() {
			o.setCaught()
			caughtUp()
		}
	}
	return nil
}

func (o *Observer) setCaught() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.caught = true
	o.log.Info("journal read", "seq", o.p.last, "open_operations", len(o.p.ops))
}

func (o *Observer) isCaught() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.caught
}

// entry folds one entry of the journal. One that cannot be read is counted: the
// rest of the journal is still worth showing.
func (o *Observer) entry(e *bus.Entry) {
	s, err := decode(e)
	o.live.entry(e, s)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.audited()
	if err != nil {
		o.log.Error("journal entry not read", "seq", e.Seq, "error", err)
		o.p.unreadable(e.Seq, e.Time)
		return
	}
	o.p.apply(e.Seq, e.Time, s)
	now := time.Now()
	o.cfg.Metrics.Lag.Set(max(now.Sub(e.Time), 0).Seconds())
	if o.console == nil || !o.caught {
		return
	}
	for _, l := range Lines(e.Seq, s) {
		if !l.Quiet {
			o.console.Show(now, l)
		}
	}
}

// audited shows what the live audit has found. Whoever asks for that has to hear
// when it has ended. The lock is held.
func (o *Observer) audited() {
	t := &o.p.total
	if t.Unaudited == "" && o.live.stopped != "" {
		o.log.Warn("the journal is not audited any more", "why", o.live.stopped)
	}
	t.Violations, t.Unaudited = o.live.count, o.live.stopped
}

// collect keeps up what changes without a step: ages, rates, the state of the
// server.
func (o *Observer) collect(ctx context.Context) {
	q := &prober{b: o.cfg.Bus, m: o.cfg.Metrics}
	every := o.roles().MetricsInterval
	collect, probe := time.NewTicker(every), time.NewTicker(o.cfg.ProbeEvery)
	defer collect.Stop()
	defer probe.Stop()
	o.ask(ctx, q)
	for {
		o.gauges()
		select {
		case <-ctx.Done():
			return
		case <-probe.C:
			o.ask(ctx, q)
		case now := <-collect.C:
			if e := o.roles().MetricsInterval; e != every {
				every = e
				collect.Reset(every)
			}
			if o.console != nil {
				o.console.Flush(now)
			}
		}
	}
}

func (o *Observer) ask(ctx context.Context, q *prober) {
	o.mu.Lock()
	last, cursors := o.probe, o.p.cursors()
	o.mu.Unlock()
	limited, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	p := q.ask(limited, time.Now(), last, cursors)
	if ctx.Err() != nil {
		return
	}
	if p.err != nil {
		o.log.Warn("the server did not answer a probe", "error", p.err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.probe = p
}

func (o *Observer) gauges() {
	s := o.Stats()
	o.p.gauges(&s)
	h := o.Health()
	for _, status := range HealthStatuses() {
		is := 0.0
		if status == h.Status {
			is = 1
		}
		o.cfg.Metrics.Health.WithLabelValues(string(status)).Set(is)
	}
}

// Stats is the projection as it is now.
func (o *Observer) Stats() Stats {
	o.mu.Lock()
	s := o.p.stats(time.Now())
	o.mu.Unlock()
	s.MemoryMB = float64(o.process.Memory()) / 1e6
	s.CPUPercent = o.process.CPU() * 100
	return s
}

// Health is the health of the system as it is now: the journal as far as it is
// read, and the last answers of the server, at most a few seconds old.
func (o *Observer) Health() Health {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	return judge(&vitals{now: now, caught: o.caught, stats: o.p.stats(now), probe: o.probe})
}
