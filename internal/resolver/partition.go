package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/arbiter"
	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/registry"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// Bounds of the inputs of one step, which must fit into one message of 1 MiB
// together with its effects: internal/arbiter bounds those. One intake message,
// at most op.MaxBulk operations in op.MaxBulkBody bytes, may go over it.
const (
	maxInputs     = 500
	maxInputBytes = 200 << 10
)

// What an input takes in a step beside its own bytes, with what follows from it
// at once.
const (
	submitBytes  = 300
	invalidBytes = 500
	resultBytes  = 600
	kinBytes     = 150
	policyBytes  = arbiter.MaxPolicyBytes
)

// partition is one partition for as long as this process owns it. Everything but
// the channels and the crowds belongs to the goroutine of run.
type partition struct {
	id      int
	cfg     *Config
	bus     Log
	world   World
	log     *slog.Logger
	kinship *kinship
	pace    *pace
	crowds  crowds

	epoch   uint64
	number  uint64
	cursor  uint64
	seq     uint64 // stream sequence of the last step: the fence
	clock   clock
	looked  time.Time // when it was certain, last, that nobody else is the owner
	machine *arbiter.Machine
	heads   *heads
	emitter *emission
	board   *board
	kin     chan arbiter.Input
	results chan report
	asked   chan question
	seeking int // questions that are away on a search

	registry     *registry.Registry // of the policy in force
	seen         *seen
	takeoverStep uint64
	changes      map[int]applied    // by input of the step at hand
	ended        []string           // operations that ended in the step at hand
	decisions    map[string]uint64  // journal sequence of the last decision about each open operation
	shared       map[string]outcome // of operations that others were coalesced into
	ages         ages               // of the open operations
	crowd        loadNews

	consumed     atomic.Uint64 // the cursor, for the trimmer
	lastSnapshot uint64
}

// gathered is what will become one step.
type gathered struct {
	in      []arbiter.Input
	reports []report
	owner   []int // by input: its report, -1 for none
	cursor  uint64
	bytes   int
}

func (g *gathered) full() bool { return len(g.in) >= maxInputs || g.bytes >= maxInputBytes }

func (g *gathered) add(in arbiter.Input, bytes int) {
	g.in = append(g.in, in)
	g.owner = append(g.owner, -1)
	g.bytes += bytes
}

// run serves the partition until ctx ends, it is deposed, or the outcome of a
// commit stays unknown.
func (p *partition) run(ctx context.Context) error {
	feedCtx, stop := context.WithCancel(ctx)
	defer stop()
	unsubscribe, err := p.cfg.Bus.Results(p.id, func(data []byte, reply func([]byte)) { p.receive(feedCtx, data, reply) })
	if err != nil {
		return fmt.Errorf("resolver: subscribe to results: %w", err)
	}
	defer unsubscribe()
	unask, err := p.cfg.Bus.WhatIfs(p.id, func(data []byte, reply func([]byte)) { p.whatIf(feedCtx, data, reply) })
	if err != nil {
		return fmt.Errorf("resolver: subscribe to dry runs: %w", err)
	}
	defer unask()
	p.kinship.passed(p.id, p.reached())
	defer p.kinship.gone(p.id)
	feed, err := p.cfg.Bus.Intake(feedCtx, p.id, p.cursor)
	if err != nil {
		return fmt.Errorf("resolver: read the intake: %w", err)
	}
	emitted := make(chan error, 1)
	emitCtx, stopEmission := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEmission()
	go func() { emitted <- p.emitter.run(emitCtx) }()
	p.consumed.Store(p.cursor)
	go p.trimmer(feedCtx)

	err = p.loop(ctx, feedCtx, feed, emitted)
	close(p.emitter.queue)
	if err == nil || errors.Is(err, errDeposed) {
		// What is committed is told before we go; whoever comes next would
		// tell it again otherwise.
		grace := time.AfterFunc(2*time.Second, stopEmission)
		<-emitted
		grace.Stop()
	}
	return err
}

// close releases what outlives the loop.
func (p *partition) close() {
	if p.emitter != nil {
		p.emitter.out.Close()
	}
}

func (p *partition) loop(ctx, feedCtx context.Context, feed *bus.IntakeFeed, emitted <-chan error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	for {
		g, news, alone := p.begin(feedCtx)
		if alone {
			if err := p.step(ctx, g); err != nil {
				return err
			}
			continue
		}
		timer.Reset(p.idle())
		if len(g.in) > 0 {
			timer.Reset(0) // nothing to wait for
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-emitted:
			return fmt.Errorf("resolver: emission ended: %w", err)
		case m, ok := <-feed.C():
			if !ok {
				return fmt.Errorf("resolver: the intake feed ended: %w", errors.Join(feed.Err(), ctx.Err()))
			}
			p.take(g, m)
		case r := <-p.results:
			g.report(r)
		case in := <-p.kin:
			g.add(in, kinBytes)
		case q := <-p.asked:
			p.foresee(feedCtx, q)
		case <-news:
		case <-tick.C:
		case <-timer.C:
		}
		p.gather(g, feed.C())
		if err := p.step(ctx, g); err != nil {
			return err
		}
	}
}

