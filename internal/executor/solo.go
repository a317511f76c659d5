package executor

import (
	"context"
	"slices"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// Log is what an attempt needs of the substrate. In production that is a
// [bus.Bus], whose methods say what each of these means; internal/sim has a model
// of it.
type Log interface {
	Record(ctx context.Context, opID string) (data []byte, found bool, err error)
	Entity(ctx context.Context, id string) (data []byte, found bool, err error)
	Report(ctx context.Context, partition int, data []byte) ([]byte, error)
	Policy(ctx context.Context) (data []byte, rev uint64, err error)
}

// World is what an attempt needs beside the log.
type World struct {
	// Now is this process' clock. It may be wrong, but must not run backwards.
	Now func() time.Time
	// Sleep waits, and returns the error of ctx when that ends first.
	Sleep func(ctx context.Context, d time.Duration) error
	// Go runs something beside the attempt.
	Go func(func())
}

// realWorld is the one outside.
func realWorld() World {
	return World{Now: time.Now, Sleep: bus.Sleep, Go: func(f func()) { go f() }}
}

// Solo makes attempts that are handed to it one by one: what [Run] does with a
// queue, timers and subscriptions, its caller does in an order of its own.
// internal/sim drives it.
//
// Attempts may overlap, as long as only one of them runs at a time: while one of
// them sleeps or waits for the log, others go on. Nothing here needs a goroutine
// unless the world starts one.
type Solo struct {
	e     *executor
	holds []*hold
	poll  time.Duration
}

// NewSolo returns an executor that has just started. Of cfg it uses the name, the
// logger, Concurrency, Handlers, Before, and what is counted; handlers in other
// languages cannot be asked. An attempt that runs beside its handler looks after
// it every poll.
func NewSolo(cfg Config, log Log, world World, poll time.Duration) (*Solo, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	s := &Solo{e: newExecutor(cfg, log, world), poll: poll}
	s.e.hear, s.e.stir = s.listen, s.stir
	return s, nil
}

// Attempt takes one work message to its end: run, report, acknowledge.
func (s *Solo) Attempt(ctx context.Context, m bus.WorkItem, received time.Time) {
	s.e.handlers <- struct{}{}
	s.e.attempt(ctx, m, received)
}

// Rumour passes an event of the public feed on to the attempts that listen.
func (s *Solo) Rumour(event []byte) {
	for _, h := range slices.Clone(s.holds) {
		h.rumour(event)
	}
}

func (s *Solo) listen(h *hold) (stop func()) {
	s.holds = append(s.holds, h)
	return func() { s.holds = slices.DeleteFunc(s.holds, func(o *hold) bool { return o == h }) }
}

// stir looks now and then whether something has happened, where [hold.stir]
// waits for it.
func (s *Solo) stir(h *hold, done <-chan outcome, answers <-chan pulse, d time.Duration) (o outcome, over bool) {
	_ = s.e.world.Sleep(h.ctx, min(max(d, 0), s.poll))
	select {
	case o := <-done:
		return o, true
	default:
	}
	if h.ctx.Err() != nil {
		return h.settle(done, nil), true
	}
	select {
	case p := <-answers:
		h.heard(p)
	default:
	}
	return outcome{}, false
}
