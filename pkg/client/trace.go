package client

import (
	"context"
	"sync"
	"time"

	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// TraceEntry is one event in a trace.
type TraceEntry struct {
	Timestamp   time.Time    `json:"timestamp"`
	EventType   op.EventName `json:"event_type"`
	EventID     string       `json:"event_id"`
	ProcessName string       `json:"process_name"` // the resolver that told it
	OpID        string       `json:"op_id,omitempty"`
	Target      string       `json:"target_entity_id,omitempty"`
}

// Trace keeps the last events in memory, for a look when something is odd. Its
// methods may be called from any goroutine.
type Trace struct {
	sub *Subscription

	mu   sync.Mutex
	ring []TraceEntry
	next int
	seen uint64
}

// Trace begins to keep the last capacity events that o selects, in the order of
// the feed, until ctx ends or [Trace.Stop]. With Since or FromSeq it begins with
// what was told before.
func (c *Client) Trace(ctx context.Context, capacity int, o WatchOptions) (*Trace, error) {
	if capacity < 1 {
		return nil, mistake("", op.CodeBadValue, "capacity", "a trace keeps at least one event, not %d", capacity)
	}
	t := &Trace{ring: make([]TraceEntry, 0, capacity)}
	var err error
	t.sub, err = c.subscribe(ctx, &o, []HandlerOption{Concurrency(1)}, func(_ context.Context, d *delivery) error {
		t.add(&d.event)
		return nil
	})
	return t, err
}

func (t *Trace) add(e *op.Event) {
	entry := TraceEntry{Timestamp: e.At, EventType: e.Name, EventID: e.ID, ProcessName: e.Process, OpID: e.OpID, Target: e.Target}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen++
	if len(t.ring) < cap(t.ring) {
		t.ring = append(t.ring, entry)
		return
	}
	t.ring[t.next] = entry
	t.next = (t.next + 1) % len(t.ring)
}

// Snapshot returns what is kept now, the oldest first, and how many events there
// were in all. The slice is the caller's.
func (t *Trace) Snapshot() (entries []TraceEntry, seen uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	entries = make([]TraceEntry, 0, len(t.ring))
	entries = append(append(entries, t.ring[t.next:]...), t.ring[:t.next]...)
	return entries, t.seen
}

// Stop ends the trace; what is kept stays. Calling it twice is fine.
func (t *Trace) Stop() { t.sub.Stop() }

// Err says why a trace ended by itself, nil otherwise.
func (t *Trace) Err() error { return t.sub.Err() }