// begin is what every round begins with: it asks for what the machine misses and
// takes a newer policy. alone means that there is a step to be made at once, of
// what the last one had no room for, which comes first.
func (p *partition) begin(ctx context.Context) (g *gathered, news <-chan struct{}, alone bool) {
	p.ask(ctx)
	p.watch(p.world.Now())
	g = &gathered{cursor: p.cursor}
	if p.machine.Backlog() {
		return g, nil, true
	}
	rules, news := p.board.newer(p.machine.Policy().Revision)
	if rules != nil {
		p.registry = rules.registry
		g.add(arbiter.Input{Policy: rules.policy}, policyBytes)
	}
	return g, news, false
}

// gather adds whatever else is there already: the commit before was the time it
// had to arrive, and waiting longer would only add latency.
func (p *partition) gather(g *gathered, feed <-chan bus.IntakeMsg) {
	for !g.full() {
		select {
		case r := <-p.results:
			g.report(r)
			continue
		default:
		}
		select {
		case in := <-p.kin:
			g.add(in, kinBytes)
			continue
		default:
		}
		select {
		case m, ok := <-feed:
			if !ok {
				return // the next round of the loop sees it
			}
			p.take(g, m)
		default:
			return
		}
	}
}

// idle is how long it is until there is something to do without anything having
// arrived.
func (p *partition) idle() time.Duration {
	now := p.clock.now()
	wait := p.looked.Add(lookEvery).Sub(now)
	if at, ok := p.machine.Next(); ok {
		wait = min(wait, at.Sub(now))
	}
	return max(0, wait)
}

// lookEvery is how often an owner that has nothing to commit makes sure that it
// still is the owner.
const lookEvery = 5 * time.Second

// lookBack finds out that another process has taken the partition over. Commits
// find out by themselves; but when there is none to make, and the other has died
// since, nobody would tell that take-over: whoever waits for the partition to have
// told everything would wait for ever.
func (p *partition) lookBack(ctx context.Context) error {
	now := p.clock.now()
	if now.Sub(p.looked) < lookEvery {
		return nil
	}
	last, _, err := p.bus.JournalLast(ctx, p.id)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the loop sees it, and goes in order
	}
	if err != nil {
		return fmt.Errorf("resolver: read the end of the journal: %w", err)
	}
	p.looked = now
	if last.Seq > p.seq {
		return errDeposed
	}
	return nil
}

// step turns what was gathered into one committed step.
func (p *partition) step(ctx context.Context, g *gathered) error {
	now := p.clock.now()
	if next, ok := p.machine.Next(); len(g.in) == 0 && g.cursor == p.cursor && (!ok || next.After(now)) {
		return p.lookBack(ctx) // the timer fired early; nothing is due
	}
	now = later(now, p.machine.At())
	if err := p.recognise(ctx, g); err != nil {
		return err
	}
	if err := p.prepare(ctx, g, now); err != nil {
		return err
	}
	s := &arbiter.Step{
		Schema: arbiter.StepSchema, ID: p.world.NewID(), Partition: p.id, Number: p.number + 1,
		Epoch: p.epoch, Owner: p.cfg.Name, At: now, Cursor: g.cursor, In: g.in,
	}
	p.crowd.arrived += len(g.in)
	p.machine.Step(s)
	if err := p.commit(ctx, s, g); err != nil {
		return err
	}
	p.housekeeping(ctx)
	return nil
}

// commit makes the step durable and hands over what follows from it. This is the
// one place where the order is kept: decide, append, emit.
func (p *partition) commit(ctx context.Context, s *arbiter.Step, g *gathered) error {
	data, err := op.Marshal(s)
	if err != nil {
		return fmt.Errorf("resolver: encode step: %w", err)
	}
	// A commit that has begun is finished even when the role is asked to stop.
	appendCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	begun := time.Now()
	seq, outcome, err := p.bus.JournalAppend(appendCtx, p.id, s.ID, data, p.seq)
	switch outcome {
	case bus.Committed:
	case bus.Deposed:
		p.cfg.Metrics.StaleCommits.Inc()
		p.tellStaleCommit(ctx, s)
		return errDeposed
	default:
		p.cfg.Metrics.UnknownOutcomes.Inc()
		return fmt.Errorf("resolver: outcome of step %d unknown: %w", s.Number, err)
	}
	p.seq, p.number, p.cursor, p.looked = seq, s.Number, s.Cursor, s.At
	p.consumed.Store(p.cursor)
	p.count(s, len(data), time.Since(begun))
	out, err := p.outputs(ctx, s, seq)
	if err != nil {
		return err
	}
	p.answer(s, g)
	p.kinship.passed(p.id, p.reached())
	select {
	case p.emitter.queue <- out:
		return nil
	case <-p.emitter.ended:
		return errors.New("resolver: emission ended")
	case <-ctx.Done():
		return ctx.Err() // committed; whoever comes next tells it
	}
}

// reached is how far the partition has come, for those who look for ancestors.
func (p *partition) reached() reached {
	return reached{cursor: p.cursor, seq: p.seq, step: p.number, told: p.emitter.emitted.Load}
}

func (p *partition) tellStaleCommit(ctx context.Context, s *arbiter.Step) {
	p.log.Warn("step refused: the partition has another owner", "step", s.Number, "epoch", s.Epoch)
	part := p.id
	e := op.Event{
		Type: op.EventType, Name: op.EventStaleCommit, ID: "stale-" + s.ID, At: s.At, Process: p.cfg.Name,
		Partition: &part, Epoch: s.Epoch,
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	body, err := op.Marshal(e)
	if err == nil {
		_, err = p.bus.Publish(ctx, bus.EventSubject(e.Name, partitionToken(p.id)), body, "", nil)
	}
	if err != nil {
		p.log.Warn("the refusal could not be published", "error", err)
	}
}
