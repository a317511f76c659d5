package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/entity"
	"github.com/hierarchy-bus/hierarchy/internal/executor"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// steadyType is a registered type whose handler takes its time and says now and
// then that it is alive.
const steadyType = "steady"

// worker is one executor process. It makes some attempts as those of built-in
// types are made, without a look at the clock, and others beside their handler,
// with heartbeats.
type worker struct {
	*process
	w       *world
	quick   *executor.Solo
	slow    *executor.Solo
	running int
}

// slots is how many attempts a worker has in hand at most.
const slots = 6

func (w *world) addWorker(name string) *worker {
	x := &worker{w: w}
	x.process = &process{k: w.k, name: name, begin: x.begin}
	return x
}

func (x *worker) begin() {
	x.running = 0
	cfg := executor.Config{
		Name: x.name, Logger: silence, Metrics: executorMetrics, Concurrency: 2 * slots,
		Handlers: map[string]executor.Handler{steadyType: x.steady},
	}
	log := &client{x.w.cluster}
	real := executor.World{Now: x.now, Sleep: x.sleep, Go: x.run}
	var errs [2]error
	x.quick, errs[0] = executor.NewSolo(cfg, log, real, 20*time.Millisecond)
	cfg.Before = x.before
	x.slow, errs[1] = executor.NewSolo(cfg, log, real, 20*time.Millisecond)
	if err := errors.Join(errs[:]...); err != nil {
		panic(err) // the configuration is ours
	}
	x.fetch()
}

// fetch asks the queue for work after a while.
func (x *worker) fetch() {
	scope := x.scope
	x.k.after(x.k.between(50*time.Microsecond, 2*time.Millisecond), func() {
		if !scope.dead && x.pausedUntil <= x.k.now && x.running < slots {
			x.pull()
		}
	})
}

// pull takes what is due from the queue.
func (x *worker) pull() {
	for x.running < slots {
		j := x.w.queue.next(x.k.now)
		if j == nil {
			return
		}
		x.running++
		x.scope.spawn(func(t *task) { x.attempt(j) })
	}
}

// attempt makes one attempt.
func (x *worker) attempt(j *job) {
	q := &x.w.queue
	delivery := j.delivered
	item := bus.WorkItem{
		Subject: j.m.subject, Data: j.m.data, Delivered: delivery,
		Ack:   func() { q.ack(j, delivery) },
		Nak:   func(d time.Duration) { q.nak(j, d) },
		Touch: func() { q.touch(j) },
	}
	solo := x.quick
	if x.k.chance(x.w.slowly) {
		solo = x.slow
	}
	solo.Attempt(context.Background(), item, x.now())
	x.running--
	x.fetch()
}

// before is what goes on in a handler before its effect is computed: it takes
// time, fails, or panics.
func (x *worker) before(w op.Work) error {
	k, t := x.k, x.k.current
	switch n := k.rng.IntN(100); {
	case n < 30:
	case n < 60:
		t.sleep(k.between(0, 200*time.Millisecond))
	case n < 70:
		t.sleep(k.between(0, 6*time.Second)) // beyond its lease, perhaps
	case n < 85 || w.Operation.Type == op.TypeFollowUp:
		return fmt.Errorf("attempt %d of %s went wrong", w.Attempt, w.Operation.ID)
	case n < 92:
		return &op.Failure{Code: "no_way", Message: "it cannot be done", Terminal: true}
	case n < 96:
		panic("a handler's mistake")
	}
	return nil
}

// steady takes several leases and tells that it is alive.
func (x *worker) steady(ctx context.Context, t *executor.Task) (*entity.Change, error) {
	for n := x.k.rng.IntN(20); n > 0; n-- {
		x.k.current.sleep(x.k.between(0, 800*time.Millisecond))
		if x.k.chance(950) {
			if err := t.Heartbeat(); err != nil {
				return nil, err
			}
		}
	}
	if t.Entity == nil {
		return &entity.Change{Kind: entity.Created, Note: "steadily"}, nil
	}
	return &entity.Change{Kind: entity.Noted, Note: "steadily"}, nil
}

// Report sends a report to whoever listens as an owner of the partition, and
// waits for the first answer.
func (c *client) Report(_ context.Context, partition int, data []byte) ([]byte, error) {
	t := c.k.current
	p := t.scope.proc
	c.maybeCrash(p, "report", "")
	c.k.trace.add(c.k.now, p.name, "reports", string(data[:min(len(data), 120)]), uint64(partition), digest(data))
	w := c.w
	heard := false
	var answer []byte
	send := func() {
		for _, s := range w.servers {
			if s.dead || s.reigns[partition] == nil {
				continue
			}
			if r := s.reigns[partition]; r.serving && !r.ended {
				heard = true
				w.deliverReport(r, data, func(a []byte) {
					if answer == nil && !c.k.chance(c.faults.Dropped) {
						answer = w.say(a)
						t.wake()
					}
				})
			}
		}
	}
	t.sleep(c.latency())
	send()
	if c.k.chance(c.faults.Twice) { // a copy that was under way for long
		c.stats.LateReports++
		c.k.after(c.k.between(0, 5*time.Second), send)
	}
	if !heard {
		t.sleep(c.latency())
		return nil, nats.ErrNoResponders
	}
	for until := c.k.now + c.k.between(time.Second, 4*time.Second); answer == nil && c.k.now < until; {
		t.wait(until - c.k.now)
	}
	if answer == nil {
		c.stats.Unanswered++
		return nil, nats.ErrTimeout
	}
	c.maybeCrash(p, "report, answered", "")
	w.check.told(data, answer)
	return answer, nil
}

// deliverReport hands a report to a process that may be paused.
func (w *world) deliverReport(r *reign, data []byte, reply func([]byte)) {
	if w.k.chance(w.faults.Dropped) {
		w.stats.Dropped++
		return
	}
	scope := r.scope
	var deliver func()
	deliver = func() {
		if scope.dead || r.scope != scope || r.ended {
			return
		}
		if r.s.pausedUntil > w.k.now {
			r.s.later(deliver)
			return
		}
		r.core.Report(r.ctx, slices.Clone(data), reply)
		r.main.wake()
	}
	w.k.after(w.k.between(0, 300*time.Microsecond), deliver)
}
