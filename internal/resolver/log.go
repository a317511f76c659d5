package resolver

import (
	"context"
	"iter"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
)

// Log is what the owner of a partition needs of the substrate while it decides.
// In production that is a [bus.Bus], whose methods say what each of these means;
// internal/sim has a model of it, with every fault that the real one knows.
type Log interface {
	Layout() bus.Layout

	JournalLast(ctx context.Context, partition int) (e bus.Entry, ok bool, err error)
	JournalAppend(ctx context.Context, partition int, id string, data []byte, expected uint64) (seq uint64, out bus.Outcome, err error)
	JournalRead(ctx context.Context, partition int, afterSeq uint64) iter.Seq2[bus.Entry, error]

	Mark(ctx context.Context, partition int) (step uint64, err error)
	LoadSnapshot(ctx context.Context, partition int) (step, journalSeq uint64, data []byte, ok bool, err error)
	SaveSnapshot(ctx context.Context, partition int, step, journalSeq uint64, data []byte) error

	LastIntake(ctx context.Context, partition int) (uint64, error)
	IntakeEnd(ctx context.Context) (uint64, error)
	TrimIntake(ctx context.Context, partition int, upTo uint64) error

	Entity(ctx context.Context, id string) (data []byte, found bool, err error)
	Record(ctx context.Context, opID string) (data []byte, found bool, err error)

	Publish(ctx context.Context, subject string, body []byte, msgID string, hdr nats.Header) (bus.Ack, error)
	PublishLoad(l bus.Load) error
	ControlMsg(partition int, id string, what bus.Control) (*nats.Msg, error)
	Outbox() Outbox
}

// Outbox publishes the outputs of committed steps; see [bus.Emitter].
type Outbox interface {
	At(journalSeq uint64)
	Add(m *nats.Msg)
	Flush(ctx context.Context) error
	Close()
}

// onBus is the log of a real server.
type onBus struct{ *bus.Bus }

// Outbox returns an emitter of its own.
func (b onBus) Outbox() Outbox { return b.NewEmitter() }

// World is what a partition needs beside the log. All that it decides is a
// function of the log, of what arrives, and of these.
type World struct {
	// Now is this process' clock. It may be wrong, but must not run backwards.
	Now func() time.Time
	// NewID draws an id that nobody else has.
	NewID func() string
	// Sleep waits, and returns the error of ctx when that ends first.
	Sleep func(ctx context.Context, d time.Duration) error
	// Go runs something beside the partition.
	Go func(func())
	// Readers is how many reads may be under way at once; 1 means that they are
	// made one after the other, in the goroutine of the partition.
	Readers int
}

// realWorld is the one outside.
func realWorld() World {
	return World{Now: time.Now, NewID: uuid.NewString, Sleep: bus.Sleep, Go: func(f func()) { go f() }, Readers: 32}
}

// each calls f with 0 to n-1, as many at once as there are readers, until one of
// them fails.
func (w *World) each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	if w.Readers <= 1 || n == 1 {
		for i := range n {
			if err := f(ctx, i); err != nil {
				return err
			}
		}
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(w.Readers)
	for i := range n {
		g.Go(func() error { return f(ctx, i) })
	}
	return g.Wait()
}
