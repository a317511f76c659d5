package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
)

// Config is what a resolver needs. Bus and Name are required.
type Config struct {
	Bus    *bus.Bus
	Name   string // unique among the resolvers
	Logger *slog.Logger

	// LeaseTTL is how long a silent resolver counts as alive; its partitions
	// move to others afterwards. 0 means 2 s; the least is 1 s.
	LeaseTTL time.Duration
	// SnapshotEvery is the number of steps between two snapshots of a
	// partition; it bounds the work of a take-over. 0 means 5,000.
	SnapshotEvery uint64
	// Ready is told whether every partition assigned to this resolver is being
	// served. It may be nil and is called from one goroutine at a time.
	Ready func(bool)
	// Metrics are for a scrape; nil counts for nobody.
	Metrics *metrics.Resolver
}

func (c *Config) defaults() {
	if c.LeaseTTL <= 0 {
		c.LeaseTTL = 2 * time.Second
	}
	if c.SnapshotEvery == 0 {
		c.SnapshotEvery = 5000
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		var nobody *metrics.Registry
		c.Metrics = nobody.Resolver()
	}
	if c.Ready == nil {
		c.Ready = func(bool) {}
	}
}

// errDeposed: another resolver has taken the partition over.
var errDeposed = errors.New("resolver: deposed: another resolver has taken the partition over")

// Run serves the partitions that fall to this resolver until ctx ends; then it
// finishes what is being committed, emits it, and gives its lease back. It
// returns nil after a clean end, and an error only when it could not begin.
func Run(ctx context.Context, cfg Config) error {
	cfg.defaults()
	log := cfg.Logger.With("resolver", cfg.Name)
	board := newBoard(log, cfg.Bus.Layout().Partitions, cfg.refused(ctx, log), keepTo)
	watch, stop := context.WithCancel(ctx)
	defer stop()
	if err := cfg.Bus.WatchPolicy(watch, board.put); err != nil {
		return fmt.Errorf("resolver: read the policy: %w", err)
	}
	member, err := cfg.Bus.Join(ctx, cfg.Name, cfg.LeaseTTL)
	if err != nil {
		return fmt.Errorf("resolver: join: %w", err)
	}
	s := &supervisor{
		cfg: cfg, ctx: ctx, log: log, member: member, owned: map[int]*served{},
		node: newNode(&cfg, onBus{cfg.Bus}, realWorld(), board),
	}
	s.node.pace = newPace(func(pause time.Duration) { cfg.Metrics.Pause.Set(pause.Seconds()) })
	s.run(ctx)
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := member.Leave(leave); err != nil {
		s.log.Warn("the lease could not be given back and will run out", "error", err)
	}
	return nil
}

// supervisor starts and stops partitions as members come and go.
type supervisor struct {
	cfg    Config
	ctx    context.Context //nolint:containedctx // the life of the role
	log    *slog.Logger
	member *bus.Membership
	node   *Node
	wg     sync.WaitGroup

	mu    sync.Mutex
	owned map[int]*served
	ready bool
}

type served struct {
	cancel  context.CancelFunc
	done    chan struct{}
	serving bool
}

func (s *supervisor) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		s.assign(ctx)
		select {
		case <-ctx.Done():
			s.wg.Wait()
			return
		case <-s.member.Changed():
		case <-tick.C: // in case a change was missed
		}
	}
}

// assign makes the partitions served here the ones that fall to this member.
func (s *supervisor) assign(ctx context.Context) {
	members := s.member.Members()
	s.cfg.Metrics.Members.Set(float64(len(members)))
	for p := range s.cfg.Bus.Layout().Partitions {
		mine := bus.Owner(members, p) == s.cfg.Name
		s.mu.Lock()
		have := s.owned[p]
		switch {
		case mine && have == nil && ctx.Err() == nil:
			s.start(ctx, p)
		case !mine && have != nil:
			have.cancel()
		}
		s.mu.Unlock()
	}
	s.tell()
}

func (s *supervisor) start(ctx context.Context, p int) {
	ctx, cancel := context.WithCancel(ctx)
	v := &served{cancel: cancel, done: make(chan struct{})}
	s.owned[p] = v
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		s.serve(ctx, p, v)
		cancel()
		s.mu.Lock()
		delete(s.owned, p)
		s.mu.Unlock()
		s.tell()
	}()
}

// serve takes the partition over and over until it no longer falls to us.
func (s *supervisor) serve(ctx context.Context, p int, v *served) {
	log := s.log.With("partition", p)
	for ctx.Err() == nil {
		err := s.own(ctx, p, v, log)
		s.setServing(v, false)
		if ctx.Err() != nil {
			return
		}
		pause := 20*time.Millisecond + rand.N(80*time.Millisecond)
		if errors.Is(err, errDeposed) {
			// Whoever deposed us believed that the partition was theirs: let
			// the news about the members arrive before we try again.
			pause = 200*time.Millisecond + rand.N(300*time.Millisecond)
			if bus.Owner(s.member.Members(), p) != s.cfg.Name {
				return
			}
		}
		log.Warn("partition will be taken over again", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (s *supervisor) own(ctx context.Context, id int, v *served, log *slog.Logger) error {
	p := s.node.partition(id, log)
	defer p.close()
	begun := time.Now()
	if err := p.takeOver(ctx); err != nil {
		return err
	}
	m := s.cfg.Metrics
	m.TakeoverSeconds.Observe(time.Since(begun).Seconds())
	m.Takeovers.Inc()
	m.Partitions.Inc()
	defer m.Partitions.Dec()
	defer m.OpenOperations.DeleteLabelValues(partitionToken(id))
	defer m.OldestPending.DeleteLabelValues(partitionToken(id))
	s.setServing(v, true)
	log.Info("partition taken over", "epoch", p.epoch, "step", p.number, "open", p.machine.Open())
	return p.run(ctx)
}

func (s *supervisor) setServing(v *served, on bool) {
	s.mu.Lock()
	v.serving = on
	s.mu.Unlock()
	s.tell()
}

// tell reports readiness when it has changed.
func (s *supervisor) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	ready := s.ctx.Err() == nil
	members := s.member.Members()
	for p := range s.cfg.Bus.Layout().Partitions {
		if bus.Owner(members, p) == s.cfg.Name && (s.owned[p] == nil || !s.owned[p].serving) {
			ready = false
		}
	}
	if ready != s.ready {
		s.ready = ready
		s.cfg.Ready(ready)
	}
}
