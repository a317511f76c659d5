// Package await follows many operations to their ends. It listens to the public
// events of terminal transitions, and when no news comes for a while it asks for
// the records of those that are still missing, so that an event that was never
// seen delays an answer but cannot lose it.
//
// Start a [Watch] before submitting, name the operations with [Watch.Expect] and
// wait with [Watch.Wait]. A watch believes only what the system says: an
// operation that was never accepted never ends.
package await

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// lull is how long no news may come before the records are asked.
const lull = 2 * time.Second

// readers bounds the concurrent reads of records.
const readers = 16

// End is how an operation ended.
type End struct {
	OpID   string
	Status op.Status // a terminal one
	Reason op.Reason
	Winner string
	Error  *op.Failure
	At     time.Time // of the terminal transition
}

// Counts sums up what is known.
type Counts struct {
	Expected, Succeeded, Rejected, Cancelled int
}

// Open is the number of operations without an end.
func (c Counts) Open() int { return c.Expected - c.Succeeded - c.Rejected - c.Cancelled }

// Watch collects ends. Its methods may be called from any goroutine.
type Watch struct {
	bus  *bus.Bus
	stop context.CancelFunc
	done chan struct{} // the listener has ended
	err  error         // why, once done is closed

	mu    sync.Mutex
	open  map[string]struct{}
	ends  map[string]End
	early map[string]End // ends that came before their operation was expected
	count Counts
	news  chan struct{} // one pending notice is enough
}

// Start begins to listen. Ends that happen after it returns are not missed. The
// watch lives until [Watch.Stop] or the end of ctx.
func Start(ctx context.Context, b *bus.Bus) *Watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &Watch{
		bus: b, stop: cancel, done: make(chan struct{}), news: make(chan struct{}, 1),
		open: map[string]struct{}{}, ends: map[string]End{}, early: map[string]End{},
	}
	// The consumer is created by the goroutine below, maybe after the first
	// operation has ended. The start a little in the past covers that, and the
	// records cover a clock that is off by more.
	q := bus.EventQuery{
		Since: time.Now().Add(-2 * time.Second),
		Subjects: []string{
			bus.EventFilter(string(op.EventCompleted), ""),
			bus.EventFilter(string(op.EventRejected), ""),
			bus.EventFilter(string(op.EventCancelled), ""),
		},
	}
	go func() {
		defer close(w.done)
		for m, err := range b.Events(ctx, q) {
			if err != nil {
				w.err = err
				return
			}
			w.event(m.Data)
		}
	}()
	return w
}

// Stop ends the listening and waits for it.
func (w *Watch) Stop() {
	w.stop()
	<-w.done
}

// Expect names operations to wait for. Naming one twice is naming it once.
func (w *Watch) Expect(ids ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		if _, known := w.ends[id]; known {
			continue
		}
		if _, known := w.open[id]; known {
			continue
		}
		w.count.Expected++
		w.open[id] = struct{}{}
		if e, ok := w.early[id]; ok {
			delete(w.early, id)
			w.end(e)
		}
	}
}

// Counts returns what is known now.
func (w *Watch) Counts() Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

// End returns the end of an operation, if it is known.
func (w *Watch) End(id string) (End, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, ok := w.ends[id]
	return e, ok
}

// Open returns the ids of the operations without an end, sorted.
func (w *Watch) Open() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.open))
}

// Reasons counts the operations that did not succeed by reason.
func (w *Watch) Reasons() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := map[string]int{}
	for _, e := range w.ends {
		if e.Status != op.Succeeded {
			n[string(e.Reason)]++
		}
	}
	return n
}

// Wait returns when every expected operation has ended. It returns the error of
// ctx when that ends first, and another one when the system cannot be asked.
func (w *Watch) Wait(ctx context.Context) error {
	quiet := time.NewTimer(lull)
	defer quiet.Stop()
	listener := w.done
	for w.Counts().Open() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.news:
			quiet.Reset(lull)
		case <-listener:
			if w.err != nil && !errors.Is(w.err, context.Canceled) {
				return fmt.Errorf("await: events: %w", w.err)
			}
			listener = nil // the records will do
		case <-quiet.C:
			if err := w.settle(ctx); err != nil {
				return err
			}
			quiet.Reset(lull)
		}
	}
	return nil
}

// terminalEvents are the events that end an operation.
var terminalEvents = map[op.EventName]op.Status{
	op.EventCompleted: op.Succeeded,
	op.EventRejected:  op.Rejected,
	op.EventCancelled: op.Cancelled,
}

// event takes the body of a terminal event.
func (w *Watch) event(data []byte) {
	var e op.Event
	if json.Unmarshal(data, &e) != nil || e.OpID == "" {
		return
	}
	status, terminal := terminalEvents[e.Name]
	if !terminal {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	end := End{OpID: e.OpID, Status: status, Reason: e.Reason, Winner: e.Winner, Error: e.Error, At: e.At}
	if _, expected := w.open[e.OpID]; expected {
		w.end(end)
	} else if _, known := w.ends[e.OpID]; !known && len(w.early) < maxEarly {
		w.early[e.OpID] = end
	}
}

// maxEarly bounds what is kept of operations that nobody has asked about, most
// of them other people's.
const maxEarly = 100_000

// end records an end. The lock is held.
func (w *Watch) end(e End) {
	if _, open := w.open[e.OpID]; !open {
		return
	}
	delete(w.open, e.OpID)
	w.ends[e.OpID] = e
	switch e.Status {
	case op.Succeeded:
		w.count.Succeeded++
	case op.Rejected:
		w.count.Rejected++
	case op.Cancelled:
		w.count.Cancelled++
	case op.Pending, op.Executing, op.Failed: // not ends
	}
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// settle asks for the records of the operations that are missing.
func (w *Watch) settle(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for _, id := range w.Open() {
		g.Go(func() error {
			data, found, err := w.bus.Record(ctx, id)
			if err != nil {
				return fmt.Errorf("await: record of %s: %w", id, err)
			}
			var r op.Record
			if !found || json.Unmarshal(data, &r) != nil || !r.Status.Terminal() {
				return nil
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.end(End{OpID: id, Status: r.Status, Reason: r.Reason, Winner: r.Winner, Error: r.Error, At: r.UpdatedAt})
			return nil
		})
	}
	return g.Wait()
}
