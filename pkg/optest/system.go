package optest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hierarchy-bus/hierarchy/internal/bus"
	"github.com/hierarchy-bus/hierarchy/internal/verify"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// patience is how long a helper waits before it fails the test: far longer than
// anything takes that is going to happen. In a bubble it is fake time.
const patience = 30 * time.Second

// System is a [Local] with what a test wants to ask. Its helpers fail the test
// where the answer is an error, or does not come for half a minute; they must be
// called from the goroutine of the test, as [testing.TB.FailNow] demands.
type System struct {
	*Local
	tb       testing.TB
	patience time.Duration
}

// Start starts a system that lives as long as the test.
func Start(tb testing.TB, opts ...Option) *System {
	tb.Helper()
	l, err := Open(context.WithoutCancel(tb.Context()), opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	return &System{Local: l, tb: tb, patience: patience}
}

// For is the same system with its helpers failing another test, such as a
// subtest.
func (s *System) For(tb testing.TB) *System {
	other := *s
	other.tb = tb
	return &other
}

// Within is the same system with helpers that wait this long.
func (s *System) Within(d time.Duration) *System {
	other := *s
	other.patience = d
	return &other
}

// ctx bounds one helper. A cleanup of the test may still use the system, when the
// test's own context has ended.
func (s *System) ctx() (context.Context, context.CancelFunc) {
	err := fmt.Errorf("optest: nothing for %s", s.patience)
	return context.WithTimeoutCause(context.WithoutCancel(s.tb.Context()), s.patience, err)
}

// Await waits for the end of an operation and returns its record.
func (s *System) Await(id string) op.Record {
	s.tb.Helper()
	return s.await(id, "its end", func(e *op.Event) bool {
		return e.Name == op.EventCompleted || e.Name == op.EventRejected || e.Name == op.EventCancelled
	})
}

// WaitFor waits until an operation is, or was, in a status, and returns its
// record of now. It fails at once when the operation ends otherwise.
func (s *System) WaitFor(id string, want op.Status) op.Record {
	s.tb.Helper()
	r := s.await(id, string(want), func(e *op.Event) bool { return e.Status == want || e.Status.Terminal() })
	if r.Status.Terminal() && r.Status != want && !s.was(id, want) {
		s.tb.Fatalf("optest: %s never was %s: it is %s", id, want, summary(&r))
	}
	return r
}

// was reports whether an event says that the operation came to a status.
func (s *System) was(id string, want op.Status) bool {
	for _, e := range s.tell.events() {
		if e.OpID == id && e.Status == want {
			return true
		}
	}
	return false
}

func (s *System) await(id, what string, match func(*op.Event) bool) op.Record {
	s.tb.Helper()
	ctx, cancel := s.ctx()
	defer cancel()
	_, _, err := s.tell.wait(ctx, 0, func(e *op.Event) bool { return e.OpID == id && match(e) })
	if err != nil {
		s.tb.Fatalf("optest: waiting for %s of %s: %v; it is %s", what, id, err, s.whereIs(id))
	}
	return s.Record(id)
}

// Record returns the record of an operation that was accepted.
func (s *System) Record(id string) op.Record {
	s.tb.Helper()
	ctx, cancel := s.ctx()
	defer cancel()
	r, found, err := s.record(ctx, id)
	if err != nil || !found {
		s.tb.Fatalf("optest: record of %s: found %v, error %v", id, found, err)
	}
	return r
}

func (l *Local) record(ctx context.Context, id string) (r op.Record, found bool, err error) {
	data, found, err := l.c.Bus().Record(ctx, id)
	if err != nil || !found {
		return r, found, err
	}
	return r, true, json.Unmarshal(data, &r)
}

// whereIs says in words where an operation is, for a test that fails.
func (s *System) whereIs(id string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	r, found, err := s.record(ctx, id)
	switch {
	case err != nil:
		return "unknown: " + err.Error()
	case found:
		return summary(&r)
	}
	for _, e := range s.tell.events() {
		if e.Name == op.EventInvalid && e.Detail != nil && (e.OpID == id || e.OpID == "") {
			return "not accepted: " + e.Detail.Error()
		}
	}
	return "not on record: nobody has submitted it"
}

// summary is a record in words.
func summary(r *op.Record) string {
	parts := []string{string(r.Status)}
	if r.Reason != "" {
		parts = append(parts, string(r.Reason))
	}
	if r.Winner != "" {
		parts = append(parts, "against "+r.Winner)
	}
	if r.Error != nil {
		parts = append(parts, "after the error "+r.Error.Message)
	}
	return strings.Join(parts, " ")
}

// Events returns every event that was told so far, in order. Those about an
// operation are complete when [System.Await] has returned; all are after
// [System.Quiesce].
func (s *System) Events() []op.Event { return s.tell.events() }

// WaitEvent returns the first event that matches, also one that was told before
// the call.
func (s *System) WaitEvent(match func(e op.Event) bool) op.Event {
	s.tb.Helper()
	ctx, cancel := s.ctx()
	defer cancel()
	e, n, err := s.tell.wait(ctx, 0, func(e *op.Event) bool { return match(*e) })
	if err != nil {
		s.tb.Fatalf("optest: waiting for an event: %v; none of %d matched", err, n)
	}
	return e
}

// Quiesce waits until nothing is under way: every operation that was accepted has
// ended, and every event is told.
func (s *System) Quiesce() {
	s.tb.Helper()
	s.settled(s.tb)
}

// Verify waits as [System.Quiesce] does and then checks the whole history: it
// recomputes every decision and every entity from the journal, compares the views
// with them, and reports each violation to tb.
func (s *System) Verify(tb testing.TB) {
	tb.Helper()
	r := s.settled(tb)
	for _, v := range r.Violations {
		tb.Errorf("optest: %s", v)
	}
	if n := r.Total - len(r.Violations); n > 0 {
		tb.Errorf("optest: and %d more violations", n)
	}
}

func (s *System) settled(tb testing.TB) *verify.Result {
	tb.Helper()
	ctx, cancel := s.Within(s.patience + patience).ctx() // to read the history takes its own time
	defer cancel()
	r, err := verify.Run(ctx, s.c.Bus(), verify.Options{Quiescent: true, Patience: s.patience})
	if err != nil {
		tb.Fatalf("optest: reading the history: %v", err)
	}
	if r.Open > 0 || len(r.Lagging) > 0 {
		tb.Fatalf("optest: after %s %d operations are still open, and partitions %v lag behind", s.patience, r.Open, r.Lagging)
	}
	feed, err := s.c.Bus().JetStream().Stream(ctx, bus.StreamEvents)
	if err == nil {
		err = s.tell.reach(ctx, feed.CachedInfo().State.LastSeq)
	}
	if err != nil {
		tb.Fatalf("optest: waiting for the events: %v", err)
	}
	return r
}
