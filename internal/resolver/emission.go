package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/metrics"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// outputs is what follows from one committed step.
type outputs struct {
	step   uint64
	heads  []*nats.Msg // heads and work
	views  []*nats.Msg // records: told once the heads can be read
	events []*nats.Msg // events and follow-ups: told once the views can be read
	saved  *savedState // a snapshot to keep once all of this is told
	seq    uint64
}

// markEvery bounds how often the emission mark is written. The mark only saves
// work: what lies behind it is emitted again after a take-over.
const markEvery = 250 * time.Millisecond

// emission publishes the outputs of one partition in the order of its steps.
// Heads go before records and events, so that who was told can read.
type emission struct {
	bus     Log
	world   World
	id      int
	log     *slog.Logger
	metrics *metrics.Resolver
	out     Outbox
	queue   chan outputs
	ended   chan struct{}
	emitted atomic.Uint64 // last step whose outputs are acknowledged
	seq     uint64        // and its journal sequence
	marked  uint64
}

func newEmission(b Log, world World, id int, mark uint64, log *slog.Logger, m *metrics.Resolver) *emission {
	e := &emission{bus: b, world: world, id: id, log: log, metrics: m, out: b.Outbox(), queue: make(chan outputs, 256), ended: make(chan struct{}), marked: mark}
	e.emitted.Store(mark)
	return e
}

// run emits until the queue is closed and empty, or ctx ends.
func (e *emission) run(ctx context.Context) error {
	defer close(e.ended)
	idle := time.NewTicker(markEvery)
	defer idle.Stop()
	for {
		select {
		case out, ok := <-e.queue:
			if !ok {
				return e.mark(ctx)
			}
			if err := e.emitAll(ctx, out); err != nil {
				return err
			}
		case <-idle.C:
			if err := e.mark(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// emitAll emits first and whatever else has been committed meanwhile, with one
// wait for the acknowledgements of all.
func (e *emission) emitAll(ctx context.Context, first outputs) error {
	batch := []outputs{first}
	for len(batch) < 64 {
		select {
		case out, ok := <-e.queue:
			if !ok {
				return e.emit(ctx, batch...)
			}
			batch = append(batch, out)
			continue
		default:
		}
		break
	}
	return e.emit(ctx, batch...)
}

func (e *emission) emit(ctx context.Context, batch ...outputs) error {
	begun := time.Now()
	for _, part := range []func(*outputs) []*nats.Msg{
		func(o *outputs) []*nats.Msg { return o.heads },
		func(o *outputs) []*nats.Msg { return o.views },
		func(o *outputs) []*nats.Msg { return o.events },
	} {
		for i := range batch {
			e.out.At(batch[i].seq)
			for _, m := range part(&batch[i]) {
				e.out.Add(m)
			}
		}
		if err := e.out.Flush(ctx); err != nil {
			return fmt.Errorf("resolver: publish outputs: %w", err)
		}
	}
	e.metrics.EmitSeconds.Observe(time.Since(begun).Seconds())
	for i := range batch {
		e.emitted.Store(max(e.emitted.Load(), batch[i].step))
		e.seq = max(e.seq, batch[i].seq)
		if batch[i].saved != nil {
			if err := e.save(ctx, &batch[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// told waits until the outputs up to step are acknowledged.
func (e *emission) told(ctx context.Context, step uint64) error {
	for e.emitted.Load() < step {
		select {
		case <-e.ended:
			return errors.New("resolver: emission ended")
		default:
		}
		if err := e.world.Sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// mark records how far the outputs are told.
func (e *emission) mark(ctx context.Context) error {
	done := e.emitted.Load()
	if done == e.marked {
		return nil
	}
	// As a value of that step: of two values of one step the first one stays.
	e.out.At(e.seq)
	e.out.Add(bus.MarkMsg(e.id, done))
	if err := e.out.Flush(ctx); err != nil {
		return fmt.Errorf("resolver: publish the emission mark: %w", err)
	}
	e.marked = done
	return nil
}

// save keeps a snapshot. A take-over starts from it, so the mark must not lie
// before it. A snapshot that cannot be kept costs the next owner time and
// nothing else.
func (e *emission) save(ctx context.Context, out *outputs) error {
	if err := e.mark(ctx); err != nil {
		return err
	}
	data, err := op.Marshal(out.saved)
	if err == nil {
		err = e.bus.SaveSnapshot(ctx, e.id, out.step, out.seq, data)
	}
	if err != nil {
		e.log.Warn("snapshot not kept", "step", out.step, "error", err)
		return nil
	}
	e.metrics.Snapshots.Inc()
	return nil
}

// snapshotOf returns the partition's state for a take-over.
func (p *partition) snapshotOf() *savedState {
	return &savedState{State: p.machine.Snapshot(), Cursor: p.cursor, Seen: p.seen.clone(), Decisions: maps.Clone(p.decisions), Shared: maps.Clone(p.shared)}
}
