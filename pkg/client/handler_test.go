package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hierarchy-bus/hierarchy/internal/cluster"
	"github.com/hierarchy-bus/hierarchy/internal/natstest"
	"github.com/hierarchy-bus/hierarchy/pkg/client"
	"github.com/hierarchy-bus/hierarchy/pkg/op"
)

// lose has a LOW operation lose against a HIGH one on an entity that exists.
func lose(t *testing.T, c *client.Client, loser, winner, target string) {
	t.Helper()
	low, high := set(loser, target, "name", "low"), set(winner, target, "name", "high")
	low.Priority, high.Priority = op.Low, op.High
	low.Labels = map[string]string{"mine": "yes"}
	all := must[[]*client.Handle](t)(c.SubmitBatch(patient(t), []op.Operation{low, high}))
	if out := must[client.Outcome](t)(all[0].Await(patient(t))); !errors.Is(out.Err(), client.ErrLost) {
		t.Fatalf("%s did not lose: %+v", loser, out)
	}
}

// resubmitted waits for the operation that was submitted again for another.
func resubmitted(t *testing.T, c *client.Client, events func(func(op.Event, error) bool), of string) op.Operation {
	t.Helper()
	for e, err := range events {
		if err != nil {
			t.Fatal(err)
		}
		if o := must[op.Operation](t)(c.Operation(patient(t), e.OpID)); o.Labels[client.LabelResubmissionOf] == of {
			return o
		}
	}
	t.Fatal("the watch has ended")
	return op.Operation{}
}

func TestOnRejectedResubmits(t *testing.T) {
	_, c := system(t)
	do(t, c, create("", "user-1"))
	do(t, c, create("", "user-2"))
	calls := atomic.Int32{}
	s := must[*client.Subscription](t)(c.OnRejected(patient(t), client.Filter{Target: "user-1", Reasons: []op.Reason{op.LowerPriority}},
		func(ctx context.Context, r client.Rejection) client.Answer {
			calls.Add(1)
			if r.OpID != "loser" || r.Winner != "winner" || !errors.Is(r.Kind(), client.ErrLost) || r.RetryAfter() != 0 {
				t.Errorf("%+v", r)
			}
			o, err := r.Operation(ctx)
			if err != nil || !strings.Contains(string(o.Params), "low") || o.Priority != op.Low || client.Resubmissions(&o) != 0 {
				t.Errorf("%+v, %v", o, err)
			}
			return client.Resubmit(client.AtPriority(op.Critical), client.After(20*time.Millisecond),
				client.WithParams(map[string]any{"field_name": "name", "new_value": "again"}),
				client.Changed(func(o *op.Operation) { o.ID = "of no use" }))
		}))
	defer s.Stop()
	events := c.Watch(patient(t), client.WatchOptions{Target: "user-1", Pattern: "operation.completed"})
	lose(t, c, "not-ours", "w", "user-2")
	lose(t, c, "loser", "winner", "user-1")
	o := resubmitted(t, c, events, "loser")
	if o.ID == "loser" || o.ID == "of no use" || o.Priority != op.Critical || !strings.Contains(string(o.Params), "again") || o.RetryOf != "" ||
		o.Labels["mine"] != "yes" || client.Resubmissions(&o) != 1 {
		t.Errorf("%+v", o)
	}
	if v := must[client.Value](t)(c.Get(patient(t), "@user-1.name")); string(v.Raw) != `"again"` {
		t.Errorf("%s", v.Raw)
	}
	s.Stop()
	if calls.Load() != 1 || s.Err() != nil {
		t.Errorf("%d calls, %v", calls.Load(), s.Err())
	}
}

// An operation that loses again and again is not submitted for ever.
func TestResubmissionsEnd(t *testing.T) {
	_, c := system(t, policy(`{"paused":{"types":["delete_entity"]}}`))
	do(t, c, create("", "user-1"))
	rejected := make(chan op.Event, 16)
	s := must[*client.Subscription](t)(c.OnRejected(patient(t), client.Filter{Types: []string{op.TypeModifyField}}, func(_ context.Context, r client.Rejection) client.Answer {
		rejected <- r.Event
		return client.Resubmit(client.AtMost(2))
	}))
	defer s.Stop()
	stale := set("stale", "user-1", "n", 1)
	version := int64(7)
	stale.ExpectedVersion = &version
	if _, err := c.Do(patient(t), stale); !errors.Is(err, client.ErrStale) {
		t.Fatalf("%v", err)
	}
	var last op.Event
	for range 3 { // the first, and two resubmissions
		select {
		case last = <-rejected:
		case <-patient(t).Done():
			t.Fatal("too few")
		}
	}
	o := must[op.Operation](t)(c.Operation(patient(t), last.OpID))
	if client.Resubmissions(&o) != 2 {
		t.Errorf("%+v", o.Labels)
	}
	s.Stop() // whatever the third answer leads to has happened
	if n := len(rejected); n != 0 {
		t.Errorf("%d more", n)
	}
}

func TestOnConflict(t *testing.T) {
	_, c := system(t)
	do(t, c, create("", "user-1"))
	heard := make(chan client.Conflict, 1)
	s := must[*client.Subscription](t)(c.OnConflict(patient(t), client.Filter{}, func(_ context.Context, k client.Conflict) client.Answer {
		heard <- k
		return client.Instead(set("noted-"+k.OpID, "user-1", "conflicts", 1))
	}))
	defer s.Stop()
	events := c.Watch(patient(t), client.WatchOptions{Pattern: "operation.completed", Where: func(e *op.Event) bool { return e.OpID == "noted-winner" }})
	lose(t, c, "loser", "winner", "user-1")
	k := <-heard
	var ids []string
	for _, x := range k.Contenders {
		ids = append(ids, x.OpID)
	}
	if k.OpID != "winner" || k.Total != 2 || !slices.Contains(ids, "loser") || k.Target != "user-1" {
		t.Errorf("%+v", k)
	}
	for range events {
		break
	}
}

// lines is a log that a test can read.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A handler that panics is given the event again; it takes nothing down with it.
func TestAPanicIsContained(t *testing.T) {
	for _, name := range []string{"", "panics"} {
		t.Run("named "+name, func(t *testing.T) {
			sys, _ := system(t)
			log := &lines{}
			c := connect(t, sys, client.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
			calls, done := atomic.Int32{}, make(chan struct{})
			opts := []client.HandlerOption{client.Concurrency(2)}
			if name != "" {
				opts = append(opts, client.Named(name))
			}
			s := must[*client.Subscription](t)(c.On(patient(t), client.WatchOptions{Pattern: "entity.created"}, func(_ context.Context, e op.Event) error {
				if e.OpID == "good" {
					return nil
				}
				if calls.Add(1) == 2 {
					close(done)
					return nil
				}
				panic("at the first time")
			}, opts...))
			defer s.Stop()
			do(t, c, create("good", "user-1"))
			do(t, c, create("bad", "user-2"))
			select {
			case <-done:
			case <-patient(t).Done():
				t.Fatal("the event did not come again")
			}
			s.Stop()
			if calls.Load() != 2 || !strings.Contains(log.String(), "at the first time") || !strings.Contains(log.String(), "op_id=bad") {
				t.Errorf("%d calls, log %s", calls.Load(), log)
			}
		})
	}
}

// A name remembers where it was: what happens while nobody listens is told to the
// next one, and nothing twice.
func TestNamedHandlersGoOn(t *testing.T) {
	sys, c := system(t)
	var mu sync.Mutex
	heard := map[string]int{}
	news := make(chan struct{}, 100)
	subscribe := func(c *client.Client) *client.Subscription {
		t.Helper()
		return must[*client.Subscription](t)(c.On(patient(t), client.WatchOptions{Pattern: "entity.created"}, func(_ context.Context, e op.Event) error {
			mu.Lock()
			defer mu.Unlock()
			heard[e.OpID]++
			news <- struct{}{}
			return nil
		}, client.Named("desk")))
	}
	await := func(n int) {
		t.Helper()
		for range n {
			select {
			case <-news:
			case <-patient(t).Done():
				t.Fatalf("only %v were heard", heard)
			}
		}
	}
	told := c.Watch(patient(t), client.WatchOptions{Pattern: "entity.created"})
	do(t, c, create("before", "user-0"))
	for e, err := range told { // which may be after the end of the operation
		if err != nil || e.OpID != "before" {
			t.Fatal(e.OpID, err)
		}
		break
	}
	first := subscribe(c)
	do(t, c, create("a", "user-1"))
	await(1)
	first.Stop()
	for i := range 20 { // while nobody listens
		do(t, c, create(fmt.Sprint("b", i), fmt.Sprint("b-", i)))
	}
	others := []*client.Subscription{subscribe(connect(t, sys)), subscribe(connect(t, sys))} // share them
	do(t, c, create("c", "user-3"))
	await(21)
	for _, s := range others {
		s.Stop()
	}
	if len(heard) != 22 || heard["before"] != 0 || len(news) != 0 {
		t.Errorf("%v", heard)
	}
	for id, n := range heard {
		if n != 1 {
			t.Errorf("%s was told %d times", id, n)
		}
	}
	if err := c.Forget(patient(t), "desk"); err != nil {
		t.Fatal(err)
	}
	if err := c.Forget(patient(t), "desk"); err != nil {
		t.Errorf("forgetting twice: %v", err)
	}
	anew := subscribe(c)
	do(t, c, create("d", "user-4"))
	await(1)
	anew.Stop()
	if heard["d"] != 1 || len(heard) != 23 {
		t.Errorf("%v", heard)
	}
}

// A handler that somebody forgets while it is at work ends, and says why.
func TestForgottenAtWork(t *testing.T) {
	_, c := system(t)
	s := must[*client.Subscription](t)(c.On(patient(t), client.WatchOptions{}, func(context.Context, op.Event) error { return nil }, client.Named("gone")))
	if err := c.Forget(patient(t), "gone"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-patient(t).Done():
		t.Fatal("it goes on")
	}
	if !errors.Is(s.Err(), client.ErrNotFound) {
		t.Errorf("%v", s.Err())
	}
	if _, err := c.On(patient(t), client.WatchOptions{}, nil, client.Named("a.b")); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

// No more events are handled at once than there are places, and stopping waits for
// those at work.
func TestConcurrencyIsBounded(t *testing.T) {
	_, c := system(t)
	now, most, ended := atomic.Int32{}, atomic.Int32{}, atomic.Int32{}
	full, release := make(chan struct{}, 100), make(chan struct{})
	s := must[*client.Subscription](t)(c.On(patient(t), client.WatchOptions{Pattern: "entity.created"}, func(context.Context, op.Event) error {
		most.Store(max(most.Load(), now.Add(1)))
		full <- struct{}{}
		<-release
		now.Add(-1)
		ended.Add(1)
		return nil
	}, client.Concurrency(3)))
	for i := range 10 {
		do(t, c, create("", fmt.Sprint("user-", i)))
	}
	for range 3 {
		<-full
	}
	stopped := make(chan struct{})
	go func() { s.Stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Error("stopping does not wait")
	case <-full:
		t.Error("a fourth one")
	case release <- struct{}{}:
	}
	close(release)
	<-stopped
	if most.Load() > 3 || ended.Load() < 3 {
		t.Errorf("%d at once, %d ended", most.Load(), ended.Load())
	}
}

// An answer that the system has no room for is carried out later, once.
func TestAnAnswerWaitsForRoom(t *testing.T) {
	_, c := system(t, onePartition, policy(patience+`,"operation_queue_size":4,"window_by_prefix":{"now":"0s"}}`))
	ctx := patient(t)
	do(t, c, create("", "now-1"))
	s := must[*client.Subscription](t)(c.On(ctx, client.WatchOptions{}, func(context.Context, op.Event) error { return nil }))
	defer s.Stop()
	var all []*client.Handle
	for i := range 2 {
		all = append(all, must[*client.Handle](t)(c.Submit(ctx, create("", fmt.Sprint("later-", i)))))
	}
	for {
		if f := must[op.Forecast](t)(c.DryRun(ctx, create("", "x"))); f.Reason == op.Overloaded {
			break
		}
	}
	asked := make(chan struct{}, 10)
	r := must[*client.Subscription](t)(c.OnRejected(ctx, client.Filter{Since: time.Now().Add(-time.Hour)}, func(context.Context, client.Rejection) client.Answer {
		asked <- struct{}{}
		return client.Instead(create("instead", "now-2"))
	}))
	defer r.Stop()
	// Straight into the log, past the edge: the machine refuses what is invalid.
	if _, err := c.Conn().Request("ops.submit.now-1", []byte(`{"op_id":"bad","op_type":"modify_field","params":{}}`), longEnough); err != nil {
		t.Fatal(err)
	}
	<-asked
	for _, h := range all {
		if err := h.Cancel(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if out := must[op.Record](t)(record(ctx, c, "instead")); out.Target != "now-2" {
		t.Errorf("%+v", out)
	}
	if len(asked) != 0 {
		t.Error("the handler was asked again")
	}
}

func TestTrace(t *testing.T) {
	_, c := system(t)
	trace := must[*client.Trace](t)(c.Trace(patient(t), 3, client.WatchOptions{Pattern: "operation.completed"}))
	defer trace.Stop()
	for i := range 5 {
		do(t, c, create(fmt.Sprint("o", i), fmt.Sprint("user-", i)))
	}
	var entries []client.TraceEntry
	for seen := uint64(0); seen < 5; entries, seen = trace.Snapshot() {
	}
	if len(entries) != 3 || trace.Err() != nil {
		t.Fatalf("%+v", entries)
	}
	for i, e := range entries {
		if e.EventType != op.EventCompleted || e.EventID == "" || e.ProcessName == "" || e.Timestamp.IsZero() || i > 0 && e.EventID == entries[i-1].EventID {
			t.Errorf("%+v", e)
		}
	}
	if entries[2].OpID != "o4" || entries[0].OpID != "o2" {
		t.Errorf("%+v", entries)
	}
	trace.Stop()
	do(t, c, create("", "late"))
	if _, seen := trace.Snapshot(); seen != 5 {
		t.Errorf("%d after the end", seen)
	}
	if _, err := c.Trace(patient(t), 0, client.WatchOptions{}); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

// Handlers leave nothing behind, with a name or without, and neither in the middle
// of an answer that waits.
func TestHandlersLeaveNothing(t *testing.T) {
	_, c := system(t)
	do(t, c, create("", "user-1"))
	for range c.Watch(patient(t), client.WatchOptions{Since: time.Now().Add(-time.Hour)}) {
		break
	}
	before := goleak.IgnoreCurrent()
	for i, opts := range [][]client.HandlerOption{nil, {client.Named("leaves")}} {
		asked := make(chan struct{}, 10)
		s := must[*client.Subscription](t)(c.OnRejected(patient(t), client.Filter{}, func(context.Context, client.Rejection) client.Answer {
			asked <- struct{}{}
			return client.Resubmit(client.After(time.Hour))
		}, opts...))
		lose(t, c, fmt.Sprint("loser", i), fmt.Sprint("winner", i), "user-1")
		<-asked
		s.Stop()
	}
	if err := c.Forget(patient(t), "leaves"); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, before)
}

// An event that the system tells twice, as it may after a take-over, is one event.
func TestToldTwiceIsOnce(t *testing.T) {
	_, c := system(t)
	ctx := patient(t)
	watch := c.Watch(ctx, client.WatchOptions{Pattern: "entity.created"})
	var mu sync.Mutex
	heard := map[string]int{}
	news := make(chan string, 100)
	for _, opts := range [][]client.HandlerOption{nil, {client.Named("once")}} {
		s := must[*client.Subscription](t)(c.On(ctx, client.WatchOptions{Pattern: "entity.created"}, func(_ context.Context, e op.Event) error {
			mu.Lock()
			defer mu.Unlock()
			heard[e.ID]++
			news <- e.ID
			return nil
		}, append(opts, client.Concurrency(1))...))
		defer s.Stop()
	}
	tell := func(id string) {
		t.Helper()
		body := must[[]byte](t)(op.Marshal(op.Event{Type: op.EventType, Name: op.EventEntityCreated, ID: id, OpID: "x", Target: "user-1", Priority: op.Normal, Effective: op.Normal}))
		if _, err := c.Conn().Request("ops.event.entity.created.user-1", body, longEnough); err != nil { // without the id by which the server knows repeats
			t.Fatal(err)
		}
	}
	for _, id := range []string{"0-1-1", "0-1-1", "0-2-1", "0-1-1", "last"} {
		tell(id)
	}
	var told []string
	for e, err := range watch {
		if err != nil {
			t.Fatal(err)
		}
		if told = append(told, e.ID); e.ID == "last" {
			break
		}
	}
	if !slices.Equal(told, []string{"0-1-1", "0-2-1", "last"}) {
		t.Errorf("watched %v", told)
	}
	for last := 0; last < 2; {
		select {
		case id := <-news:
			if id == "last" {
				last++
			}
		case <-ctx.Done():
			t.Fatal(heard)
		}
	}
	for id, n := range heard {
		if n != 2 { // one for each handler
			t.Errorf("%s was handled %d times", id, n)
		}
	}
}

// An event that a process died over goes to another one of the same name.
func TestAnEventOutlivesItsHandler(t *testing.T) {
	natstest.Bubble(t, func(t *testing.T, dir string) {
		sys, err := cluster.Start(t.Context(), cluster.Options{StoreDir: dir, Port: cluster.NoListener, Layout: layout()})
		if err != nil {
			t.Fatal(err)
		}
		defer end(t, sys)
		dies, lives := connect(t, sys), connect(t, sys)
		taken, never := make(chan struct{}), make(chan struct{})
		first := must[*client.Subscription](t)(dies.On(t.Context(), client.WatchOptions{Pattern: "entity.created"}, func(context.Context, op.Event) error {
			close(taken)
			<-never
			return nil
		}, client.Named("desk")))
		began := time.Now()
		do(t, lives, create("a", "user-1"))
		<-taken
		dies.Conn().Close()
		heard := make(chan op.Event, 1)
		second := must[*client.Subscription](t)(lives.On(t.Context(), client.WatchOptions{Pattern: "entity.created"}, func(_ context.Context, e op.Event) error {
			heard <- e
			return nil
		}, client.Named("desk")))
		if e := <-heard; e.OpID != "a" || time.Since(began) > time.Minute {
			t.Errorf("%+v after %s", e, time.Since(began))
		}
		second.Stop()
		close(never)
		<-first.Done()
		if !errors.Is(first.Err(), client.ErrClosed) {
			t.Errorf("%v", first.Err())
		}
	})
}
